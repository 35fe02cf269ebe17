"""One attempt at one target: how it goes on, and what it leaves behind in the call's steps and in the target's record."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workbench.controls.breaker import Permit
from workbench.controls.clock import Clock
from workbench.controls.events import Event
from workbench.controls.failures import HANDLING, Counts, FailureKind
from workbench.controls.limits import Limits
from workbench.controls.providers import ProviderError
from workbench.controls.targets import Health, Target
from workbench.controls.turn import Step

_LOG = logging.getLogger(__name__)
_FAIR_WAIT_S = 5.0
"""A target that got less time than this, because its caller had no more, does not count as failed."""
_TOLERANCE_S = 0.01
_LATE = (FailureKind.DEADLINE, FailureKind.SILENT, FailureKind.FIRST_TOKEN, FailureKind.SLOW)


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One attempt that is under way. As a context it ends with the block, unless it `goes_on`."""

    target: Target
    request: Mapping[str, Any]
    number: int
    limits: Limits
    """Of this attempt."""
    own_limits: Limits
    """Of the bundle, however little time there was."""
    is_last: bool
    clock: Clock
    step: Step
    health: Health
    """Of the target; one of its places is taken."""
    permit: Permit
    chance: Callable[[str], float]
    """A number in [0, 1) for a purpose."""
    events: AsyncGenerator[Event] | None = None
    """Of a stream: they are hung up on at the end."""
    goes_on: bool = False
    """Whether the block that was entered first is not its end: a stream is read behind it, in another one."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, fault: BaseException | None, _trace: TracebackType | None) -> None:
        if self.goes_on and fault is None:
            self.goes_on = False
            return
        if self.events is not None:
            try:
                await self.events.aclose()
            except BaseException as late:
                self._end(late)
                raise
        self._end(fault)

    def _end(self, fault: BaseException | None) -> None:
        """Record how it ended, for the log and for the target's record, and leave the target.

        Raises:
            ProviderError: it ended with what no provider should raise.
        """
        self.step.duration_s = self.clock.now() - self.step.start_s
        try:
            if fault is None:
                self.health.settle(self.permit, None, counts=None, fraction=0.0)
            elif isinstance(fault, ProviderError):
                self._failed(fault)
            elif isinstance(fault, Exception):
                broken = ProviderError("the provider broke", code="provider_broke", kind=FailureKind.BROKEN)
                _LOG.warning("provider of %s broke: %s", self.step.name, type(fault).__name__)
                self._failed(broken)
                raise broken from fault
            else:  # whoever asked has left
                self.step.status = "cancelled"
                self.health.withdraw(self.permit)
        finally:
            self.health.slots.leave()

    def _failed(self, fault: ProviderError) -> None:
        step = self.step
        step.status = "timeout" if fault.kind in _LATE else "error"
        step.error_type = fault.code
        step.details["failure"] = str(fault.kind)
        self.health.settle(self.permit, fault, counts=self._counts(fault), fraction=self.chance("opening"))

    def _counts(self, fault: ProviderError) -> Counts:
        """How the failure counts against the target: what came late only because the caller had little time does not."""
        if fault.kind in (FailureKind.SILENT, FailureKind.FIRST_TOKEN):
            limits = self.own_limits
            own_s = limits.headers_s if fault.kind is FailureKind.SILENT else limits.first_token_s
            if self.step.duration_s < min(own_s, _FAIR_WAIT_S) - _TOLERANCE_S:
                return Counts.NONE
        return HANDLING[fault.kind].breaker
