"""The bundles that the routes name, loaded: one thread loads, requests find them in memory or wait for theirs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from workbench.controls.modules import forget_modules
from workbench.controls.serving import Serving
from workbench.errors import IntegrityError, WorkbenchError

_LOG = logging.getLogger(__name__)
RETRY_S = 15.0
"""After that long a bundle that could not be loaded is tried again."""
LINGER_S = 600.0
"""For so long a bundle stays when no route names it any more: calls of a moment ago still run on it, and a rollback finds it loaded."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A bundle that is loaded, on its way, or failed."""

    future: Future[Serving]
    since: float
    """When its loading was asked for."""
    named_at: float
    """When a route last named it."""


class Shelf:
    """Loaded bundles by id.

    Args:
        load: makes a bundle ready to answer; runs on the shelf's own thread.
        forget: lets go of what loading a bundle left in the process; runs there too, so that it is over before the bundle is loaded anew.
        monotonic: the machine's time, in seconds.
    """

    def __init__(
        self,
        load: Callable[[str], Serving],
        *,
        forget: Callable[[str], None] = forget_modules,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._forget = forget
        self._monotonic = monotonic
        self._places: Mapping[str, _Place] = {}
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bundles")

    def keep(self, bundle_ids: Collection[str]) -> None:
        """Load those that are not here yet, try again those that failed a while ago, and forget what was not named for long."""
        now = self._monotonic()
        places = {bundle_id: place for bundle_id, place in self._places.items() if now - place.named_at <= LINGER_S}
        for bundle_id in self._places.keys() - places.keys():
            self._executor.submit(self._forget, bundle_id)
        for bundle_id in bundle_ids:
            place = places.get(bundle_id)
            if place is None or (_fault(place.future) is not None and now - place.since > RETRY_S):
                places[bundle_id] = _Place(self._executor.submit(self._loaded, bundle_id), since=now, named_at=now)
            else:
                places[bundle_id] = replace(place, named_at=now)
        self._places = places

    def ready(self, bundle_id: str | None) -> Serving | None:
        """The bundle, when it can answer now."""
        place = self._places.get(bundle_id) if bundle_id else None
        return place.future.result() if place is not None and _is_answer(place.future) else None

    async def get(self, bundle_id: str, *, within_s: float) -> Serving | None:
        """The bundle, as soon as it is loaded; None when it cannot be in that time, or when no route names it any more."""
        place = self._places.get(bundle_id)
        if place is None:
            return None
        if not place.future.done():
            waiter = asyncio.wrap_future(place.future)
            waiter.add_done_callback(_hear)
            await asyncio.wait([waiter], timeout=within_s)  # the load goes on when the caller leaves
        return place.future.result() if _is_answer(place.future) else None

    def check(self) -> None:
        """Wait until everything is loaded or failed.

        Raises:
            IntegrityError: stored content of a bundle is not what was registered.
        """
        futures = [place.future for place in self._places.values()]
        wait(futures)
        for fault in map(_fault, futures):
            if isinstance(fault, IntegrityError):
                raise fault

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of the bundles that can answer, sorted."""
        return tuple(sorted(bundle_id for bundle_id, place in self._places.items() if _is_answer(place.future)))

    @property
    def faults(self) -> Mapping[str, str]:
        """Bundle id to why it cannot be loaded."""
        found = {bundle_id: _fault(place.future) for bundle_id, place in self._places.items()}
        return {bundle_id: str(fault) for bundle_id, fault in found.items() if fault is not None}

    def close(self) -> None:
        """End the thread after the load it is in."""
        self._executor.shutdown(cancel_futures=True)

    def _loaded(self, bundle_id: str) -> Serving:
        try:
            return self._load(bundle_id)
        except Exception as fault:
            words = str(fault) if isinstance(fault, WorkbenchError) else f"loading it failed ({type(fault).__name__}: {fault})"
            _LOG.error("bundle %s cannot be served: %s", bundle_id, words)
            raise


def _fault(future: Future[Serving]) -> BaseException | None:
    """Why there is nothing to answer with; None while it is on its way, or when it is there."""
    return future.exception() if future.done() and not future.cancelled() else None


def _hear(waiter: asyncio.Future[Serving]) -> None:
    """Take note of how it ended, so that the loop does not report an error that nobody heard of."""
    if not waiter.cancelled():
        waiter.exception()


def _is_answer(future: Future[Serving]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
