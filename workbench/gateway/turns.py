"""A thread that takes turns until it is ended: what a gateway does beside its requests."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

log = logging.getLogger(__name__)


class Turns(ABC):
    """Takes turns on a thread of its own. Used as a context manager; a subclass says what a turn is.

    Args:
        name: of the thread, for logs.
        wait_s: seconds to wait before each turn, asked anew each time.
        is_on: whether there is anything to do at all; otherwise no thread begins.
    """

    def __init__(self, name: str, *, wait_s: Callable[[], float], is_on: bool = True) -> None:
        self.is_on = is_on
        self.fault: str | None = None
        """What kept the newest turn from its end."""
        self._name = name
        self._wait_s = wait_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def turn(self) -> None:
        """One turn. What it raises is told, and the next one comes."""

    def at_end(self) -> None:  # noqa: B027 - most have nothing to give back
        """What is given back after the last turn, on the same thread."""

    def __enter__(self) -> Self:
        if self.is_on:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._wait_s()):
            try:
                self.turn()
            except Exception as fault:  # noqa: BLE001 - a job loop: nothing may end it unseen
                self._fail(str(fault) or type(fault).__name__)
            else:
                self.fault = None
        self.at_end()

    def _fail(self, seen: str) -> None:
        if seen != self.fault:
            log.warning("no turn of the %s: %s", self._name, seen)
        self.fault = seen
