"""What do the numbers say? Intervals and paired tests: pure functions with their sources."""
