"""The composition root: the only place that opens stores and builds services."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from workbench.errors import NotPermitted, UnknownSubject, UsageError
from workbench.ownership.model import Actor, Assurance
from workbench.ownership.people import LookedUpAuthor
from workbench.settings import Settings, read_settings
from workbench.spec.faults import nearest
from workbench.spec.login import login_of_process

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from workbench.controls.clock import TurnClock
    from workbench.controls.handoffs import Handoffs
    from workbench.controls.service import Controls
    from workbench.evaluation.service import Evaluation
    from workbench.ledger.authority import Author
    from workbench.ledger.inbox import Inbox
    from workbench.ledger.messages import Messages
    from workbench.ledger.store import Ledger, WriteTransaction
    from workbench.observability.erasure import Erasure
    from workbench.observability.export import Exports
    from workbench.observability.feedback_log import Feedback
    from workbench.observability.impact import BusinessImpact
    from workbench.observability.imports import Imports
    from workbench.observability.judgments import Judgments
    from workbench.observability.keeping import Keeper
    from workbench.observability.lake import Lake
    from workbench.observability.logs import Logs
    from workbench.observability.metrics import Metrics
    from workbench.observability.otlp.receiving import Receiver
    from workbench.observability.otlp.settling import Settler
    from workbench.observability.redaction import Redactor
    from workbench.observability.release_rows import ReleaseLog
    from workbench.observability.retention import Retention
    from workbench.observability.slo_watch import Objectives
    from workbench.observability.spark import SparkMetrics
    from workbench.observability.upkeep import Upkeep
    from workbench.ownership.keys import Keys
    from workbench.ownership.service import Ownership
    from workbench.readiness.service import Readiness
    from workbench.release.controller import Controller
    from workbench.release.judge_terms import Baseline
    from workbench.release.leadership import Leadership
    from workbench.release.service import Releases
    from workbench.spec.app import AppSpec, Kpi
    from workbench.spec.base import Spec
    from workbench.spec.metrics import MetricsSpec
    from workbench.spec.plan import PlanSpec
    from workbench.spec.slo import SloSpec
    from workbench.versions.service import Versions


DEMO_PERSON = "primary"
"""Who acts in the demo's workspace unless somebody else is named."""
LEDGER_FILE = "ledger.sqlite"
"""The ledger's name in the workspace folder, where no other is named."""
PURPOSE, DEMO = "purpose", "demo"
"""The setting in the ledger that says: this workspace is the demo's, and may be thrown away."""


def utc_now() -> datetime:
    """The present moment, aware, UTC."""
    return datetime.now(UTC)


class Workspace:
    """The stores of one environment, and the services over them. Services are built on first use; `close` releases the stores.

    Args:
        settings: where the stores are.
        clock: the time, for tests and replays.
        actor: who acts when a verb is called without an actor; by default the login of this machine, as people.yaml knows it.
        via: the edge that the login comes by.
        turn_clock: makes the clock of one model call; by default the machine's.
        monotonic: seconds, for what lasts; no change of the time moves it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = utc_now,
        actor: Actor | None = None,
        via: str = "cli",
        turn_clock: TurnClock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.home = settings.home.absolute()
        self.clock = clock
        self._actor = actor
        self._via = via
        self._turn_clock = turn_clock
        self._monotonic = monotonic

    @classmethod
    def open(
        cls,
        home: str | Path | None = None,
        *,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
        actor: Actor | None = None,
        via: str = "cli",
        turn_clock: TurnClock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Workspace:
        """The workspace in `home`, else in `$WORKBENCH_HOME`, else in `./.workbench`; made when it does not exist yet.

        Raises:
            UnknownSubject: there is no workspace and `create` is false.
            UsageError: the place is taken by something that is not a folder, or cannot be written.
        """
        settings = read_settings() if home is None else read_settings(home=Path(home))
        place = settings.home.absolute()
        if not place.exists() and not create:
            raise UnknownSubject(
                f"workspace {place}",
                seen="there is none",
                next_step="run `workbench demo` or `workbench import` to make one, or set WORKBENCH_HOME to an existing one",
            )
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"workspace {place}",
                seen=error.strerror or str(error),
                needed="a folder that this user can write",
                next_step="set WORKBENCH_HOME to another place",
            ) from error
        return cls(settings, clock=clock, actor=actor, via=via, turn_clock=turn_clock, monotonic=monotonic)

    @cached_property
    def ledger(self) -> Ledger:
        """Everything that must not race: decisions, registrations, the audit."""
        from workbench.ledger.store import Ledger

        return Ledger.open(self.settings.ledger or f"sqlite:///{self.home / LEDGER_FILE}", clock=self.clock)

    @cached_property
    def lake(self) -> Lake:
        """The log tables."""
        from workbench.observability.lake import Lake

        folder = self.home / "lake"
        return Lake.open(
            catalog=self.settings.catalog or f"sqlite:{folder / 'catalog.sqlite'}",
            data=self.settings.data or str(folder / "data"),
            lock=folder / "write.lock",
            environment=os.environ,
            memory=self.settings.log_memory,
        )

    @cached_property
    def versions(self) -> Versions:
        """Which exact thing is this?"""
        from workbench.versions.service import Versions

        return Versions(self.ledger, authority=self.ownership, author=self.actor, clock=self.clock)

    @cached_property
    def ownership(self) -> Ownership:
        """Who answers?"""
        from workbench.ownership.service import Ownership

        return Ownership(
            self._declaration, apps=self._apps, clock=self.clock, ledger=self.ledger, is_demo=self.is_demo, clean=self._cleaned
        )

    @cached_property
    def keys(self) -> Keys:
        """Which application calls the gateway?"""
        from workbench.ownership.keys import Keys

        return Keys(self.ledger, self.ownership, author=self.actor, clock=self.clock, clean=self._cleaned)

    @cached_property
    def logs(self) -> Logs:
        """What happened, written."""
        from workbench.observability.logs import Logs

        return Logs(
            self.lake,
            spool_folder=self.home / "spool",
            clock=self.clock,
            mode=self.settings.spool,
            quota_bytes=self.settings.spool_quota,
        )

    @cached_property
    def traces(self) -> Receiver:
        """What applications tell of themselves, taken in."""
        from workbench.observability.otlp.receiving import Receiver
        from workbench.observability.sealing import Sealer

        return Receiver(self.logs, Sealer(self.redactor, self.unit_key), clock=self.clock)

    @cached_property
    def settler(self) -> Settler:
        """Puts requests together from the spans in the log."""
        from workbench.observability.otlp.settling import Settler

        return Settler(self.lake, self.logs, quiet_s=self.settings.trace_quiet_s)

    @cached_property
    def controls(self) -> Controls:
        """What stands around a model call? Providers are found by the environment's `WORKBENCH_PROVIDER_<NAME>_URL` and `…_KEY`."""
        from workbench.controls.clock import RealClock
        from workbench.controls.providers import Providers
        from workbench.controls.service import Controls
        from workbench.observability.sealing import Sealer

        return Controls(
            self.ledger,
            self.versions,
            self.logs,
            sealer=Sealer(self.redactor, self.unit_key),
            providers=Providers(os.environ),
            desk=self.handoffs,
            app_spec=self.app_spec,
            clock=self.clock,
            turn_clock=self._turn_clock or RealClock,
            most_in_flight=self.settings.most_in_flight,
            keep_s=self.settings.route_keep_s,
        )

    @cached_property
    def handoffs(self) -> Handoffs:
        """What waits for a person? Callbacks are signed with the environment's `WORKBENCH_CALLBACK_<APP>__<NAME>_KEY`."""
        from workbench.controls.callbacks import Courier
        from workbench.controls.handoffs import Handoffs
        from workbench.ledger.vault import Vault, keys_from
        from workbench.observability.sealing import Sealer

        keys = keys_from(self.settings.vault_key.get_secret_value(), self.settings.vault_key_file, home=self.home)
        return Handoffs(
            self.ledger,
            self.ownership,
            Vault(keys),
            sealer=Sealer(self.redactor, self.unit_key),
            courier=Courier(self.app_spec, os.environ),
            app_spec=self.app_spec,
            author=self.actor,
            clock=self.clock,
            clean=self._cleaned,
        )

    @cached_property
    def imports(self) -> Imports:
        """What happened elsewhere, brought in."""
        from workbench.observability.import_record import ImportRecord
        from workbench.observability.imports import Imports

        return Imports(
            self.logs,
            self.versions,
            redactor=self.redactor,
            unit_key=self.unit_key,
            authority=self.ownership,
            author=self.actor,
            clock=self.clock,
            record=ImportRecord(self.ledger),
            outcomes_read=self._outcomes_read,
            settle=lambda: self.settler.settle(self.clock()),
        )

    @cached_property
    def feedback(self) -> Feedback:
        """What happened after an answer, told: scores and business events."""
        from workbench.observability.feedback_log import Feedback
        from workbench.observability.sealing import Sealer

        return Feedback(
            self.logs,
            sealer=Sealer(self.redactor, self.unit_key),
            authority=self.ownership,
            author=self.actor,
            clock=self.clock,
            outcomes_read=self._outcomes_read,
        )

    @cached_property
    def judgments(self) -> Judgments:
        """What should a search find?"""
        from workbench.observability.judgments import Judgments

        return Judgments(
            self.lake,
            self.logs,
            self.ledger,
            redactor=lambda: self.redactor,
            authority=self.ownership,
            author=self.actor,
            clock=self.clock,
        )

    @cached_property
    def exports(self) -> Exports:
        """The log, for other engines."""
        from workbench.observability.export import Exports

        return Exports(self.lake, self.ledger, authority=self.ownership, author=self.actor, clock=self.clock)

    def on_spark(self, folder: str | Path, session: SparkSession | None = None) -> SparkMetrics:
        """The metrics over a folder that `exports` wrote, computed by Spark; what apps declare comes from here.

        Arguments as in `SparkMetrics`.
        """
        from workbench.observability.spark import SparkMetrics

        return SparkMetrics(folder, session=session, app_spec=self.app_spec, app_metrics=self.app_metrics)

    @cached_property
    def upkeep(self) -> Upkeep:
        """The log, kept small."""
        from workbench.observability.upkeep import Upkeep

        def cited() -> frozenset[int]:  # only a regular run asks
            policy, now = self.retention.policy(), self.clock()
            return self.readiness.cited_snapshots(lambda app: policy.evidence_since(app, now))

        return Upkeep(self.lake, cited=cited)

    @cached_property
    def retention(self) -> Retention:
        """How long the log keeps what it holds."""
        from workbench.observability.retention import Retention

        return Retention(self.ledger, self.lake, authority=self.ownership, author=self.actor, clock=self.clock, clean=self._cleaned)

    @cached_property
    def erasure(self) -> Erasure:
        """What is to be forgotten."""
        from workbench.observability.erasure import Erasure, HeldInLedger
        from workbench.observability.sealing import Sealer

        return Erasure(
            self.ledger,
            self.lake,
            self.logs,
            self.upkeep,
            unit_hash=Sealer(self.redactor, self.unit_key).unit_hash,
            others=(HeldInLedger(self.ledger),),
            authority=self.ownership,
            author=self.actor,
            clock=self.clock,
            clean=self._cleaned,
        )

    @cached_property
    def keeper(self) -> Keeper:
        """The log's upkeep, by one process at a time."""
        from workbench.observability.keeping import Keeper

        return Keeper(self.ledger, self.lake, self.retention, self.upkeep, self.erasure, clock=self.clock)

    @cached_property
    def metrics(self) -> Metrics:
        """What happened, in numbers."""
        from workbench.observability.metrics import Metrics

        return Metrics(self.lake, app_spec=self.app_spec, app_metrics=self.app_metrics, clock=self.clock)

    @cached_property
    def objectives(self) -> Objectives:
        """Is what was promised kept?"""
        from workbench.observability.slo_watch import Objectives

        return Objectives(self.lake, slo_spec=self.slo_spec, app_spec=self.app_spec, metrics=self.metrics, clock=self.clock)

    @cached_property
    def impact(self) -> BusinessImpact:
        """What does it do for the business?"""
        from workbench.observability.impact import BusinessImpact

        return BusinessImpact(self.lake, app_spec=self.app_spec, clock=self.clock)

    @cached_property
    def evaluation(self) -> Evaluation:
        """How good is it?"""
        from workbench.evaluation.service import Evaluation
        from workbench.observability.sealing import Sealer

        return Evaluation(self.lake, self.logs, self.versions, sealer=Sealer(self.redactor, self.unit_key), clock=self.clock)

    @cached_property
    def readiness(self) -> Readiness:
        """May it go?"""
        from workbench.readiness.service import Readiness
        from workbench.release.collecting import Collected

        return Readiness(
            self.ledger,
            self.versions,
            self.ownership,
            self.metrics,
            authority=self.ownership,
            collector=Collected(self.ledger),
            author=self.actor,
            clock=self.clock,
        )

    @cached_property
    def inbox(self) -> Inbox:
        """What people asked for in the chat, until it is done and told."""
        from workbench.ledger.inbox import Inbox

        return Inbox(self.ledger, clock=self.clock)

    @cached_property
    def messages(self) -> Messages:
        """Which chat message shows what."""
        from workbench.ledger.messages import Messages

        return Messages(self.ledger, clock=self.clock)

    @cached_property
    def releases(self) -> Releases:
        """How does it go? It opens the log only where it is asked for it, so that a rollback works without."""
        return self._releases()

    def _releases(self, fence: Callable[[WriteTransaction], None] | None = None) -> Releases:
        from workbench.release.service import Releases

        return Releases(
            self.ledger,
            self.versions,
            self.ownership,
            reviewer=lambda: self.readiness,
            units=self._candidate_units,
            log=self._release_log,
            author=self.actor,
            clock=self.clock,
            clean=self._cleaned,
            monotonic=self._monotonic,
            before=self._before_release,
            fence=fence,
        )

    @cached_property
    def _release_log(self) -> ReleaseLog:
        from workbench.observability.release_rows import ReleaseLog

        return ReleaseLog(lambda: self.lake)

    @cached_property
    def controller(self) -> Controller:
        """Carries releases by their plans, while this process leads."""
        from workbench.release.controller import LEASE, Controller
        from workbench.release.judging import LakeJudging

        leadership = self.leadership(LEASE)
        return Controller(
            self.ledger,
            self._releases(leadership.fence),
            leadership,
            judging=LakeJudging(self._release_log, self._before_release),
            budget=self._burnt,
            clock=self.clock,
            monotonic=self._monotonic,
        )

    def leadership(self, name: str) -> Leadership:
        """A part in the lease of this name, under a name of its own."""
        from workbench.controls.acknowledging import process_name
        from workbench.release.leadership import Leadership

        return Leadership(self.ledger, name, process_name(), monotonic=self._monotonic)

    def _before_release(self, app: str, stable: str | None, plan: PlanSpec) -> Baseline:
        """What a stable bundle did until now, by metric, with the KPIs that the plan names."""
        from workbench.release.judge_terms import COST, QUALITY, QUANTILES, Baseline, limits_of
        from workbench.spec.gates import GatesSpec

        spec = self.versions.declaration(app, "gates")
        declared = self.app_spec(app)
        bars = declared.score_bars if declared else {}
        limits = limits_of(spec if isinstance(spec, GatesSpec) else None)
        is_logged = self.lake.snapshot() is not None
        units_per_day = self.metrics.units_per_day(app) if is_logged else None
        results = self.impact.before(app, self._planned_kpis(app, plan), stable) if stable else {}
        if stable is None or not is_logged:
            compared = stable is not None
            return Baseline(values={}, limits=limits, bars=bars, is_compared=compared, results=results, units_per_day=units_per_day)
        asked = {**{name: name for name in (*QUANTILES, QUALITY)}, "cost_per_request": COST}
        frame = self.metrics.query(list(asked), where={"app": app, "bundle": stable}, app=app)
        row = next(frame.iter_rows(named=True), {})
        values = {name: float(row[column]) for column, name in asked.items() if row.get(column) is not None}
        return Baseline(values=values, limits=limits, bars=bars, results=results, units_per_day=units_per_day)

    def _planned_kpis(self, app: str, plan: PlanSpec) -> tuple[Kpi, ...]:
        """The KPIs of the app that the plan names; a metric of the catalogue goes before a KPI of its name."""
        from workbench.observability.catalogue import find

        declared = self.app_spec(app)
        return tuple(kpi for kpi in (declared.kpis if declared else ()) if kpi.name in plan.metrics and find(kpi.name) is None)

    def _candidate_units(self, app: str, release_id: str, *, arm: str = "candidate") -> int:
        """How many units a release's candidate has answered; the log is opened when it counts."""
        return self.metrics.candidate_units(app, release_id, arm=arm)

    def _burnt(self, app: str) -> str | None:
        """Which error budget of the app is burnt, in words; None where none is, or none is declared."""
        from workbench.observability.slo import NEGATIVE

        if self.slo_spec(app) is None:
            return None
        standing = self.objectives.check(app)
        return next((judgement.sentence for judgement in standing.judgements if judgement.state in NEGATIVE), None)

    @property
    def actor(self) -> Author:
        """Who acts here by default."""
        return self._actor or LookedUpAuthor(via=self._via, find=self._local_actor)

    @cached_property
    def redactor(self) -> Redactor:
        """What replaces personal data and secrets before anything is stored; its placeholders are this workspace's own."""
        from workbench.observability.redaction import Redactor

        return Redactor(self._secret("redaction_key"))

    @property
    def unit_key(self) -> bytes:
        """The key of `unit_hash`; it never changes in a workspace, so that a unit keeps its hash."""
        return self._secret("unit_key")

    @property
    def button_key(self) -> bytes:
        """The key by which the bot knows the buttons that it drew."""
        return self._secret("button_key")

    @cached_property
    def is_demo(self) -> bool:
        """Whether this workspace's ledger, wherever it is, says that it belongs to the demo."""
        from workbench.ledger.settings import get

        return get(self.ledger, PURPOSE) == DEMO

    def require_app(self, app: str) -> None:
        """Return when somebody registered the app, or the log has rows of it.

        Raises:
            UnknownSubject: otherwise, with the apps there are.
        """
        known = self.versions.apps()
        if app in known or self.metrics.has_rows(app):
            return
        near = nearest(app, known)
        raise UnknownSubject(
            f'app "{app}"',
            seen="nobody registered it" + (f'; did you mean "{near}"?' if near else ""),
            needed=f"one of {', '.join(known)}" if known else "",
            next_step="" if known else "`workbench bundle register DIR` or `workbench import` brings the first app",
        )

    def require_view(self, *apps: str) -> None:
        """Return when the apps are known and whoever acts here may look at each.

        Raises:
            UnknownSubject: nobody registered one of them.
            NotPermitted: otherwise.
        """
        for app in apps:
            self.require_app(app)
            self.ownership.require(self.actor, "view", app)

    def visible_apps(self) -> tuple[str, ...]:
        """The registered apps at which whoever acts here may look, by name."""
        return tuple(app for app in self.versions.apps() if self.ownership.may(self.actor, "view", app).allowed)

    def app_spec(self, app: str) -> AppSpec | None:
        """The declared app, or None."""
        from workbench.spec.app import AppSpec

        spec = self.versions.declaration(app, "app")
        return spec if isinstance(spec, AppSpec) else None

    def _outcomes_read(self, app: str) -> tuple[str, ...]:
        """The outcomes that something of the app reads."""
        from workbench.observability.unmatched import outcomes_read

        return outcomes_read(self.app_spec(app), self.app_metrics(app))

    def slo_spec(self, app: str) -> SloSpec | None:
        """The declared objectives of an app, or None."""
        from workbench.spec.slo import SloSpec

        spec = self.versions.declaration(app, "slo")
        return spec if isinstance(spec, SloSpec) else None

    def app_metrics(self, app: str) -> MetricsSpec | None:
        """The metrics that the app declares for itself, or None."""
        from workbench.spec.metrics import MetricsSpec

        spec = self.versions.declaration(app, "metrics")
        return spec if isinstance(spec, MetricsSpec) else None

    def close(self) -> None:
        """Release every store that was opened; what was recorded is flushed first."""
        opened = self.__dict__
        for name in ("evaluation", "handoffs", "controls", "logs", "lake", "ledger"):
            store = opened.pop(name, None)
            if store is not None:
                store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _local_actor(self) -> Actor:
        """Whoever runs this process; in the demo's workspace, whom they choose to be."""
        if self.is_demo:
            return Actor(person=self.settings.person or DEMO_PERSON, via=self._via, assurance=Assurance.CONSOLE)
        if self.settings.person:
            raise NotPermitted(
                f"--as {self.settings.person}",
                seen=f"{self.home} is not a demo workspace",
                needed="your own login",
                next_step="leave --as (or WORKBENCH_PERSON) out",
            )
        return self.ownership.actor_of_os_login(login_of_process(), via=self._via)

    def _cleaned(self, words: str) -> str:
        """What somebody wrote, without personal data; the key for that is read when something is written."""
        return self.redactor.text(words, None)

    def _declaration(self, app: str, kind: str) -> Spec | None:
        return self.versions.declaration(app, kind)

    def _apps(self) -> tuple[str, ...]:
        return self.versions.apps()

    def _secret(self, name: str) -> bytes:
        from workbench.ledger.settings import get_or_create

        return bytes.fromhex(get_or_create(self.ledger, name, lambda: secrets.token_hex(32)))
