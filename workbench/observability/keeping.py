"""The log kept: retention, upkeep and what is left of erasures, by one process at a time, and how that went, for whoever asks.

Each step is a transaction of its own, so a run that dies leaves nothing half done; the next one goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import orjson

from workbench.ledger.authority import Author
from workbench.ledger.settings import get, put
from workbench.ledger.store import Ledger
from workbench.observability.erasure import Erasure, ErasureReport
from workbench.observability.health import Finding, findings, look, of_orphans, of_retention
from workbench.observability.kept import Kept, begun, is_due, read_kept
from workbench.observability.lake import Lake
from workbench.observability.retention import Outdated, Retention
from workbench.observability.upkeep import Progress, Upkeep, UpkeepReport
from workbench.ownership.model import Actor, Assurance

BY_ITSELF = Actor(person="workbench:upkeep", via="schedule", assurance=Assurance.VERIFIED)
"""The author of what the schedule does; no person can have this name."""
_RECORD = "lake.kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingReport:
    """What a run did."""

    retention: tuple[Outdated, ...] = ()
    """What was taken out because it was older than declared."""
    upkeep: UpkeepReport = field(default_factory=UpkeepReport)
    erasures: tuple[ErasureReport, ...] = ()


class Keeper:
    """Keeps the log. Any process may try; one does.

    Args:
        ledger: where the last run is noted.
        lake: the log lake.
        retention: takes out what is older than declared.
        upkeep: rewrites the lake.
        erasure: goes on with what is left of erasures.
        clock: the present time.
    """

    def __init__(
        self, ledger: Ledger, lake: Lake, retention: Retention, upkeep: Upkeep, erasure: Erasure, *, clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._lake = lake
        self._retention = retention
        self._upkeep = upkeep
        self._erasure = erasure
        self._clock = clock

    def last(self) -> Kept | None:
        """The last run; None before the first."""
        return last_run(self._ledger)

    def run(self, author: Author, *, progress: Progress | None = None) -> KeepingReport:
        """One run, now.

        Args:
            author: who acts, for the audit.
            progress: called with a label, the steps done and all steps.

        Raises:
            StoreBusy: another process is at it, or a lock could not be had.
            StoreError: a store failed; the next run goes on where this one stopped.
        """
        if self._lake.snapshot() is None:
            return KeepingReport()
        with self._lake.kept():
            return self._run(author, self.last(), progress)

    def run_if_due(self, author: Author, *, every: timedelta) -> KeepingReport | None:
        """One run, unless one has begun less than `every` ago.

        Raises: as `run`.
        """
        if self._lake.snapshot() is None:
            return None
        with self._lake.kept():
            last = self.last()
            return self._run(author, last, None) if is_due(last, every=every, now=self._clock()) else None

    def findings(self, *, every: timedelta | None) -> tuple[Finding, ...]:
        """How a lake that was written is by its catalogue, for whoever looks after it; it changes nothing.

        Args:
            every: how often gateways keep it; None for never.
        """
        health = self._lake.read(partial(look, now=self._clock()))
        return tuple(findings(health, self.last(), every=every, grace=self._upkeep.grace))

    def orphans(self) -> Finding:
        """What killed writers left; it changes nothing."""
        return of_orphans(self._upkeep.orphans(self._clock() - self._upkeep.orphan_age))

    def retention(self) -> Finding:
        """What is kept for how long, and what is older; it changes nothing."""
        outdated, policy = self._retention.outdated(), self._retention.policy()
        return of_retention(len(policy.terms), sum(found.n for found in outdated), n_apps=len(outdated))

    def _run(self, author: Author, last: Kept | None, progress: Progress | None) -> KeepingReport:
        run = begun(last, self._clock())
        self._note(run)
        try:
            outdated = self._retention.apply(author)
            upkeep = self._upkeep.run(progress=progress)
            if outdated:
                self._upkeep.narrow_statistics()
            erasures = self._erasure.go_on(author, progress=progress)
        except Exception as fault:
            self._note(replace(run, ended_at=self._clock(), fault=str(fault) or type(fault).__name__))
            raise
        done = {str(step): n for step, n in upkeep.done.items()}
        if outdated:
            done["take out outdated rows"] = sum(found.n for found in outdated)
        now = self._clock()
        self._note(replace(run, ended_at=now, done=done, waits_until=upkeep.waits_until, succeeded_at=now, failures_in_a_row=0))
        return KeepingReport(retention=outdated, upkeep=upkeep, erasures=erasures)

    def _note(self, run: Kept) -> None:
        with self._ledger.write() as act:
            put(act, _RECORD, orjson.dumps(run).decode())


def last_run(ledger: Ledger) -> Kept | None:
    """The last run that a ledger knows of; None before the first."""
    text = get(ledger, _RECORD)
    return None if text is None else read_kept(orjson.loads(text))
