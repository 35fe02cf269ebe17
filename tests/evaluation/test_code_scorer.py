"""A declared scorer in its process: what it may say, what happens when it raises, hangs or dies, and that it has no keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from workbench.evaluation.code_scorer import CodeScorer
from workbench.evaluation.model import Done, ScoredRequest, ScoreValue
from workbench.evaluation.scorer import ScorerFault, score_value
from workbench.spec.online import ScorerSpec

REQUEST = ScoredRequest(
    app="shop",
    request_id="r1",
    workflow="orders",
    status="ok",
    is_fallback=False,
    input={"messages": [{"role": "user", "content": "Where is it?"}]},
    output=[{"index": 0, "message": {"role": "assistant", "content": "On its way."}}],
    steps=(Done(kind="tool", name="order", status="ok", arguments={"id": 7}, result={"state": "sent"}),),
)


def scorer(code: str, *, timeout_s: float = 10.0, entry: str = "rules:score") -> CodeScorer:
    spec = ScorerSpec(name="quality", entry=entry, timeout=timedelta(seconds=timeout_s))
    return CodeScorer(spec, {"rules.py": code})


def fault_of(one: CodeScorer) -> str:
    with pytest.raises(ScorerFault) as caught:
        one.score(REQUEST)
    return caught.value.kind


def test_a_scorer_sees_the_question_the_answer_and_what_was_done() -> None:
    code = """
async def score(request):
    seen = [request.question, request.answer, request.steps[0].name, request.steps[0].result["state"], hasattr(request, "arm")]
    print("words on standard output")
    return {"value": 0.5, "explanation": repr(seen)}
"""
    one = scorer(code)
    try:
        said = one.score(REQUEST)
        assert said == ScoreValue(value=0.5, explanation="['Where is it?', 'On its way.', 'order', 'sent', False]")
        assert one.score(REQUEST) == said
    finally:
        one.close()


def test_what_a_scorer_does_wrong_is_told_and_the_next_answer_is_scored() -> None:
    code = """
import os, sys
n = 0
def score(request):
    word = request.request_id
    if word == "raises": raise ValueError("the answer was: secret")
    if word == "hangs":
        while True: pass
    if word == "dies": os._exit(3)
    if word == "exits": sys.exit(0)
    if word == "nan": return float("nan")
    if word == "stars": return 4
    if word == "nothing": return None
    return 1
"""
    one = scorer(code, timeout_s=1.0)
    expected = {"raises": "failed", "hangs": "late", "dies": "ended", "exits": "ended", "nan": "invalid", "stars": "invalid"}
    seen: dict[str, str] = {}
    try:
        for word in expected:
            request = ScoredRequest(app="shop", request_id=word, workflow=None, status="ok", is_fallback=False, input=None, output="x")
            with pytest.raises(ScorerFault) as caught:
                one.score(request)
            seen[word] = caught.value.kind
            assert "secret" not in str(caught.value)
            assert one.score(REQUEST) == ScoreValue(value=1.0)
        assert seen == expected
        nothing = ScoredRequest(app="shop", request_id="nothing", workflow=None, status="ok", is_fallback=False, input=None, output="x")
        assert one.score(nothing) is None
    finally:
        one.close()


@pytest.mark.parametrize("code", ["import nothing_of_this_name", "def other(request): ...", "def score(:", "raise SystemExit"])
def test_code_that_cannot_be_loaded_is_told(code: str) -> None:
    one = scorer(code)
    assert fault_of(one) == "not_loaded"
    one.close()


def test_a_scorer_has_no_environment_and_cannot_read_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_VAULT_KEY", "0" * 64)
    one = scorer(
        "import os, sys\ndef score(request):\n    return str([name for name in os.environ if 'WORKBENCH' in name]) + sys.stdin.read()"
    )
    try:
        assert one.score(REQUEST) == ScoreValue(label="[]")
    finally:
        one.close()


def test_a_closed_scorer_leaves_no_process() -> None:
    one = scorer("import os\ndef score(request):\n    return str(os.getpid())")
    said = one.score(REQUEST)
    one.close()
    assert said is not None
    assert not Path(f"/proc/{said.label}").exists()


def test_its_id_names_its_code() -> None:
    here, there, elsewhere = scorer("a = 1"), scorer("a = 2"), scorer("a = 1", entry="rules:other")
    assert len({one.scorer_id for one in (here, there, elsewhere)}) == 3
    assert here.scorer_id == scorer("a = 1").scorer_id
    assert here.scorer_id.startswith("rules:score@")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (0, ScoreValue(value=0.0)),
        (True, ScoreValue(value=1.0)),
        ("rude", ScoreValue(label="rude")),
        ({"value": 0.25, "label": "short"}, ScoreValue(value=0.25, label="short")),
        (None, None),
    ],
)
def test_a_score_is_a_number_a_label_or_nothing(said: object, value: ScoreValue | None) -> None:
    assert score_value(said) == value


@pytest.mark.parametrize("said", [-0.01, 1.01, float("inf"), [1], {}, {"score": 1}, {"value": "1"}, {"value": 1, "label": 3}, 10**400])
def test_anything_else_is_no_score(said: object) -> None:
    with pytest.raises(ScorerFault) as caught:
        score_value(said)
    assert caught.value.kind == "invalid"
