"""Seeded chance: draws that depend on nothing but their labels, so that any part of the demo can be run alone and again."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import cos, exp, log, pi, sqrt
from typing import TypeVar

T = TypeVar("T")
_EIGHT = struct.Struct("<8Q")
_SPAN = float(2**64)


class Draws:
    """An endless stream of draws for one list of labels; the same labels give the same stream on every machine."""

    __slots__ = ("_block", "_label", "_left")

    def __init__(self, *labels: object) -> None:
        self._label = "\x1f".join(map(str, labels)).encode()
        self._block = 0
        self._left: list[int] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high)."""
        if not self._left:
            digest = blake2b(self._label, digest_size=64, salt=self._block.to_bytes(8, "little")).digest()
            self._left = list(_EIGHT.unpack(digest))
            self._block += 1
        return low + (high - low) * (self._left.pop() / _SPAN)

    def happens(self, share: float) -> bool:
        """True in this share of all labels."""
        return self.uniform() < share

    def whole(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[int(self.uniform() * len(choices))]

    def weighted(self, choices: Mapping[T, float]) -> T:
        """One of the keys, by weight."""
        left = self.uniform(0, sum(choices.values()))
        for choice, weight in choices.items():
            left -= weight
            if left < 0:
                return choice
        return choice

    def spread(self, sigma: float) -> float:
        """A factor around 1 with median 1: lognormal, as waiting times are."""
        normal = sqrt(-2 * log(1 - self.uniform())) * cos(2 * pi * self.uniform())
        return exp(sigma * normal)


def identity(prefix: str, *labels: object, size: int = 12) -> str:
    """A stable id: the prefix and 2 × `size` hex digits that depend on the labels only."""
    return prefix + blake2b("\x1f".join(map(str, labels)).encode(), digest_size=size).hexdigest()
