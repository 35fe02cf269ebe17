"""Releases carried while a gateway serves: a thread has the controller take its turns. Of several gateways' controllers one leads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from workbench.release.controller import Controller

log = logging.getLogger(__name__)
TURN_S = 1.0
"""Between two turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryingStatus:
    """How the controller of this process is."""

    is_on: bool = False
    is_leading: bool = False
    fault: str | None = None
    """What kept its newest turn from its end."""


class CarryLoop:
    """Has a controller take its turns. Used as a context manager.

    Args:
        controller: makes it, in the thread; None carries nothing.
        is_needed: whether there is anything to carry; the controller is made then, as its imports are not for every gateway's start.
        turn_s: seconds between two turns.
    """

    def __init__(
        self, controller: Callable[[], Controller] | None, *, is_needed: Callable[[], bool] = lambda: True, turn_s: float = TURN_S
    ) -> None:
        self._make = controller
        self._is_needed = is_needed
        self._turn_s = turn_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release controller", daemon=True)
        self._status = CarryingStatus(is_on=controller is not None)

    @property
    def status(self) -> CarryingStatus:
        return self._status

    def __enter__(self) -> Self:
        if self._make is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        controller: Controller | None = None
        while self._make is not None and not self._ended.wait(self._turn_s):
            try:
                if controller is None and self._is_needed():
                    controller = self._make()
                if controller is not None:
                    controller.turn()
                    self._status = replace(self._status, is_leading=controller.is_leading, fault=None)
            except Exception as fault:  # noqa: BLE001 - a job loop: nothing may end it unseen
                seen = str(fault) or type(fault).__name__
                if seen != self._status.fault:
                    log.warning("no turn of the release controller: %s", seen)
                self._status = replace(self._status, is_leading=False, fault=seen)
        if controller is not None:
            controller.resign()
