"""The thread that scores live answers: nothing without scorers, one gateway at a time, on after a fault; and its figures."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from tests.gateway.test_metrics import FLUSH, STATUS, read
from workbench.errors import StoreError
from workbench.evaluation.model import ScoringStatus
from workbench.gateway.metrics import Meter, exposition
from workbench.gateway.scoring import ScoreLoop

LONGEST_S = 30


class Scores:
    """What scores; it fails at its first look."""

    def __init__(self) -> None:
        self.n, self.n_closed = 0, 0
        self.third = threading.Event()
        self.status = ScoringStatus(is_on=True, scores={("shop", "quality"): 3})

    def score_new(self) -> int:
        self.n += 1
        if self.n == 1:
            raise StoreError("lake", seen="it is locked")
        if self.n == 3:
            self.third.set()
        return 0

    def close(self) -> None:
        self.n_closed += 1


class Lease:
    """A part in a lease that says what it is told."""

    def __init__(self, *, leads: bool) -> None:
        self.is_held, self.has_resigned, self.asked = leads, False, threading.Event()

    @property
    def token(self) -> int | None:
        return 1 if self.is_held else None

    def leads(self) -> bool:
        self.asked.set()
        return self.is_held

    def resign(self) -> None:
        self.has_resigned = True


def test_whoever_leads_scores_and_goes_on_after_a_fault():
    scores, lease = Scores(), Lease(leads=True)
    with ScoreLoop(lambda: scores, is_wanted=lambda: True, leadership=lambda: lease, turn_s=0.001) as loop:
        assert scores.third.wait(LONGEST_S)
    assert (loop.status.is_leading, loop.status.fault, loop.status.scores) == (True, None, {("shop", "quality"): 3})
    assert (scores.n_closed, lease.has_resigned) == (1, True)


def test_whoever_does_not_lead_makes_nothing():
    lease, made = Lease(leads=False), []
    with ScoreLoop(lambda: made.append(1), is_wanted=lambda: True, leadership=lambda: lease, turn_s=0.001) as loop:
        assert lease.asked.wait(LONGEST_S)
    assert (made, loop.status.is_leading) == ([], False)


def test_without_declared_scorers_no_lease_is_taken():
    asked, taken = threading.Event(), []

    def is_wanted() -> bool:
        asked.set()
        return False

    with ScoreLoop(lambda: None, is_wanted=is_wanted, leadership=lambda: taken.append(1), turn_s=0.001):
        assert asked.wait(LONGEST_S)
    assert taken == []
    with ScoreLoop(None, is_wanted=lambda: True, leadership=lambda: taken.append(1)) as off:
        assert not off.status.is_on
    assert taken == []


def test_metrics_tell_of_scores_and_of_answers_without_one():
    def told(scoring: ScoringStatus | None) -> dict[str, float]:
        now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        text = exposition(Meter(), STATUS, FLUSH, spool_pressure=0, keys_age_s=0, is_ready=True, now=now, scoring=scoring)
        return {name: value for name, value in read(text).items() if name.startswith("scor")}

    assert told(None) == {}
    scored = ScoringStatus(
        is_on=True, is_leading=True, scores={("shop", "quality"): 3}, faults={("shop", "quality", "late"): 2}, behind={"shop": 7}
    )
    assert told(scored) == {
        "scoring_leading": 1,
        "scoring_fault": 0,
        'scores_total{app="shop",score="quality"}': 3,
        'score_faults_total{app="shop",score="quality",kind="late"}': 2,
        'score_backlog{app="shop"}': 7,
    }
