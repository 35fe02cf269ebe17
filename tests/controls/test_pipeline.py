"""One call where guards, people and models meet: what a person may approve, what a failure counts as, how long it all takes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.controls.asking import Streaming, failing
from tests.controls.guards.policies import Scripted as Judge
from tests.controls.guards.policies import guards
from tests.controls.tiny import APP, ASK, Model, put_route, register, said, serving
from workbench.controls.events import Finished, TextPart
from workbench.controls.handoff import Mode, NewHandoff
from workbench.controls.model import StreamBroken
from workbench.controls.providers import ProviderError
from workbench.controls.serving import Models
from workbench.errors import RequestRefused

SECRET = "AKIA" + "QYLPMN5HNM4TJGYX"
SECRETS = "secrets: [{{stages: [output], action: {}}}]\n"
PERSON = "handoff: {asked_for_person: {phrases: [my order]}}\n"
JUDGE = "judges: [{{id: j, stages: [input], provider: p, model: m, prompt: judge, labels: {{fine: {}}}, timeout: 30s}}]\n"


@dataclass
class Desk:
    """Takes whatever it is given."""

    taken: list[NewHandoff] = field(default_factory=list)

    def holding_text(self, _app: str) -> str:
        return "A colleague looks at this."

    def can_hold(self, _app: str) -> bool:
        return True

    def open(self, new: NewHandoff) -> NewHandoff:
        self.taken.append(new)
        return new


def guarded(monkeypatch, text, **changes):
    """Every bundle is opened with these guards."""
    monkeypatch.setattr(Models, "guards", lambda *_: guards(text, tools=(), **changes))


def ask(controls, **about):
    return asyncio.run(controls.handle("support", ASK, **about))


@pytest.mark.parametrize(
    ("policy", "proposed"),
    [
        (PERSON + SECRETS.format("redact"), "The key is [secret removed], as you asked."),
        (JUDGE.format("handoff") + SECRETS.format("redact"), "The key is [secret removed], as you asked."),
        (JUDGE.format("handoff") + SECRETS.format("block"), None),
    ],
)
def test_what_a_rule_keeps_from_the_caller_no_person_can_approve(released, tape, monkeypatch, policy, proposed):
    guarded(monkeypatch, policy)
    desk = Desk()
    with serving(released, Model(lambda _: said(f"The key is {SECRET}, as you asked.")), log=tape, desk=desk) as controls:
        answer = ask(controls)
    (new,) = desk.taken
    assert (answer.status, new.mode, new.proposed) == ("handed_off", Mode.HOLD, proposed)


def test_a_model_that_fails_counts_as_that_where_a_person_takes_over(ws, tape):
    put_route(ws, stable=register(ws, "v1", controls={"timeout": "8s", "fallback": [{"kind": "human"}]}).bundle_id)

    def fails(_request):
        raise ProviderError("down", code="upstream_down")

    with serving(ws, Model(fails), log=tape, desk=Desk()) as controls:
        answer = ask(controls)
    end = tape.last()
    assert (answer.status, end["status"], end["is_fallback"], end["error_type"]) == ("handed_off", "handed_off", True, "upstream_down")


@pytest.fixture
def proxied(ws):
    app = {**{name: value for name, value in APP.items() if name != "tools"}, "serving": "proxied"}
    put_route(ws, stable=register(ws, "v1", app=app, orchestration={}).bundle_id)
    return ws


async def _ended(controls, tape):
    """What the END says of a stream of which nobody reads more than the beginning, while its client is still there."""
    with suppress(RequestRefused):
        async with controls.stream("support", ASK, deadline_s=0.5):
            await asyncio.sleep(2)
            return tape.last()["status"], tape.last()["error_type"]
    return tape.last()["status"], tape.last()["error_type"]


def test_who_looks_at_the_input_has_no_more_time_than_the_caller(proxied, model, tape, monkeypatch):
    slow = Judge(lambda _request: asyncio.sleep(30))
    guarded(monkeypatch, JUDGE.format("allow"), provider=lambda _name: lambda _clock: slow)
    with serving(proxied, model, log=tape) as controls:
        begun_s = time.monotonic()
        assert asyncio.run(_ended(controls, tape)) == ("timeout", "guards_late")
    assert time.monotonic() - begun_s < 10


def test_who_reads_slowly_holds_no_target_beyond_the_deadline(proxied, tape, monkeypatch):
    guarded(monkeypatch, "streaming: after")
    model = Streaming([[*[TextPart(text="word ")] * 200, Finished(reason="stop")]])
    with serving(proxied, model, log=tape) as controls:
        assert asyncio.run(_ended(controls, tape)) == ("timeout", "guards_late")
        assert [state.in_flight for state in controls._models.health.snapshot()] == [0]


def test_a_stream_that_breaks_is_a_failure_of_its_session(proxied, tape, monkeypatch):
    guarded(monkeypatch, "streaming: after")
    model = Streaming([[TextPart(text="It is "), failing("transient")]])

    async def heard(controls):
        async with controls.stream("support", ASK, session="s1") as stream:
            return [piece async for piece in stream]

    with serving(proxied, model, log=tape) as controls:
        with pytest.raises(StreamBroken):
            asyncio.run(heard(controls))
        assert controls._ground.sessions.failures("support", "s1") == 1


def test_a_person_is_asked_for_in_parts_of_a_message_too(proxied, model, tape, monkeypatch):
    guarded(monkeypatch, PERSON)
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/parcel.png"}}
    said_in_parts = [{"role": "user", "content": [picture, {"type": "text", "text": "Where is my order?"}]}]
    with serving(proxied, model, log=tape, desk=Desk()) as controls:
        assert asyncio.run(controls.handle("support", said_in_parts)).status == "handed_off"


@pytest.mark.parametrize(
    "policy", [PERSON, "handoff: {session_failures: {at_least: 1}}", "handoff: {retrieval_score: {below: 0.5, mode: hold}}"]
)
@pytest.mark.parametrize("streaming", ["window", "after"])
def test_nothing_of_a_streamed_answer_that_a_person_has_to_see_leaves_before(ws, tape, monkeypatch, streaming, policy):
    agent = b"""
async def answer(messages, host):
    await host.search_time(3)
    host.record("retrieval", "search", query="x", retrieved=[{"doc_id": "d1", "score": 0.1, "rank": 1}])
    for _ in range(300):
        await host.say("Some words. ")
    return {"content": "Some words. " * 300, "finish_reason": "stop"}
"""
    put_route(ws, stable=register(ws, "v1", agent=agent).bundle_id)
    guarded(monkeypatch, f"streaming: {streaming}\n{policy}")

    async def heard(controls):
        async with controls.stream("support", ASK, session="s1") as stream:
            return [piece async for piece in stream], stream.answer

    with serving(ws, Model(), log=tape, desk=(desk := Desk())) as controls:
        controls._ground.sessions.note("support", "s1", "error")
        pieces, answer = asyncio.run(heard(controls))
    assert (answer.status, [new.mode for new in desk.taken]) == ("handed_off", [Mode.HOLD])
    assert not any(isinstance(piece, TextPart) and "words" in piece.text for piece in pieces)
