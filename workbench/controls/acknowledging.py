"""What this process serves by, told to the ledger: on a thread of its own, so that neither a call nor the next reading waits for it."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from workbench.controls.routing import Reading
from workbench.errors import WorkbenchError
from workbench.ledger.acknowledgements import acknowledge, forget_gateway
from workbench.ledger.store import Ledger

_LOG = logging.getLogger(__name__)
REFRESH_S = 10.0
"""How often a process says again what it serves by, while nothing changes."""
_RETRY_S = 1.0
"""After a writing that failed."""
_STOP_S = 5.0
"""To end the thread."""
_FORGOTTEN = timedelta(hours=1)
"""After so long without a word of a process its rows are taken away by any other."""


def process_name() -> str:
    """A name of this process that no other has: host, process id, and a random part, because ids are given again."""
    return f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"


class Acknowledger:
    """Tells the ledger by which route versions this process serves: when they change, and now and then while they do not.

    What cannot be written is written later, and disturbs nobody; until then the process counts as one that has not followed.

    Args:
        ledger: where it is told.
        name: of this process.
        clock: the present, aware.
        refresh_s: how often it is told while nothing changes.
    """

    def __init__(self, ledger: Ledger, *, name: str, clock: Callable[[], datetime], refresh_s: float = REFRESH_S) -> None:
        self._ledger = ledger
        self._name = name
        self._clock = clock
        self._refresh_s = refresh_s
        self._versions: Mapping[str, int] = {}
        self._fault: str | None = None
        self._is_known = False
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acknowledgements", daemon=True)

    def take(self, reading: Reading) -> None:
        """Note a reading that serves from now on. It returns at once."""
        versions = {app: route.route_version for app, route in reading.routes.items()}
        if versions != self._versions:
            self._versions = versions
            self._woken.set()

    def start(self) -> None:
        """Begin to tell, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it told is taken back, where the ledger answers in time."""
        self._ended.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        wait_s = self._refresh_s
        while not self._ended.is_set():
            self._woken.wait(wait_s)
            self._woken.clear()  # before the versions are read: what changes from here on wakes it again
            if not self._ended.is_set():
                wait_s = self._refresh_s if self._is_done(self._tell) else _RETRY_S
        self._is_done(self._take_back)

    def _is_done(self, write: Callable[[], None]) -> bool:
        """Whether it could be written. What cannot be is said once."""
        fault = None
        try:
            write()
        except WorkbenchError as error:
            fault = str(error)
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the process, whatever a driver raises
            fault = f"it failed ({type(error).__name__})"
        if fault is not None and self._fault is None:
            _LOG.warning("the ledger cannot be told which route serves here: %s", fault)
        self._fault = fault
        return fault is None

    def _tell(self) -> None:
        versions = self._versions
        if not versions and not self._is_known:
            return
        with self._ledger.write() as act:
            now = self._clock()
            acknowledge(act, self._name, versions, at=now, silent_since=now - _FORGOTTEN)
        self._is_known = bool(versions)

    def _take_back(self) -> None:
        if self._is_known:
            with self._ledger.write() as act:
                forget_gateway(act, self._name)
