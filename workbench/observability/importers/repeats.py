"""Which request ids a file has had already, and whether the record was the same. Sixteen bytes a record, however long the file."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

_Pairs = NDArray[np.int64]


class Repeat(Enum):
    """What a record is whose id the file had before."""

    SAME = "same"
    CONFLICT = "conflict"
    """The id stood on another record."""


class Repeats:
    """The ids of one file, in one run."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._older: list[tuple[_Pairs, _Pairs]] = []

    def judge(self, request_ids: Sequence[str], contents: Sequence[int]) -> dict[int, Repeat]:
        """Which of the records, by their place here, repeat an earlier one; the ids of the others are remembered.

        Args:
            contents: hash of each record, the same for the same record within a run.
        """
        keys = [hash(request_id) for request_id in request_ids]
        known = self._known(keys)
        if not known and len(set(keys)) == len(keys):
            self._recent.update(zip(keys, contents, strict=True))
            return {}
        repeats = {}
        for place, (key, content) in enumerate(zip(keys, contents, strict=True)):
            if key in known:
                repeats[place] = Repeat.SAME if known[key] == content else Repeat.CONFLICT
            else:
                known[key] = self._recent[key] = content
        return repeats

    def had(self, request_ids: Sequence[str]) -> list[bool]:
        """Whether the file had each of the ids; nothing is remembered."""
        keys = [hash(request_id) for request_id in request_ids]
        known = self._known(keys)
        return [key in known for key in keys]

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

    def _known(self, keys: Sequence[int]) -> dict[int, int]:
        """Those of the keys that are remembered, with their content."""
        recent = self._recent
        found = {key: recent[key] for key in recent.keys() & keys}
        wanted = np.fromiter(keys, np.int64, len(keys))
        for packed, contents in self._older:
            places = np.searchsorted(packed, wanted).clip(max=len(packed) - 1)
            hits = places[packed[places] == wanted]
            found.update(zip(packed[hits].tolist(), contents[hits].tolist(), strict=True))
        return found
