"""Presidio runs in processes of its own; here a small package of its name stands in for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.controls.guards.policies import broken, guards
from workbench.controls.guards.model import Action
from workbench.errors import UsageError

POLICY = "streaming: hold_all\nsecrets: []\npresidio: {stages: [input, output], entities: [PERSON], timeout: 20s, on_error: handoff}"
PACKAGE = """
import os, time
from types import SimpleNamespace

class AnalyzerEngine:
    def analyze(self, text, language, entities, score_threshold):
        if "hang" in text:
            time.sleep(3600)
        if "die" in text:
            os._exit(1)
        if "fail" in text:
            raise ValueError(text)
        if "nonsense" in text:
            return [SimpleNamespace(start=5, end=10_000, entity_type="PERSON")]
        at = text.find("Ann")
        return [SimpleNamespace(start=at, end=at + 3, entity_type="PERSON")] if at >= 0 else []
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "presidio_analyzer").mkdir()
    (tmp_path / "presidio_analyzer" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_without_presidio_the_bundle_cannot_be_served_and_the_error_says_how_to_install_it() -> None:
    with pytest.raises(UsageError, match=r'pip install "readiness-workbench\[presidio\]"'):
        guards(POLICY)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_names_are_taken_out_and_whatever_goes_wrong_is_an_order() -> None:
    policy = guards(POLICY)
    (guard,) = policy._slow[next(iter(policy._slow))]

    async def turns() -> None:
        checked = await policy.check_output("Dear Ann, hello")
        assert (checked.text, broken(checked.findings)) == ("Dear [person removed], hello", [("presidio.person", "redact", "matched")])
        assert broken((await policy.check_output("Dear all")).findings) == []
        told = await policy.redacted_input([{"role": "user", "content": "I am Ann"}])
        assert told == ({"role": "user", "content": "I am [person removed]"},)
        for text in ("fail please", "nonsense"):
            assert broken((await policy.check_output(text)).findings) == [("presidio", "handoff", "error")]
        guard.timeout_s = 0.5
        for text in ("hang now", "die now"):
            checked = await policy.check_output(text)
            assert (checked.action, broken(checked.findings)) == (Action.HANDOFF, [("presidio", "handoff", "timeout")])
        guard.timeout_s = 20.0
        assert (await policy.check_output("Dear Ann")).text == "Dear [person removed]"

    try:
        asyncio.run(turns())
    finally:
        guard.close()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("timeout_s", "is_ended"), [(60.0, False), (0.05, True)])
def test_a_caller_who_leaves_ends_no_process_in_which_others_wait(
    timeout_s: float, is_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = guards(POLICY)
    (guard,) = policy._slow[next(iter(policy._slow))]
    guard.timeout_s = timeout_s
    ended: list[None] = []
    monkeypatch.setattr(guard, "close", lambda: ended.append(None))
    monkeypatch.setattr(guard, "_analysed", lambda _text: asyncio.sleep(3600))

    async def turn() -> None:
        checking = asyncio.create_task(policy.check_output("Dear Ann"))
        await asyncio.sleep(0.1)
        checking.cancel()
        await asyncio.wait([checking])

    asyncio.run(turn())
    assert bool(ended) == is_ended
