"""Releases carried while a gateway serves: a thread has the controller take its turns. Of several gateways' controllers one leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.gateway.turns import Turns

if TYPE_CHECKING:
    from workbench.release.controller import Controller

TURN_S = 1.0
"""Between two turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryingStatus:
    """How the controller of this process is."""

    is_on: bool = False
    is_leading: bool = False
    fault: str | None = None
    """What kept its newest turn from its end."""


class CarryLoop(Turns):
    """Has a controller take its turns.

    Args:
        controller: makes it, in the thread; None carries nothing.
        is_needed: whether there is anything to carry; the controller is made then, as its imports are not for every gateway's start.
        turn_s: seconds between two turns.
    """

    def __init__(
        self, controller: Callable[[], Controller] | None, *, is_needed: Callable[[], bool] = lambda: True, turn_s: float = TURN_S
    ) -> None:
        super().__init__("release controller", wait_s=lambda: turn_s, is_on=controller is not None)
        self._make = controller
        self._is_needed = is_needed
        self._controller: Controller | None = None

    @property
    def status(self) -> CarryingStatus:
        is_leading = self._controller is not None and self.fault is None and self._controller.is_leading
        return CarryingStatus(is_on=self.is_on, is_leading=is_leading, fault=self.fault)

    def turn(self) -> None:
        if self._controller is None and self._make is not None and self._is_needed():
            self._controller = self._make()
        if self._controller is not None:
            self._controller.turn()

    def at_end(self) -> None:
        if self._controller is not None:
            self._controller.resign()
