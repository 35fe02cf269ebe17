"""The ledger's revisions, run by `ledger.schema` when a ledger is opened."""
