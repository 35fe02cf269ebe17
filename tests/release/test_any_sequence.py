"""Whatever three people do in whatever order: nobody's candidate serves without a valid approval, and the route is what the releases say.

The oracle is the audit, replayed by rules of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.release.house import APP, PLAN, SPECS, Clock, House, person
from workbench.errors import ConflictError, NotPermitted, ReleaseRefused
from workbench.ledger.audit import AuditEntry, verify
from workbench.ledger.store import Ledger
from workbench.readiness.model import ReviewVerdict
from workbench.release.model import Release

WHO = st.sampled_from(["requester", "approver", "both"])
BUNDLE = st.sampled_from(["v1", "v2", "v3"])
VERDICT = st.sampled_from([ReviewVerdict.GO, ReviewVerdict.GO, ReviewVerdict.NO_GO])
TARGET = st.sampled_from([None, None, "last-good", "off", "v1", "v2"])
DISTURBANCE = st.sampled_from(["", "", "", "wait", "review", "plan", "skip"])
SPAN = st.sampled_from([timedelta(minutes=30), timedelta(hours=1), timedelta(hours=4), timedelta(hours=25), timedelta(days=3)])


REGISTRARS = {"v2": "both", "v3": "requester"}


class Company(RuleBasedStateMachine):
    """Three people who do anything."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="release-"))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.clock = Clock()
        self.ledger = Ledger.open(f"sqlite:///{self.folder}/ledger.sqlite", clock=self.clock)
        self.house = House(self.ledger, self.folder / "shop", self.clock, specs={}, registrars=REGISTRARS)
        self.n_plans = 0

    def teardown(self) -> None:
        try:
            self.check_the_record()
        finally:
            self.ledger.close()
            shutil.rmtree(self.folder)

    def check_the_record(self) -> None:
        """What the audit tells of the whole sequence: it is whole, and every candidate that ever served was approved."""
        entries = self.house.audit(100_000)
        with self.ledger.read() as connection:
            assert verify(connection).is_whole
        for entry in entries:
            if entry.act == "release.promote":
                holds = is_approved if entry.detail["from"] != "CANARY" else still_holds
                assert holds(entry, [earlier for earlier in entries if earlier.seq < entry.seq]), entry

    def attempt(self, act, *args, **named) -> None:
        """An act that the rules may refuse; whatever else it raises is a fault."""
        before = (self.house.route, self.house.releases.history(APP))
        try:
            act(*args, **named)
        except (ReleaseRefused, NotPermitted, ConflictError):
            assert (self.house.route, self.house.releases.history(APP)) == before, "a refused act changed something"

    @initialize(is_adopted=st.booleans())
    def enter(self, is_adopted: bool) -> None:
        if is_adopted:
            self.house.releases.adopt(APP, "v1", reason="serves", actor=person("approver"))

    @rule(who=WHO, bundle=BUNDLE, verdict=VERDICT)
    def start(self, who: str, bundle: str, verdict: ReviewVerdict) -> None:
        self.house.reviewer.verdict = verdict
        self.attempt(self.house.releases.start, APP, bundle, reason="x", actor=person(who))
        self.house.reviewer.verdict = ReviewVerdict.GO

    @rule(who=st.tuples(WHO, WHO, WHO), bundle=BUNDLE, first=DISTURBANCE, then=DISTURBANCE)
    def towards_a_canary(self, who: tuple[str, str, str], bundle: str, first: str, then: str) -> None:
        """The straight way, with something in between."""
        self.abort("both")
        self.start(who[0], bundle, ReviewVerdict.GO)
        self.disturb(first)
        (self.break_glass if first == "wait" else self.approve)(who[1])
        self.disturb(then)
        self.promote(who[2], "", 0)

    def disturb(self, how: str) -> None:
        match how:
            case "wait":
                self.clock.now += timedelta(hours=5)
            case "review":
                for bundle in ("v1", "v2", "v3"):
                    self.review(bundle, ReviewVerdict.GO, is_new=True)
            case "plan":
                self.plan_changes()
            case "skip":
                self.promote("both", "no time", 0)

    @rule(who=WHO)
    def approve(self, who: str) -> None:
        self.on_open(self.house.releases.approve, actor=person(who))

    @rule(who=WHO)
    def break_glass(self, who: str) -> None:
        self.on_open(self.house.releases.break_glass, reason="x", actor=person(who))

    @rule(who=WHO, number=st.integers(1, 5))
    def reviewed(self, who: str, number: int) -> None:
        if number <= len(self.house.releases.history(APP)):
            self.attempt(self.house.releases.reviewed, f"{APP}.{number}", verdict="justified", reason="x", actor=person(who))

    @rule(who=WHO)
    def reject(self, who: str) -> None:
        self.on_open(self.house.releases.reject, reason="x", actor=person(who))

    @rule(who=WHO, early=st.sampled_from(["", "no time"]), behind=st.sampled_from([0, 0, 0, 1]))
    def promote(self, who: str, early: str, behind: int) -> None:
        version = None if not self.open else self.open.version - behind
        self.on_open(self.house.releases.promote, early=early, expected_version=version, actor=person(who))

    @rule(who=WHO)
    def hold(self, who: str) -> None:
        self.on_open(self.house.releases.hold, reason="x", actor=person(who))

    @rule(who=WHO)
    def resume(self, who: str) -> None:
        self.on_open(self.house.releases.resume, actor=person(who))

    @rule(who=WHO)
    def abort(self, who: str) -> None:
        self.on_open(self.house.releases.abort, reason="x", actor=person(who))

    @rule(who=WHO, to=TARGET)
    def rollback(self, who: str, to: str | None) -> None:
        self.attempt(self.house.releases.rollback, APP, to=to, reason="x", actor=person(who))

    @rule(who=WHO, steal=st.booleans())
    def lock(self, who: str, steal: bool) -> None:
        self.attempt(self.house.releases.lock, APP, "x", steal=steal, actor=person(who))

    @rule(who=WHO)
    def unlock(self, who: str) -> None:
        self.attempt(self.house.releases.unlock, APP, "x", steal=True, actor=person(who))

    @rule(bundle=BUNDLE, verdict=VERDICT, is_new=st.booleans())
    def review(self, bundle: str, verdict: ReviewVerdict, is_new: bool) -> None:
        self.house.reviewer.evidence += is_new
        self.house.reviewer.verdict = verdict
        self.house.reviewer.review(APP, bundle, actor=person("approver"))
        self.house.reviewer.verdict = ReviewVerdict.GO

    @rule()
    def plan_changes(self) -> None:
        self.n_plans += 1
        self.house.declare(
            plan={**PLAN, "freeze": [], "steps": [{"share": 0.1, "at_least": f"{self.n_plans}m"}, {"share": 0.6, "at_least": "1m"}]}
        )

    @rule(span=SPAN, units=st.sampled_from([0, 100, 1000]))
    def time_passes(self, span: timedelta, units: int) -> None:
        self.clock.now += span
        self.house.units.n = units

    @invariant()
    def at_most_one_release_is_open(self) -> None:
        assert len(self.house.releases.open()) <= 1

    @invariant()
    def the_route_is_what_the_releases_say(self) -> None:
        route, releases = self.house.route, self.house.releases.history(APP)
        promoted = [release.bundle_id for release in releases if release.state == "PROMOTED"]
        serving = [release for release in releases if release.state in ("CANARY", "HELD")]
        if route is None:
            assert not promoted
            assert not serving
            return
        assert route.stable == (promoted[-1] if promoted else None)
        assert (route.candidate, route.share) == (
            (serving[0].bundle_id, serving[0].plan.steps[serving[0].step].share) if serving else (None, 0)
        )

    @invariant()
    def what_serves_can_be_switched_off(self) -> None:
        route = self.house.route
        if route is not None and (route.stable or route.candidate):
            off = self.house.releases.rollback(APP, to="off", reason="x", dry_run=True, actor=person("approver"))
            assert off.bundle_id is None

    @property
    def open(self) -> Release | None:
        return next(iter(self.house.releases.open()), None)

    def on_open(self, act, **named) -> None:
        """The act on the open release, or on the newest one that has ended."""
        releases = self.house.releases.history(APP)
        if releases:
            self.attempt(act, releases[-1].release_id, **named)


def is_approved(promotion: AuditEntry, before: list[AuditEntry]) -> bool:
    """Whether somebody else had approved the release when it entered its canary, or one alone, and nothing had changed under it since."""
    of_release = [entry for entry in before if entry.subject == promotion.subject]
    started = next(entry for entry in of_release if entry.act == "release.start")
    ready = next(entry for entry in of_release if entry.act == "release.ready")
    decisions = [entry for entry in of_release if entry.act in ("release.approve", "release.break_glass", "release.reject")]
    approval = decisions[-1] if decisions else None
    if approval is None or approval.act == "release.reject":
        return False
    bundle, review = promotion.detail["bundle"], ready.detail["review"]
    registered = next(entry for entry in before if entry.act == "bundle.register" and entry.subject == bundle)
    since_ready = [entry for entry in before if entry.seq > ready.seq]
    reviews = [entry for entry in since_ready if entry.act == "review" and entry.subject == bundle]
    others = {"approver", "both"} - {started.actor, registered.actor}
    is_alone = approval.act == "release.break_glass"
    is_right = approval.actor in {"requester", "both"} - others and owes_nothing(approval, before) if is_alone else approval.actor in others
    is_in_time = promotion.time - approval.time < timedelta(hours=1 if is_alone else 4)
    is_same = approval.detail["binds"]["review"] == review and (not reviews or reviews[-1].detail["review_id"] == review)
    is_declared = not any(entry.act in ("declare", "declare.people") for entry in since_ready)
    return is_right and is_in_time and is_same and is_declared


def owes_nothing(broken: AuditEntry, before: list[AuditEntry]) -> bool:
    """Whether no earlier release that went alone had waited for its review for three days."""
    earlier = [entry for entry in before if entry.seq < broken.seq]
    late = [entry for entry in earlier if entry.act == "release.break_glass" and broken.time - entry.time >= timedelta(days=3)]
    return all(
        any(done.act == "release.reviewed" and done.subject == entry.subject and done.seq > entry.seq for done in earlier) for entry in late
    )


def still_holds(promotion: AuditEntry, before: list[AuditEntry]) -> bool:
    """Whether nothing was declared since the release was found ready, and the newest review of its bundle lets it go on."""
    ready = next(entry for entry in before if entry.act == "release.ready" and entry.subject == promotion.subject)
    reviews = [entry for entry in before if entry.act == "review" and entry.subject == promotion.detail["bundle"]]
    is_declared = not any(entry.act in ("declare", "declare.people") for entry in before if entry.seq > ready.seq)
    return is_declared and reviews[-1].detail["verdict"] == "GO"


@pytest.mark.slow
def test_no_sequence_of_acts_gets_around_the_rules(tmp_path):
    clock = Clock()
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock)
    House(ledger, tmp_path / "shop", clock, specs={**SPECS, "plan": {**PLAN, "freeze": []}}, registrars=REGISTRARS)
    ledger.close()
    machine = type("CompanyHere", (Company,), {"template": tmp_path})
    checked = settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=checked)
