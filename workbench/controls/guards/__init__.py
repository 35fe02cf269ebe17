"""Guards: what a request may not ask, a tool may not be told and an answer may not say. Rules live in the bundle's policy."""
