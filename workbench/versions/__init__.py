"""Which exact thing is this? Content-addressed bundles, their registry and their differences."""
