"""Microsoft's Presidio as a guard, in processes of its own: it takes much time and memory, and neither may be that of other calls."""

from __future__ import annotations

import asyncio
import multiprocessing
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing.pool import Pool
from typing import Any

from workbench.controls.clock import Clock
from workbench.controls.guards.matches import Match, Rule
from workbench.controls.guards.model import Action, Stage
from workbench.controls.guards.slow import BadVerdict, Verdict
from workbench.errors import UsageError
from workbench.spec.guards import Presidio

_PROCESSES = 2
_MOST_TEXTS = 2000
"""After so many texts a process is replaced: its memory grows."""
_NUMBERS = 3


class PresidioGuard:
    """Finds names, places and whatever else Presidio knows.

    Args:
        spec: what to look for, and what is ordered for it.
        subject: what errors are about.

    Raises:
        UsageError: Presidio is not installed here.
    """

    rule_id = "presidio"

    def __init__(self, spec: Presidio, *, subject: str) -> None:
        if find_spec("presidio_analyzer") is None:
            raise UsageError(
                subject,
                seen="its guards use Presidio, which is not installed",
                needed="the extra `presidio`",
                next_step='pip install "readiness-workbench[presidio]"',
            )
        self.stages = frozenset(Stage(stage) for stage in spec.stages)
        self.on_error = Action(spec.on_error)
        self.timeout_s = spec.timeout.total_seconds()
        self.redacts = spec.action == "redact"
        self._asked = (spec.language, tuple(spec.entities), spec.least_score)
        self._rules = {
            entity: Rule(rule_id=f"presidio.{entity.lower()}", action=Action(spec.action), label=f"{entity.lower()} removed")
            for entity in spec.entities
        }
        self._pool: Pool | None = None
        self._ending: weakref.finalize[[Pool], PresidioGuard] | None = None

    async def check(self, text: str, clock: Clock) -> Verdict:
        begun_s = clock.now()
        try:
            found = await self._analysed(text)
        except asyncio.CancelledError:
            if clock.now() - begun_s >= self.timeout_s:  # it may take for ever; a caller who left says nothing of that
                self.close()
            raise
        return Verdict(matches=tuple(self._match(item, len(text)) for item in found))

    def close(self) -> None:
        """End the processes; the next text starts new ones."""
        if self._ending is not None:
            self._ending()
        self._pool = self._ending = None

    async def _analysed(self, text: str) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[Any]] = loop.create_future()

        def settle(result: Sequence[Any] | BaseException) -> None:
            if answer.done():
                return
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def tell(result: Sequence[Any] | BaseException) -> None:
            loop.call_soon_threadsafe(settle, result)

        self._running().apply_async(_analyse, (text, *self._asked), callback=tell, error_callback=tell)
        return await answer

    def _running(self) -> Pool:
        if self._pool is None:
            self._pool = multiprocessing.get_context("spawn").Pool(_PROCESSES, maxtasksperchild=_MOST_TEXTS)
            self._ending = weakref.finalize(self, _end, self._pool)
        return self._pool

    def _match(self, item: Any, length: int) -> Match:
        if not isinstance(item, tuple) or len(item) != _NUMBERS:
            raise BadVerdict
        start, end, entity = item
        if entity not in self._rules or not 0 <= start < end <= length:
            raise BadVerdict
        return Match(start, end, self._rules[entity])


def _end(pool: Pool) -> None:
    pool.terminate()
    pool.join()


@lru_cache(maxsize=1)
def _engine() -> Any:
    from presidio_analyzer import AnalyzerEngine  # noqa: PLC0415 - only in processes of its own

    return AnalyzerEngine()


def _analyse(text: str, language: str, entities: Sequence[str], least_score: float) -> list[tuple[int, int, str]]:
    """Start, end and kind of everything that Presidio finds."""
    asked: Mapping[str, Any] = {"text": text, "language": language, "entities": list(entities), "score_threshold": least_score}
    return [(item.start, item.end, item.entity_type) for item in _engine().analyze(**asked)]
