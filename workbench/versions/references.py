"""Which bundle a person means by an id, the start of a digest, or a name. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workbench.errors import UnknownSubject, UsageError
from workbench.versions.model import Bundle

_MIN_HEX = 8
_HEX = re.compile(rf"[0-9a-f]{{{_MIN_HEX},64}}")


def find(reference: str, bundles: Sequence[Bundle], *, app: str | None = None) -> Bundle:
    """The one bundle that the reference names.

    Args:
        reference: `support@1a2b3c4d5e6f`, the start of the digest (8 hex digits or more, also after `app@` or `sha256:`),
            or a name (`v1`, `support@v1`).
        bundles: among these.
        app: the app they were looked up for; for the message.

    Raises:
        UnknownSubject: when it names none.
        UsageError: when it names several.
    """
    meant = [bundle for bundle in bundles if _is_meant(reference, bundle)]
    if len(meant) == 1:
        return meant[0]
    subject = f"bundle {reference}"
    if not meant:
        where = f" of app {app}" if app else ""
        known = ", ".join(f"{bundle.bundle_id} ({bundle.name})" for bundle in bundles[-5:]) or "none"
        raise UnknownSubject(
            subject,
            seen=f"no registered bundle{where} has this id, digest or name; newest: {known}",
            needed=f"an id, at least {_MIN_HEX} hex digits of a digest, or a name",
            next_step="see `workbench bundle list`",
        )
    options = ", ".join(f"{bundle.bundle_id} ({bundle.name})" for bundle in meant)
    raise UsageError(subject, seen=f"it may mean {options}", needed="one bundle", next_step="name it by its id")


def _is_meant(reference: str, bundle: Bundle) -> bool:
    if reference in (bundle.bundle_id, bundle.name, f"{bundle.app}@{bundle.name}", bundle.digest):
        return True
    app, at, start = reference.rpartition("@")
    is_prefix = bool(_HEX.fullmatch(start.removeprefix("sha256:"))) and (not at or app == bundle.app)
    return is_prefix and bundle.digest.startswith(f"sha256:{start.removeprefix('sha256:')}")
