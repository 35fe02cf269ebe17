"""The embedded demo: a fictional shop's support assistant, its customers and its story."""
