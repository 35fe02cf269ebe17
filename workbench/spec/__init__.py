"""What people write down: app, people, bundle, gates, plan, rota, objectives, metrics, scorers. `loading` reads them with exact errors."""
