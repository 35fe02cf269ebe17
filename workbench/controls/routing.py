"""The routes in memory: a thread reads them from the ledger, requests never do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workbench.controls.model import Route
from workbench.errors import WorkbenchError
from workbench.spec.app import AppSpec

_LOG = logging.getLogger(__name__)
INTERVAL_S = 0.25
"""Between two readings."""
KEEP_S = 30.0
"""For so long a route counts while the ledger is out of reach; then stable only."""
_STOP_S = 5.0
"""To end the thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the ledger says of serving, at one moment."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    """By app."""
    specs: Mapping[str, AppSpec | None] = field(default_factory=dict)
    """What each routed app declares."""
    apps: frozenset[str] = frozenset()
    """Every registered app."""
    newest_erasure: int = 0
    """Grows when an erasure begins and when it is done."""


class RouteTable:
    """The newest reading, and how old it is.

    Args:
        read: asks the ledger; may raise StoreError.
        on_reading: told of each reading before it counts, on the reading thread.
        on_counting: told of each reading once it counts, on the same thread; it must not take time.
        interval_s: between two readings.
        keep_s: how long a reading counts when no newer one comes.
        monotonic: the machine's time, in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        *,
        on_reading: Callable[[Reading], None],
        on_counting: Callable[[Reading], None] = lambda _: None,
        interval_s: float = INTERVAL_S,
        keep_s: float = KEEP_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._on_reading = on_reading
        self._on_counting = on_counting
        self._interval_s = interval_s
        self._keep_s = keep_s
        self._monotonic = monotonic
        self._reading = Reading()
        self._read_at: float | None = None
        self._fault: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="routes", daemon=True)

    @property
    def reading(self) -> Reading:
        return self._reading

    @property
    def age_s(self) -> float | None:
        """Seconds since the ledger was asked for the newest reading; None before the first."""
        return None if self._read_at is None else self._monotonic() - self._read_at

    @property
    def is_stale(self) -> bool:
        """Whether the reading is too old for a candidate to serve by it."""
        age_s = self.age_s
        return age_s is None or age_s > self._keep_s

    @property
    def alarm(self) -> str | None:
        """What is wrong with the routes, in one sentence; None when all is well."""
        if self._fault is None and not self.is_stale:
            return None
        age_s = self.age_s
        known = "were never read" if age_s is None else f"are {age_s:.1f} s old"
        meaning = "candidates serve nobody" if self.is_stale else f"after {self._keep_s:g} s candidates serve nobody"
        return f"the routes {known}, {meaning}: {self._fault or 'the ledger does not answer'}"

    def poll(self) -> None:
        """Read once.

        Raises:
            StoreError: the ledger is out of reach; the reading stays as it was.
        """
        asked_at = self._monotonic()
        reading = self._read()
        self._on_reading(reading)  # first: a call that finds the new route finds its bundle on the way
        self._reading, self._read_at = reading, asked_at
        self._on_counting(reading)

    def start(self) -> None:
        """Begin to read on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the reading it is in; a reading that hangs is left behind."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self.poll()
            except WorkbenchError as fault:
                self._note(str(fault))
            except Exception as fault:  # noqa: BLE001 - the thread lives as long as the process, whatever a driver raises
                self._note(f"reading them failed ({type(fault).__name__})")
            else:
                self._note(None)

    def _note(self, fault: str | None) -> None:
        if fault is not None and self._fault is None:
            _LOG.error("the routes cannot be read, the last ones count for %g s: %s", self._keep_s, fault)
        if fault is None and self._fault is not None:
            _LOG.warning("the routes can be read again")
        self._fault = fault
