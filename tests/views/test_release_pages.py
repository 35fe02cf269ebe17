"""Releases as people read them: where one stands, what serves, what happens next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workbench.ledger.audit import AuditEntry
from workbench.release.model import Approval, Binding, Kind, Lock, LockKind, Release, ReleaseStatus, State
from workbench.spec.base import is_steering
from workbench.spec.plan import PlanSpec
from workbench.views.release import STATES, history_text, lock_text, release_page, release_sentence, status_text, transition_line

NOW = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)
OLD, NEW = "shop@111111111111", "shop@222222222222"
PLAN = PlanSpec.model_validate({"steps": [{"share": 0.05, "at_least": "30m", "min_units": 1200}, {"share": 1.0, "at_least": "1h"}]})
RELEASE = Release(
    release_id="shop.2",
    app="shop",
    kind=Kind.RELEASE,
    state=State.CANARY,
    step=0,
    bundle_id=NEW,
    previous_stable=OLD,
    plan=PLAN,
    plan_digest="sha256:" + "ab" * 32,
    review_id="sha256:" + "cd" * 32,
    reason="better answers",
    requested_by="requester",
    requested_at=NOW,
    step_since=NOW,
    note="",
    ended_at=None,
    version=4,
    names={OLD: "v1", NEW: "v2"},
)
BINDS = Binding(bundle="sha256:1", review="sha256:2", plan="sha256:3")
STATUS = ReleaseStatus(
    app="shop",
    at=NOW,
    stable=OLD,
    candidate=NEW,
    share=0.05,
    route_version=2,
    without_stable="fallback",
    release=RELEASE,
    approvals=(
        Approval(
            release_id="shop.2", person="approver", is_approved=True, binds=BINDS, decided_at=NOW, expires_at=NOW + timedelta(hours=4)
        ),
    ),
    objection=None,
    may_approve=(),
    units=1040,
    waits=("the step takes 1,200 different units; the candidate has served 1,040",),
    lock=None,
    freeze=None,
    last_good=None,
    next_steps=("It waits: for more.",),
    names={OLD: "v1", NEW: "v2"},
)


def test_a_canary_is_shown_with_both_arms_its_steps_and_what_comes_next():
    text = status_text(STATUS)
    assert text.startswith(f"◕ CANARY   shop.2: release of v2 ({NEW})")
    for words in (
        f"v2 ({NEW}) serves 5.0 % of the units, at step 1 of 2",
        "requester asked for it: better answers",
        "95.0 %",
        "1,040",
        "approver approved it at 2026-10-05 09:00 UTC, for use until 13:00 UTC",
        "It waits: for more.",
        "review cdcdcdcdcdcd, plan abababababab; version 4",
    ):
        assert words in text, words
    present = next(line for line in text.splitlines() if "▶" in line)
    assert present.split() == ["▶", "1", "5.0", "%", "30m", "1,200", "1,040"]


def test_before_the_first_release_nothing_is_claimed():
    empty = replace(
        STATUS, stable=None, candidate=None, share=0.0, route_version=None, without_stable=None, release=None, freeze="holidays"
    )
    text = status_text(empty)
    assert "shop: no release yet" in text
    assert "holidays" in text


def test_where_no_bundle_serves_it_says_what_users_get():
    ended = replace(RELEASE, state=State.ROLLED_BACK, note="rolled back by night: bad", ended_at=NOW)
    text = status_text(replace(STATUS, stable=None, candidate=None, share=0.0, release=ended, without_stable="off"))
    assert "Users get nothing: the app is off; rolled back by night: bad" in text
    assert "↩" in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, f"shop.2, v2 ({NEW}), is CANARY at step 1 of 2, its candidate serves 5.0 % of the units"),
        ({"state": State.READY, "step": None}, f"shop.2, v2 ({NEW}), is READY"),
        ({"state": State.ABORTED, "note": "no", "names": {}}, f"shop.2, {NEW}, is ABORTED: no"),
        (
            {"kind": Kind.ROLLBACK, "state": State.PROMOTED, "bundle_id": OLD, "previous_stable": NEW},
            f"shop.2: requester rolled shop back from v2 ({NEW}) to v1 ({OLD}): better answers",
        ),
        (
            {"kind": Kind.ROLLBACK, "state": State.PROMOTED, "bundle_id": None, "previous_stable": NEW},
            f"shop.2: requester rolled shop back from v2 ({NEW}) to no bundle: better answers",
        ),
        ({"kind": Kind.ADOPT, "state": State.PROMOTED}, f"shop.2: requester named v2 ({NEW}) as what serves shop: better answers"),
    ],
)
def test_a_release_is_told_in_one_sentence(change, sentence: str):
    assert release_sentence(replace(RELEASE, **change)) == sentence


def test_a_history_has_the_newest_on_top_and_says_why_each_ended():
    first = replace(RELEASE, release_id="shop.1", state=State.PROMOTED, bundle_id=OLD, previous_stable=None)
    second = replace(RELEASE, state=State.ABORTED, note="aborted by both: no")
    text = history_text("shop", [first, second])
    assert text.index("shop.2") < text.index("shop.1")
    assert "requester: better answers; aborted by both: no" in " ".join(text.split())
    assert "Nothing of this app was released yet." in history_text("shop", [])


@pytest.mark.parametrize(
    ("act", "detail", "line"),
    [
        ("release.start", {"bundle": NEW, "to": "DRAFT", "reason": "better"}, f"a release of {NEW}: better"),
        ("release.ready", {"to": "READY"}, "ready: its readiness review is GO"),
        ("release.stop", {"to": "ABORTED", "reason": "stopped at its gates: bad"}, "stopped at its gates: bad"),
        ("release.approve", {"to": "APPROVED", "expires_at": "2026-10-05T13:00:00+00:00"}, "approved until 2026-10-05 13:00 UTC"),
        ("release.promote", {"to": "CANARY", "share": 0.05}, "promoted, its candidate serves 5.0 % of the units"),
        ("release.promote", {"to": "PROMOTED", "share": 0, "early": "no time"}, "promoted, its bundle serves everybody, early: no time"),
        ("release.hold", {"to": "HELD", "reason": "odd"}, "held: odd"),
        ("rollback", {"to": "ROLLED_BACK", "from": "CANARY", "bundle": NEW, "reason": "bad"}, "rolled back: bad"),
        ("rollback", {"to": "PROMOTED", "from": None, "bundle": OLD, "reason": "bad"}, f"rolled back to {OLD}: bad"),
        ("rollback", {"to": "PROMOTED", "from": None, "bundle": None, "reason": "bad"}, "rolled back to no bundle: bad"),
        ("release.abort", {"to": "ABORTED", "reason": "no"}, "aborted: no"),
    ],
)
def test_each_change_is_told_from_its_audit_entry(act: str, detail: dict[str, object], line: str):
    entry = AuditEntry(
        seq=1,
        time=NOW,
        actor="os:me",
        via="cli",
        assurance="local",
        act=act,
        app="shop",
        subject="shop.2",
        detail=detail,
        previous="",
        digest="",
    )
    assert transition_line(entry) == f"2026-10-05 09:00 UTC, os:me: {line}"
    assert transition_line(replace(entry, detail={**detail, "person": "primary"})) == f"2026-10-05 09:00 UTC, primary: {line}"


def test_nothing_that_somebody_typed_steers_the_screen():
    evil = "\x1b[2J\u202eno"
    release = replace(RELEASE, reason=evil, note=evil, requested_by=evil)
    lock = Lock(app="shop", kind=LockKind.LOCK, holder=evil, reason=evil, since=NOW)
    texts = [status_text(replace(STATUS, release=release, lock=lock, freeze=evil)), history_text("shop", [release]), lock_text(lock)]
    assert not any(is_steering(character) for text in texts for character in text)


def test_every_state_has_its_own_word_and_shape():
    assert set(STATES) == set(State)
    assert len({chip.word for chip in STATES.values()}) == len({chip.shape for chip in STATES.values()}) == len(State)
    assert release_page(replace(RELEASE, state=State.HELD)).banner == STATES[State.HELD]
