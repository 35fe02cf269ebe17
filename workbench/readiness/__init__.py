"""May it go? Evidence, gates, anti-patterns and the review."""
