"""When the observations under a number happened: the first, the last, and how far back the newest ones reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, takewhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """When one side's observations happened; nothing is known of a side without any."""

    first: datetime | None = None
    last: datetime | None = None
    units: int = 0
    """How many units were observed; a request without one counts as its own."""
    newest: Mapping[int, datetime] = field(default_factory=dict)
    """Rank to when the unit of that rank was last observed, newest first; the oldest unit's time where there are fewer."""


def ranks(min_n: int) -> tuple[int, ...]:
    """The ranks at which a record keeps the age of its newest units: `min_n`, and below it enough to say about how many are recent.

    >>> ranks(100), ranks(30), ranks(1)
    ((1, 2, 5, 10, 20, 50, 100), (1, 2, 5, 10, 20, 30), (1,))
    """
    ladder = (step * 10**power for power in count() for step in (1, 2, 5))
    return (*takewhile(lambda rank: rank < min_n, ladder), min_n)
