"""What happened? The log lake, the importers and the metric catalogue."""
