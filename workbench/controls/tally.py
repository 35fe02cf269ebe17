"""Counts of what a process serves; threads share them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted since the start."""

    in_flight: int
    served: Mapping[str, int]
    """By arm."""
    no_unit: int
    refused: Mapping[str, int]
    """By code."""


class Tally:
    """How many calls are being answered, were answered, were refused."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._in_flight = 0
        self._served: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._no_unit = 0

    def enter(self, most: int) -> bool:
        """Count a call in, unless `most` are being answered already."""
        with self._changing:
            if self._in_flight >= most:
                return False
            self._in_flight += 1
            return True

    def leave(self) -> None:
        """Count a call out that came in."""
        with self._changing:
            self._in_flight -= 1

    def serve(self, arm: str, *, has_unit: bool) -> None:
        """Count an answer."""
        with self._changing:
            self._served[arm] += 1
            self._no_unit += not has_unit

    def refuse(self, code: str) -> None:
        """Count a refusal."""
        with self._changing:
            self._refused[code] += 1

    def counts(self) -> Counts:
        """All counts, of one moment."""
        with self._changing:
            return Counts(in_flight=self._in_flight, served=dict(self._served), no_unit=self._no_unit, refused=dict(self._refused))
