"""A streamed answer: what leaves when, what stands in the log, and how a stream that breaks says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tests.controls.test_service import Gate, refusal, until
from tests.controls.tiny import ASK, Desk, Model, put_route, register, serving
from workbench.controls.events import Finished, TextPart
from workbench.controls.guards.engine import Guards
from workbench.controls.guards.matches import Rule
from workbench.controls.guards.model import Action, Stage
from workbench.controls.guards.rules import open_guards
from workbench.controls.guards.slow import Verdict
from workbench.controls.guards.tool_calls import ToolPolicy, tool_policy
from workbench.controls.model import StreamBroken
from workbench.errors import RequestRefused
from workbench.spec.guards import GuardsSpec
from workbench.spec.loading import parse_spec

SENTENCE = "It is on its way, and it will be there in time. "
TEXT = SENTENCE * 40
"""Longer than what is always held back."""
SAYS = b"""
SENTENCE = "It is on its way, and it will be there in time. "


async def said(host, times):
    for _ in range(times):
        await host.say(SENTENCE)
        await host.clock.sleep(0)

"""
ALOUD = (
    SAYS
    + b"""
async def answer(messages, host):
    await said(host, 40)
    return {"content": SENTENCE * 40, "finish_reason": "stop"}
"""
)
BREAKS = (
    SAYS
    + b"""
async def answer(messages, host):
    await said(host, 40)
    raise RuntimeError("gone")
"""
)
OTHERWISE = (
    SAYS
    + b"""
async def answer(messages, host):
    await said(host, 40)
    return {"content": "It was.", "finish_reason": "stop"}
"""
)
STALLS = (
    SAYS
    + b"""
import asyncio

async def answer(messages, host):
    await said(host, 40)
    await asyncio.Event().wait()
"""
)


def release(ws, agent: bytes, **parts) -> None:
    put_route(ws, stable=register(ws, "aloud", agent=agent, **parts).bundle_id)


async def pieces_of(controls, **about) -> list:
    async with controls.stream("support", ASK, **about) as stream:
        return [piece async for piece in stream]


def text_of(pieces: Sequence) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPart))


def test_a_hosted_answer_leaves_piece_by_piece_and_its_end_is_recorded_before_the_last(ws, model):
    release(ws, ALOUD)
    gate = Gate()

    async def probe(controls):
        task = asyncio.create_task(pieces_of(controls, unit="u1"))
        await until(lambda: gate.pending)
        gate.pending.pop()[1].set_result(None)
        await until(lambda: gate.pending)
        assert not task.done()
        rows, future = gate.pending.pop()
        assert rows["requests"][0]["is_final"]
        future.set_result(None)
        return await task

    with serving(ws, model, log=gate) as controls:
        pieces = asyncio.run(probe(controls))
    assert text_of(pieces) == TEXT
    assert pieces[-1] == Finished(reason="stop")
    assert len(pieces) > 5


def test_the_first_pieces_leave_before_the_call_has_ended(ws, model, tape):
    release(ws, STALLS)

    async def probe(controls):
        async with controls.stream("support", ASK, unit="u1") as stream:
            first = await anext(stream)
            assert [row["is_final"] for row in tape.rows()] == [False]
            assert (stream.head.arm, stream.head.is_fallback) == ("stable", False)
            return first

    with serving(ws, model, log=tape) as controls:
        first = asyncio.run(probe(controls))
    assert TEXT.startswith(first.text)
    end = tape.last()
    assert (end["status"], end["error_type"]) == ("cancelled", "client_left")
    assert first.text in end["output"]


def test_an_answer_that_is_not_streamed_by_its_bundle_comes_whole(released, model, tape):
    with serving(released, model, log=tape) as controls:
        pieces = asyncio.run(pieces_of(controls))
    assert pieces == [TextPart(text="It is on its way."), Finished(reason="stop")]
    assert tape.last()["status"] == "ok"


def test_what_breaks_after_the_first_piece_is_no_clean_end_and_no_fallback_follows_it(ws, model, tape):
    release(ws, BREAKS)
    seen = []

    async def probe(controls):
        async with controls.stream("support", ASK) as stream:
            async for piece in stream:
                seen.append(piece)  # noqa: PERF401 - what came before it broke is wanted

    with serving(ws, model, log=tape) as controls, pytest.raises(StreamBroken) as broken:
        asyncio.run(probe(controls))
    assert broken.value.code == "RuntimeError"
    assert 0 < len(text_of(seen)) < len(TEXT)
    assert not any(isinstance(piece, Finished) for piece in seen)
    end = tape.last()
    assert (end["status"], end["is_fallback"], end["finish_reason"]) == ("error", False, None)
    assert json.loads(end["output"]) == {"content": text_of(seen)}
    assert not [span for span in tape.rows("spans") if span["kind"] == "fallback"], "no ending was given"


def test_what_breaks_before_anything_has_left_is_answered_by_the_fallback(ws, model, tape):
    release(ws, BREAKS.replace(b"said(host, 40)", b"said(host, 1)"))
    with serving(ws, model, log=tape) as controls:
        pieces = asyncio.run(pieces_of(controls))
    assert pieces == [TextPart(text="Please try again later."), Finished(reason="stop")]
    end = tape.last()
    assert (end["status"], end["error_type"], end["is_fallback"]) == ("error", "RuntimeError", True)


def test_an_answer_that_contradicts_what_was_said_is_broken(ws, model, tape):
    release(ws, OTHERWISE)
    with serving(ws, model, log=tape) as controls, pytest.raises(StreamBroken):
        asyncio.run(pieces_of(controls))
    assert tape.last()["status"] == "error"


def test_what_fails_before_the_first_piece_is_refused_with_its_own_status(released, tape):
    with serving(released, Model(), log=tape) as controls:
        with pytest.raises(RequestRefused) as refused:
            asyncio.run(pieces_of(controls, deadline_s=-1))
        assert refused.value.code == "deadline_passed"
        assert controls.status().in_flight == 0


def test_the_fallback_is_streamed_when_nothing_was_said(released, tape):
    def broken(_request):
        raise RuntimeError

    with serving(released, Model(broken), log=tape) as controls:
        pieces = asyncio.run(pieces_of(controls))
    assert pieces == [TextPart(text="Please try again later."), Finished(reason="stop")]
    assert tape.last()["is_fallback"]


def test_a_stream_past_its_deadline_is_broken_off(ws, model, tape):
    release(ws, STALLS)
    with serving(ws, model, log=tape) as controls, pytest.raises(StreamBroken) as broken:
        asyncio.run(pieces_of(controls, deadline_s=0.2))
    assert broken.value.code == "timeout"
    assert tape.last()["status"] == "timeout"


def test_a_reader_who_stops_reading_holds_the_model_back(ws, model, tape):
    release(ws, ALOUD.replace(b"said(host, 40)", b"said(host, 10_000)"))

    async def probe(controls):
        async with controls.stream("support", ASK) as stream:
            await anext(stream)
            for _ in range(200):
                await asyncio.sleep(0)
            return len(stream._outlet._waiting)

    with serving(ws, model, log=tape) as controls:
        assert asyncio.run(probe(controls)) <= 64


# What a guard finds


def no_way(*, streaming: str) -> Guards:
    """Blocks an answer with the words `no passage`."""
    topic = {"id": "no_way", "stages": ["output"], "phrases": ["no passage"], "sentence": "I cannot say that."}
    return open_guards(
        GuardsSpec.model_validate({"streaming": streaming, "topics": [topic]}),
        tools=(),
        thresholds={},
        prompts={},
        provider=lambda name: name,
        risk_tier="low",
        subject="the test",
    )


def guarded(controls, guards):
    """Put these guards on every bundle that is loaded."""
    for place in controls._shelf._places.values():
        place.future.result()._hosted.guards = guards


NO_WAY = ALOUD.replace(b"SENTENCE * 40", b'SENTENCE * 40 + "No passage."')


@pytest.mark.parametrize("streaming", ["window", "hold_all"])
def test_what_a_guard_blocks_never_leaves(ws, model, tape, streaming):
    release(ws, NO_WAY)
    with serving(ws, model, log=tape) as controls:
        asyncio.run(controls.handle("support", ASK))
        guarded(controls, no_way(streaming=streaming))
        pieces = asyncio.run(pieces_of(controls))
        whole = asyncio.run(controls.handle("support", ASK))
    assert pieces[-1] == Finished(reason="content_filter")
    text = text_of(pieces)
    assert "assage" not in text
    assert text.startswith(SENTENCE) if streaming == "window" else text == "I cannot say that."
    assert (whole.content, whole.status, whole.blocked_rules) == ("I cannot say that.", "blocked", ("no_way",))
    end = tape.last()
    assert (end["status"], list(end["blocked_rules"]), end["violation_rules"]) == ("blocked", ["no_way"], [])
    assert {(span["kind"], span["rule_id"]) for span in tape.rows("spans") if span["kind"] == "guard"} == {("guard", "no_way")}


FLAGGING = b"""
topics:
  - {id: tone, stages: [output], phrases: [in time], action: flag}
  - {id: end, stages: [output], phrases: [never said], action: flag}
"""


@pytest.mark.parametrize("streaming", ["window", "after"])
@pytest.mark.parametrize("agent", [BREAKS, STALLS], ids=["breaks", "is left"])
def test_what_left_of_an_answer_without_an_end_counts_where_a_rule_is_against_it(ws, model, tape, agent, streaming):
    spec = parse_spec(GuardsSpec, "guards.yaml", FLAGGING + f"streaming: {streaming}".encode())
    flagging = open_guards(spec, tools=(), thresholds={}, prompts={}, provider=lambda _: None, risk_tier="low", subject="b")

    async def probe(controls):
        with suppress(StreamBroken):
            async with controls.stream("support", ASK, unit="u1") as stream:
                async for _ in stream:
                    if agent is STALLS:
                        return

    release(ws, agent)
    with serving(ws, model, log=tape) as controls:
        guarded(controls, flagging)
        asyncio.run(probe(controls))
    end = tape.last()
    assert end["status"] in {"error", "cancelled"}
    assert list(end["violation_rules"]) == ["tone"]


class Judge:
    """Judges the input slowly."""

    rule_id = "judge"
    stages = frozenset({Stage.INPUT})
    on_error = Action.BLOCK
    timeout_s = 10.0
    redacts = False

    def __init__(self, action: Action) -> None:
        self._action = action
        self.judged = asyncio.Event()

    async def check(self, text, clock):
        assert text
        assert clock
        await self.judged.wait()
        return Verdict(finding=Rule(rule_id="judge", action=self._action, sentence="Not this."))


@pytest.mark.parametrize("verdict", [Action.BLOCK, Action.FLAG])
def test_nothing_leaves_before_the_judges_of_the_input_have_spoken(ws, model, tape, verdict):
    release(ws, ALOUD)

    async def probe(controls):
        judge = Judge(verdict)
        guarded(controls, Guards(ToolPolicy(()), {}, [judge]))
        task = asyncio.create_task(pieces_of(controls))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not task.done()
        assert [row["is_final"] for row in tape.rows()] == [False]
        judge.judged.set()
        return await task

    with serving(ws, model, log=tape) as controls:
        controls._shelf.ready(controls._routes.reading.routes["support"].stable)
        pieces = asyncio.run(probe(controls))
    blocked = verdict is Action.BLOCK
    assert text_of(pieces) == ("Not this." if blocked else TEXT)
    assert tape.last()["status"] == ("blocked" if blocked else "ok")


def test_a_judge_that_takes_longer_than_the_caller_waits_ends_the_call_in_time(ws, model, tape):
    release(ws, ALOUD)

    async def probe(controls):
        guarded(controls, Guards(ToolPolicy(()), {}, [Judge(Action.ALLOW)]))
        with pytest.raises(RequestRefused) as refused:
            await controls.handle("support", ASK, deadline_s=0.3)
        return refused.value

    with serving(ws, model, log=tape) as controls:
        asyncio.run(controls.handle("support", ASK))
        refused = asyncio.run(probe(controls))
    assert (refused.code, refused.http_status) == ("deadline_passed", 504)
    end = tape.last()
    assert (end["status"], end["error_type"], end["output"]) == ("timeout", "guards_late", None)
    assert end["latency_ms"] < 1000


BOTH_AT_ONCE = b"""
import asyncio

async def answer(messages, host):
    calls = (host.call_tool("look_up", {"order": n}, call_id=str(n)) for n in range(3))
    results = await asyncio.gather(*calls)
    return {"content": str(results), "finish_reason": "stop"}
"""


def test_tools_that_are_called_side_by_side_all_wait_for_the_judges(ws, model, tape, monkeypatch):
    put_route(ws, stable=register(ws, "v1", agent=BOTH_AT_ONCE).bundle_id)
    ran = []

    async def run(_self, name, arguments):
        ran.append((name, arguments))
        return {}

    monkeypatch.setattr(Desk, "call", run)

    async def probe(controls):
        await controls.handle("support", ASK)
        ran.clear()
        judge = Judge(Action.BLOCK)
        policy = tool_policy([{"name": "look_up", "side_effect": "read"}], {}, {}, subject="the test")
        guarded(controls, Guards(policy, {}, [judge]))
        task = asyncio.create_task(controls.handle("support", ASK))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert (ran, task.done()) == ([], False)
        judge.judged.set()
        return await task

    with serving(ws, model, log=tape) as controls:
        answer = asyncio.run(probe(controls))
    assert (answer.status, ran) == ("blocked", [])


def test_a_client_who_leaves_before_anything_was_said_leaves_a_record(ws, model, tape):
    release(ws, STALLS.replace(b"    await said(host, 40)\n", b""))

    async def probe(controls):
        task = asyncio.create_task(pieces_of(controls))
        await until(lambda: controls.status().in_flight == 1 and tape.rows())
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await until(lambda: len(tape.rows()) == 2)

    with serving(ws, model, log=tape) as controls:
        asyncio.run(probe(controls))
        assert controls.status().in_flight == 0
    assert (tape.last()["status"], tape.last()["error_type"]) == ("cancelled", "client_left")


def test_the_same_refusal_streamed_or_not(released, model, tape):
    with serving(released, model, log=tape) as controls:
        assert refusal(controls, "nobody").code == "unknown_app"
        with pytest.raises(RequestRefused) as refused:
            asyncio.run(nobody(controls))
        assert refused.value.code == "unknown_app"


async def nobody(controls):
    async with controls.stream("nobody", ASK):
        pass
