"""An assembled request as a row of the log. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from workbench.observability.otlp.assembly import Assembled, Row
from workbench.observability.otlp.messages import compact
from workbench.observability.redaction import REDACTION_VERSION

_HOUR = timedelta(hours=1)
_BODIES = ("input", "output")


def request_row(request: Assembled, *, revision: int, is_final: bool) -> Row:
    """The request as it is stored, when its spans are sealed.

    A bundle that is no id of the app's is left out: names mean something in a workspace only, and no key speaks for another app's bundles.
    """
    row = {**request.row, "revision": revision, "is_final": is_final, "unit_hash": request.unit, "redaction_version": REDACTION_VERSION}
    for name in _BODIES:
        row[name] = None if row[name] is None else compact(row[name])
    if row.get("bundle") is not None and not re.fullmatch(rf"{re.escape(row['app'])}@[0-9a-f]{{12}}", row["bundle"], re.ASCII):
        row["bundle"] = None
    return row


def in_hour_of(first: datetime, start: datetime) -> datetime:
    """The start of a later revision: in the hour of the first one, so that nobody who reads the log hour by hour counts both."""
    hour = first.replace(minute=0, second=0, microsecond=0)
    return min(max(start, hour), hour + _HOUR - timedelta(microseconds=1))
