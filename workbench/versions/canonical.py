"""Canonical JSON and digests, as the whole workbench uses them; they live in the ledger, whose chain needs them too."""

from workbench.ledger.canonical import JSON, canonical_json, digest, read_canonical

__all__ = ["JSON", "canonical_json", "digest", "read_canonical"]
