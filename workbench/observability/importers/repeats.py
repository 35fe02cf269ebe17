"""Which request ids a file has had already, and whether the record was the same. Sixteen bytes a record, however long the file."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

_Pairs = NDArray[np.int64]


class Repeat(Enum):
    """What a record is to the records before it."""

    NEW = "new"
    SAME = "same"
    CONFLICT = "conflict"
    """The id stood on another record."""


class Repeats:
    """The ids of one file, in one run."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._older: list[tuple[_Pairs, _Pairs]] = []

    def judge(self, request_id: str, content: int) -> Repeat:
        """What the record is; the id is remembered.

        Args:
            content: hash of the record, the same for the same record within a run.
        """
        key = hash(request_id)
        known = self._recent.get(key)
        if known is None and self._older:
            known = self._in_older(key)
        if known is None:
            self._recent[key] = content
            return Repeat.NEW
        return Repeat.SAME if known == content else Repeat.CONFLICT

    def compact(self) -> None:
        """Pack what was remembered since the last call. Sorted runs of similar size are merged, so few are searched."""
        if not self._recent:
            return
        keys = np.fromiter(self._recent.keys(), np.int64, len(self._recent))
        contents = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        self._recent = {}
        while self._older and len(self._older[-1][0]) <= 2 * len(keys):
            other_keys, other_contents = self._older.pop()
            keys, contents = np.concatenate([other_keys, keys]), np.concatenate([other_contents, contents])
        order = np.argsort(keys, kind="stable")
        self._older.append((keys[order], contents[order]))

    def _in_older(self, key: int) -> int | None:
        for keys, contents in self._older:
            index = int(np.searchsorted(keys, key))
            if index < len(keys) and keys[index] == key:
                return int(contents[index])
        return None
