"""The last good answers of a process: what a request got before, for the time when no model answers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from workbench.controls.events import Completion

MOST = 512
"""Answers that are kept."""
LARGEST = 65_536
"""Characters of an answer that is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """An answer from before."""

    completion: Completion
    age_s: float


@dataclass(frozen=True, slots=True)
class _Kept:
    completion: Completion
    at_s: float


class LastGoodAnswers:
    """Complete answers without tool calls, by bundle and request; the oldest make room. Threads share it, and it dies with the process.

    Args:
        most: answers that are kept.
        monotonic: time in seconds.
    """

    def __init__(self, *, most: int = MOST, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._changing = threading.Lock()

    def keep(self, bundle_id: str, request: Mapping[str, Any], completion: Completion) -> None:
        """Remember the answer, when it is one that may be given again."""
        if not _may_be_given_again(completion):
            return
        key = (bundle_id, conversation_digest(request))
        with self._changing:
            self._kept[key] = _Kept(completion, self._monotonic())
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def find(self, bundle_id: str, request: Mapping[str, Any], *, max_age_s: float) -> LastGood | None:
        """What the same bundle answered to the same request, when that is not too long ago."""
        kept = self._kept.get((bundle_id, conversation_digest(request)))
        age_s = 0.0 if kept is None else self._monotonic() - kept.at_s
        return None if kept is None or age_s > max_age_s else LastGood(completion=kept.completion, age_s=age_s)

    def clear(self) -> None:
        """Forget all of them, as an erasure demands."""
        with self._changing:
            self._kept.clear()


def conversation_digest(request: Mapping[str, Any]) -> str:
    """A digest of all that the request says, its user included: no one gets what was said to somebody else."""
    said = {name: value for name, value in request.items() if name not in ("stream", "stream_options")}
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _may_be_given_again(completion: Completion) -> bool:
    is_plain = all(choice.content and not choice.tool_calls and choice.finish_reason == "stop" for choice in completion.choices)
    return is_plain and sum(len(choice.content or "") for choice in completion.choices) <= LARGEST
