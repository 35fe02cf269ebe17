"""One answer on its way out under guard: piece by piece, or whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from workbench.controls.clock import Clock, RealClock
from workbench.controls.guards.matches import Match, redacted
from workbench.controls.guards.model import Action, Checked, Finding
from workbench.controls.guards.window import Window

_REAL = RealClock()
_STOPPING = (Action.BLOCK, Action.HANDOFF)


class OutputGuards(Protocol):
    """What looks at answers."""

    @property
    def has_slow_output(self) -> bool:
        """Whether somebody else is asked about the answer."""

    @property
    def has_quick_output(self) -> bool:
        """Whether anything is searched for in it."""

    def scan_output(self, text: str, start: int, faults: list[Finding]) -> list[Match]:
        """What matches in a stretch of an answer from a place on; guards that fail are added to `faults`."""

    def output_findings(self, matches: Sequence[Match], faults: Sequence[Finding]) -> tuple[Finding, ...]:
        """What is said of an answer in which that was found."""

    async def check_output(self, text: str, *, clock: Clock) -> Checked:
        """What may be released of a whole answer, and what all guards say of it."""

    def check_output_quickly(self, text: str) -> Checked:
        """The same without the guards that ask somebody else."""


class Withheld:
    """The text of one choice, of which only what may leave leaves.

    Args:
        guards: of the bundle.
        mode: `hold_all`: nothing leaves before all of it was checked. `window`: what was checked leaves. `after`: everything leaves at
            once, and what is found can only be reported.
    """

    def __init__(self, guards: OutputGuards, mode: str) -> None:
        self._guards = guards
        self._mode = "hold_all" if guards.has_slow_output and mode == "window" else mode
        self._is_looking = guards.has_quick_output
        self._texts: list[str] = []
        self._faults: list[Finding] = []
        self._matches: list[Match] = []
        self._window = Window(self._scan)
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether something was found for which nothing more leaves."""
        return self._is_stopped

    def feed(self, text: str) -> str:
        """What may leave now that the model said this too."""
        if self._mode == "window":
            if not self._is_looking:
                return text
            left, matches = self._window.add(text)
            return self._left(left, matches) if left else ""
        self._texts.append(text)
        return text if self._mode == "after" else ""

    async def finish(self, *, clock: Clock = _REAL) -> Checked:
        """What may leave at the end, after all that `feed` gave already, and what the guards say of the whole answer."""
        if self._mode == "window":
            left = self._left(*self._window.end()) if self._is_looking else ""
            return Checked(text=left, findings=self._guards.output_findings(self._matches, self._faults))
        checked = await self._guards.check_output("".join(self._texts), clock=clock)
        if self._mode == "hold_all":
            return checked
        return Checked(text="", findings=tuple(_reported(finding) for finding in checked.findings))

    @property
    def found(self) -> tuple[Finding, ...]:
        """What the guards say of the part that left, where no more of the answer comes."""
        if self._mode == "window":
            return self._guards.output_findings(self._matches, self._faults) if self._is_looking else ()
        if self._mode == "after":
            return tuple(_reported(finding) for finding in self._guards.check_output_quickly("".join(self._texts)).findings)
        return ()

    def _scan(self, text: str, start: int) -> list[Match]:
        return self._guards.scan_output(text, start, self._faults)

    def _left(self, text: str, matches: list[Match]) -> str:
        """What leaves of a piece that is decided."""
        self._matches += matches
        if self._is_stopped:
            return ""
        if any(fault.action in _STOPPING for fault in self._faults):
            self._is_stopped = True
            return ""
        stop = min((match.start for match in matches if match.rule.action in _STOPPING), default=None)
        if stop is None:
            return redacted(text, matches) if matches else text
        self._is_stopped = True
        return redacted(text[:stop], [match._replace(end=min(match.end, stop)) for match in matches if match.start < stop])


def _reported(finding: Finding) -> Finding:
    """What is said where the text has left already."""
    return finding if finding.action is Action.ALLOW else replace(finding, action=Action.FLAG)
