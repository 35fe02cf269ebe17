"""A proxied app: what of a client's request reaches the model, and what of the model's answer reaches the client."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.controls.tiny import APP, ASK, Model, put_route, register, said, serving
from workbench.controls.events import Choice, Finished, TextPart, ToolCall, ToolPart
from workbench.controls.model import Asked
from workbench.controls.providers import ProviderError

PROXIED = {**{key: value for key, value in APP.items() if key != "tools"}, "serving": "proxied"}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "open_safe", "parameters": {"type": "object"}}}
CALL = ToolCall(call_id="call_1", name="look_up", arguments='{"order": 7}')


@pytest.fixture
def proxied(ws):
    bundle = register(ws, "v1", app=PROXIED, orchestration={"tools": [{"name": "look_up"}]}, **MODEL)
    put_route(ws, stable=bundle.bundle_id)
    return ws


MODEL = {"model": {"provider": "scripted", "name": "small", "version": "1.0", "params": {"temperature": 0.1, "max_tokens": 100}}}


def ask(controls, messages=ASK, **about):
    return asyncio.run(controls.handle("support", messages, **about))


async def heard(controls):
    async with controls.stream("support", ASK) as stream:
        return stream.head, [piece async for piece in stream]


async def pieces_of(controls, **about):
    async with controls.stream("support", ASK, **about) as stream:
        return [piece async for piece in stream]


def test_the_bundle_decides_the_model_and_its_parameters(proxied, model, tape):
    options = {"temperature": 2.0, "max_tokens": 5000, "model": "large", "stop": ["."], "seed": 7, "logit_bias": {"1": 100}}
    with serving(proxied, model, log=tape) as controls:
        answer = ask(controls, asked=Asked(options=options))
    (asked,) = model.asked
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("small", 0.1, 100)
    assert (asked["stop"], asked["seed"]) == (["."], 7)
    assert "logit_bias" not in asked
    assert (answer.content, answer.status, answer.attempts) == ("It is on its way.", "ok", 1)
    assert tape.last()["model_requested"] == "small"
    assert json.loads(tape.last()["input"])["options"] == options


@pytest.mark.parametrize(
    ("options", "counts"),
    [({name: n}, min(n, 100)) for name in ("max_tokens", "max_completion_tokens") for n in (7, 100_000)],
)
def test_the_smaller_limit_counts_whatever_its_name(proxied, model, tape, options, counts):
    with serving(proxied, model, log=tape) as controls:
        ask(controls, asked=Asked(options=options))
    asked = model.asked[0]
    assert {key: value for key, value in asked.items() if key.startswith("max_")} == {"max_tokens": counts}


def test_the_bundles_system_prompt_stands_in_place_of_the_clients(ws, model, tape):
    folder = ws.home.parent / "app" / "bundles" / "v1"
    folder.mkdir(parents=True)
    (folder / "system.md").write_text("Be kind.\n")
    bundle = register(ws, "v1", app=PROXIED, prompts={"system": "system.md"}, orchestration={}, **MODEL)
    put_route(ws, stable=bundle.bundle_id)
    with serving(ws, model, log=tape) as controls:
        ask(controls, [{"role": "system", "content": "Be rude."}, *ASK])
    assert model.asked[0]["messages"] == [{"role": "system", "content": "Be kind."}, *ASK]


def test_a_tool_call_that_policy_allows_reaches_the_client(proxied, tape):
    model = Model(lambda _: said(tool=("look_up", {"order": 7})))
    with serving(proxied, model, log=tape) as controls:
        answer = ask(controls, asked=Asked(tools=(TOOL,)))
    (choice,) = answer.choices
    assert (choice.content, choice.finish_reason, [call.name for call in choice.tool_calls]) == (None, "tool_calls", ["look_up"])
    assert '"look_up"' in tape.last()["output"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_call_outside_policy_never_reaches_the_client(proxied, tape, streamed):
    model = Model(lambda _: said(tool=("open_safe", {})))
    with serving(proxied, model, log=tape) as controls:
        asked = Asked(tools=(TOOL, OTHER))
        if streamed:
            pieces = asyncio.run(pieces_of(controls, asked=asked))
            assert not [piece for piece in pieces if isinstance(piece, ToolPart)]
            assert pieces[-1] == Finished(reason="content_filter")
        else:
            (choice,) = ask(controls, asked=asked).choices
            assert (choice.tool_calls, choice.finish_reason) == ((), "content_filter")
    end = tape.last()
    assert (end["status"], list(end["blocked_rules"])) == ("blocked", ["tool_not_declared"])
    assert "open_safe" not in end["output"]


def test_several_answers_are_each_passed_on(proxied, tape):
    choices = [{"index": n, "message": {"role": "assistant", "content": f"No. {n}"}, "finish_reason": "stop"} for n in range(3)]
    with serving(proxied, Model(lambda _: said(choices=choices)), log=tape) as controls:
        answer = ask(controls, asked=Asked(n=3))
        pieces = asyncio.run(pieces_of(controls, asked=Asked(n=3)))
    assert answer.choices == tuple(Choice(content=f"No. {n}", finish_reason="stop") for n in range(3))
    assert [piece for piece in pieces if isinstance(piece, TextPart)] == [TextPart(text=f"No. {n}", choice=n) for n in range(3)]
    assert "No. 2" in tape.last()["output"]


def test_a_model_that_fails_gives_the_fallback(proxied, tape):
    def fails(_request):
        raise ProviderError("down", code="upstream_down")

    with serving(proxied, Model(fails), log=tape) as controls:
        answer = ask(controls, deadline_s=5)
    assert (answer.content, answer.is_fallback, answer.status) == ("Please try again later.", True, "error")
    end = tape.last()
    assert (end["is_fallback"], end["error_type"], end["attempts"]) == (True, "upstream_down", 2)


def test_another_model_that_answers_is_named_and_counts_as_a_fallback(ws, tape):
    links = [{"kind": "model", "provider": "spare", "name": "large", "version": "2", "capabilities": {"tools": True}}]
    bundle = register(ws, "v1", app=PROXIED, orchestration={}, controls={"timeout": "8s", "fallback": links}, **MODEL)
    put_route(ws, stable=bundle.bundle_id)

    def one_is_down(request):
        if request["model"] == "small":
            raise ProviderError("down", code="upstream_down")
        return said(model="large-2")

    with serving(ws, Model(one_is_down), log=tape) as controls:
        answer = ask(controls)
        head, pieces = asyncio.run(heard(controls))
    assert (head.is_fallback, head.attempts) == (True, 2)
    assert (answer.content, answer.is_fallback, answer.model_served, answer.status) == ("It is on its way.", True, "large-2", "ok")
    assert pieces[0] == TextPart(text="It is on its way.")
    end = tape.last()
    assert (end["is_fallback"], end["status"], end["model_served"], end["error_type"]) == (True, "ok", "large-2", None)


def test_a_tools_result_may_be_the_last_message(proxied, model, tape):
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    talk = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "{}"},
    ]
    with serving(proxied, model, log=tape) as controls:
        assert ask(controls, talk, asked=Asked(tools=(TOOL,))).content == "It is on its way."
