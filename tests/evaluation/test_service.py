"""Live answers scored from a real log: which, once, in both arms alike, whatever comes late, twice, or fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.release.house import Clock
from workbench.demo.place import fresh_workspace
from workbench.evaluation.model import ScoredRequest, ScoreValue
from workbench.evaluation.online import is_chosen
from workbench.evaluation.scorer import ScorerFault
from workbench.evaluation.service import MOST_FAULTS, Evaluation
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table
from workbench.workspace import Workspace

START = datetime(2026, 10, 5, 9, tzinfo=UTC)
RULES = """
def answer_quality(request):
    return 1.0 if "good" in request.answer else 0.25
"""


@dataclass
class Told:
    """A scorer that says what it is told."""

    name: str = "quality"
    source: str = "rule"
    scorer_id: str = "told@1"
    says: Any = 0.5
    seen: list[ScoredRequest] = field(default_factory=list)
    is_closed: bool = False

    def score(self, request: ScoredRequest) -> ScoreValue | None:
        self.seen.append(request)
        if isinstance(self.says, BaseException):
            raise self.says
        return None if self.says is None else ScoreValue(value=self.says, explanation="write to anna@example.com")

    def close(self) -> None:
        self.is_closed = True


class Shop:
    """An app with a log."""

    def __init__(self, ws: Workspace, folder: Path, clock: Clock, app: str) -> None:
        self.ws, self.folder, self.clock, self.app = ws, folder, clock, app
        (folder / "scorers").mkdir(parents=True)
        (folder / "app.yaml").write_text(f"app: {app}\ntitle: Shop\nrisk_tier: low\n")
        (folder / "scorers/rules.py").write_text(RULES)

    def declare(self, *, sample: float = 1.0) -> None:
        scorer = {"name": "quality", "entry": "scorers.rules:answer_quality", "timeout": "20s"}
        content = {"sample": sample, "code": ["scorers/rules.py"], "scorers": [scorer]}
        (self.folder / "online.yaml").write_text(json.dumps(content))
        self.ws.versions.declare(self.folder)
        self.clock.forward(seconds=1)

    def log(self, *rows: dict[str, Any]) -> None:
        self.ws.logs.record({"requests": list(rows)})
        self.ws.logs.flush()
        self.clock.forward(seconds=1)

    def row(self, request_id: str, arm: str = "stable", **values: Any) -> dict[str, Any]:
        answer = values.pop("answer", "a good answer")
        return {
            "request_id": request_id,
            "app": self.app,
            "ts_start": self.clock.now,
            "arm": arm,
            "status": "ok",
            "revision": 1,
            "is_final": True,
            "input": json.dumps({"messages": [{"role": "user", "content": "Why?"}]}),
            "output": None if answer is None else json.dumps([{"message": {"content": answer}}]),
            **values,
        }

    def evaluation(self, *scorers: Told) -> Evaluation:
        ws = self.ws
        opened: Sequence[Told] = scorers or (Told(),)
        sealer = Sealer(ws.redactor, ws.unit_key)
        return Evaluation(ws.lake, ws.logs, ws.versions, sealer=sealer, clock=ws.clock, scorers=lambda _spec: opened)

    def scores(self) -> list[tuple[Any, ...]]:
        sql = (
            "SELECT request_id, name, value, scorer_id, source, sample_probability, explanation FROM lake.scores WHERE app = ? ORDER BY ALL"
        )
        return self.ws.lake.read(lambda connection: connection.execute(sql, [self.app]).fetchall())

    def undeclare(self) -> None:
        (self.folder / "online.yaml").unlink(missing_ok=True)
        self.ws.versions.declare(self.folder)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Clock]]:
    """One log for all tests, each of which has an app of its own."""
    clock, place = Clock(START), tmp_path_factory.mktemp("scored")
    with fresh_workspace(place / "ws"):
        pass
    with Workspace.open(place / "ws", clock=clock) as ws:
        yield ws, clock


@pytest.fixture
def shop(workspace: tuple[Workspace, Clock], tmp_path: Path) -> Iterator[Shop]:
    ws, clock = workspace
    shop = Shop(ws, tmp_path / "app", clock, app=f"shop{len(ws.versions.apps())}")
    yield shop
    shop.undeclare()


def test_declared_code_scores_what_is_answered_from_then_on(shop: Shop) -> None:
    shop.log(shop.row("before"))
    shop.declare(sample=0.999999)
    shop.log(shop.row("good"), shop.row("bad", "candidate", answer="no"))
    assert shop.ws.evaluation.score_new() == 2
    scored = [(request_id, value, source, p) for request_id, _, value, _, source, p, _ in shop.scores()]
    assert scored == [("bad", 0.25, "rule", 0.999999), ("good", 1.0, "rule", 0.999999)]
    assert shop.scores()[0][3].startswith("scorers.rules:answer_quality@")
    assert shop.ws.evaluation.score_new() == 0


def test_both_arms_are_sampled_alike_and_the_probability_is_stored(shop: Shop) -> None:
    shop.declare(sample=0.3)
    ids = [f"r{number}" for number in range(300)]
    shop.log(*(shop.row(f"{arm}-{name}", arm) for name in ids for arm in ("stable", "candidate")))
    shop.evaluation().score_new()
    scored = {row[0] for row in shop.scores()}
    assert scored == {f"{arm}-{name}" for name in ids for arm in ("stable", "candidate") if is_chosen(f"{arm}-{name}", "quality", 0.3)}
    assert {row[5] for row in shop.scores()} == {0.3}


def test_what_reached_somebody_is_scored_and_what_failed_is_worth_nothing(shop: Shop) -> None:
    shop.declare()
    shop.log(
        shop.row("shadow", "shadow"),
        shop.row("none", "none"),
        shop.row("begun", revision=0, is_final=False, status="unknown"),
        shop.row("error", status="error"),
        shop.row("late", status="timeout", answer=None),
        shop.row("left", status="cancelled", answer=None),
        shop.row("blocked", status="blocked"),
        shop.row("empty", answer=None),
        shop.row("fallback", is_fallback=True),
        shop.row("cut", status="truncated"),
    )
    told = Told()
    shop.evaluation(told).score_new()
    assert [(one.request_id, one.is_fallback) for one in told.seen] == [("blocked", False), ("cut", False), ("fallback", True)]
    assert {row[0]: row[2] for row in shop.scores()} == {"blocked": 0.5, "cut": 0.5, "error": 0.0, "fallback": 0.5, "late": 0.0}


def test_what_comes_late_is_scored_and_a_correction_is_not_scored_again(shop: Shop) -> None:
    shop.declare()
    evaluation = shop.evaluation()
    shop.log(shop.row("a"), shop.row("b", revision=0, is_final=False, status="unknown"))
    evaluation.score_new()
    shop.clock.forward(hours=5)
    shop.log(shop.row("b"), shop.row("a", revision=2, answer="another word"))
    evaluation.score_new()
    shop.log(shop.row("b", revision=2))
    evaluation.score_new()
    assert [row[0] for row in shop.scores()] == ["a", "b"]


def test_another_process_goes_on_where_the_last_one_ended(shop: Shop) -> None:
    shop.declare()
    shop.log(shop.row("a"), shop.row("b"))
    assert shop.evaluation().score_new() == 2
    shop.log(shop.row("c"))
    late, soon = Told(), Told()
    assert shop.evaluation(soon).score_new() == 1
    assert shop.evaluation(late).score_new() == 0
    assert ([one.request_id for one in soon.seen], late.seen) == (["c"], [])


def test_of_two_that_look_at_once_one_stores(shop: Shop) -> None:
    """The slower one read before the faster one stored; what both saw is scored once, what came in between too."""
    shop.declare()
    shop.log(shop.row("a"), shop.row("b"))

    class Slow(Told):
        def score(self, request: ScoredRequest) -> ScoreValue | None:
            if not self.seen:
                assert shop.evaluation().score_new() == 2
                shop.log(shop.row("a", revision=2), shop.row("c"))
            return super().score(request)

    slow = shop.evaluation(Slow())
    assert slow.score_new() == 0
    assert slow.score_new() == 1
    assert [row[0] for row in shop.scores()] == ["a", "b", "c"]


def test_a_stretch_that_another_stored_in_part_is_completed_without_repeating_it(shop: Shop) -> None:
    shop.declare()
    shop.log(shop.row("a"))

    class Between:
        """The log, read late and stored later: another process scores the first batch in between."""

        def append(self, batch: Any, **about: Any) -> bool:
            if not shop.scores():
                rows = batch["scores"].to_pylist()
                seq = min(row["seq"] for row in rows)
                assert about["from_seq"] <= seq < about["to_seq"]
                first = {**about, "to_seq": seq}
                shop.ws.logs.append({"scores": arrow_table("scores", [row for row in rows if row["seq"] == seq])}, **first)
            return shop.ws.logs.append(batch, **about)

    shop.log(shop.row("b"), shop.row("a", revision=2))
    evaluation = shop.evaluation()
    evaluation._logs = Between()  # type: ignore[assignment]
    evaluation.score_new()
    assert [row[0] for row in shop.scores()] == ["a", "b"]


def test_killed_before_it_stored_nothing_is_lost_or_doubled(shop: Shop) -> None:
    shop.declare()
    shop.log(shop.row("a"), shop.row("b"))
    dying = Told(says=SystemExit())
    with pytest.raises(SystemExit):
        shop.evaluation(dying).score_new()
    assert shop.scores() == []
    assert shop.evaluation().score_new() == 2


def test_another_version_of_a_scorer_does_not_judge_an_answer_again(shop: Shop) -> None:
    shop.declare(sample=1.0)
    shop.log(shop.row("a"))
    assert shop.ws.evaluation.score_new() == 1
    (shop.folder / "scorers/rules.py").write_text(RULES.replace("0.25", "0.5"))
    shop.declare()
    shop.log(shop.row("a", revision=2), shop.row("b"))
    assert shop.ws.evaluation.score_new() == 1
    assert len({row[3] for row in shop.scores()}) == 2


def test_a_scorer_that_fails_is_counted_and_keeps_no_other_from_its_work(shop: Shop) -> None:
    shop.declare()
    bad, good, silent = Told(says=ScorerFault("late", "slow"), name="bad"), Told(name="good"), Told(says=None, name="silent")
    evaluation = shop.evaluation(bad, good, silent)
    shop.log(*(shop.row(f"r{number}") for number in range(MOST_FAULTS + 3)))
    assert evaluation.score_new() == MOST_FAULTS + 3
    assert {row[1] for row in shop.scores()} == {"good"}
    assert dict(evaluation.status.faults) == {(shop.app, "bad", "late"): MOST_FAULTS, (shop.app, "bad", "skipped"): 3}
    assert len(bad.seen) == MOST_FAULTS
    bad.says = 1.0
    shop.log(shop.row("next"))
    assert evaluation.score_new() == 2, "the next look tries it again"


def test_what_scorers_say_is_redacted_like_all_that_is_stored(shop: Shop) -> None:
    shop.declare()
    shop.log(shop.row("a"))
    shop.evaluation().score_new()
    assert "anna@example.com" not in shop.scores()[0][6]


def test_an_app_that_takes_its_scorers_away_is_scored_no_more(shop: Shop) -> None:
    shop.declare()
    shop.log(shop.row("a"))
    told = Told()
    evaluation = shop.evaluation(told)
    evaluation.score_new()
    shop.undeclare()
    shop.log(shop.row("b"))
    assert evaluation.score_new() == 0
    assert told.is_closed


def test_many_answers_are_looked_at_in_whole_batches(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.evaluation.service.MOST_AT_ONCE", 5)
    shop.declare()
    for batch in range(3):
        shop.log(*(shop.row(f"{batch}-{number}") for number in range(3)))
    shop.log(*(shop.row(f"3-{number}") for number in range(8)))
    evaluation, given, behind = shop.evaluation(), [], []
    while n := evaluation.score_new():
        given.append(n)
        behind.append(evaluation.status.behind[shop.app])
    assert (given, behind) == ([3, 3, 3, 8], [14, 11, 8, 0])


def test_before_the_first_row_there_is_nothing_to_do(shop: Shop) -> None:
    assert shop.ws.evaluation.score_new() == 0
    shop.declare()
    assert shop.ws.evaluation.score_new() == 0
