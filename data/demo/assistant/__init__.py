"""The shop's support assistant. Standard library only; every file here is part of each bundle, by content."""
