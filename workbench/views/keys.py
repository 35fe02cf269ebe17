"""API keys as text: whose they are; the key itself only at the moment it is made."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ownership.keys import ApiKey, NewKey
from workbench.views.tables import WIDTH, rows_text, shown


def new_key_text(made: NewKey) -> str:
    """The key, and what its holder needs to know: it is not shown again."""
    key = made.key
    lines = (
        f"key {key.key_id} opens {key.app}; {key.person} answers for it",
        "",
        f"    {made.text}",
        "",
        "It is shown this once and stored nowhere: put it where the application reads its secrets.",
        f"To end it: workbench key revoke {key.key_id}",
    )
    return shown("\n".join(lines))


def keys_text(keys: Sequence[ApiKey], *, width: int = WIDTH) -> str:
    """One line per key, in the order given."""
    rows = [
        {
            "key": key.key_id,
            "app": key.app,
            "person": key.person,
            "label": key.label or None,
            "made": key.created_at,
            "by": key.created_by,
            "revoked": key.revoked_at,
            "revoked by": key.revoked_by,
        }
        for key in keys
    ]
    return rows_text(rows, empty="no keys; `workbench key create APP --person PERSON` makes one", width=width)


def revoked_text(key: ApiKey) -> str:
    """What a revocation did."""
    return shown(f"key {key.key_id} of {key.app} is revoked; running gateways refuse it within two seconds")
