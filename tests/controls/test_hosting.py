"""A bundle's code is somebody else's: whatever it does, the caller gets an answer and the record says what happened."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.controls.tiny import AGENT, ASK, Model, said, write_bundle
from workbench.controls.clock import RealClock
from workbench.controls.hosting import HostedBundle, error_type
from workbench.controls.providers import ProviderError, Providers
from workbench.controls.serving import Models
from workbench.controls.tools import ToolError
from workbench.controls.turn import Step
from workbench.demo.clock import VirtualClock
from workbench.errors import IntegrityError, UsageError
from workbench.versions.reading import read_bundle

FALLBACK = "Please try again later."
SECRET = "maria.schmidt@example.com"


class Tools:
    """Tools that give this result, or raise it."""

    def __init__(self, result) -> None:
        self.result = result
        self.calls = 0

    async def call(self, *_):
        self.calls += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def hosted(tmp_path):
    def make(agent: bytes = AGENT, **parts) -> HostedBundle:
        read = read_bundle(write_bundle(tmp_path, "v1", agent=agent, **parts))
        return HostedBundle(read.bundle, read.files)

    return make


def asked_of(bundle, model):
    """What asks this model in the place of the bundle's own."""
    return Models(providers=Providers({}, installed=lambda _name: model)).caller(bundle.content)


def turn_of(bundle, *, model=None, tools=None, clock=None, **about):
    caller = asked_of(bundle, model or Model())
    work = bundle.answer(ASK, unit="u1", caller=caller, tools=tools or Tools({}), clock=clock or RealClock(), **about)
    return asyncio.run(work)


def uses_tool(name="look_up"):
    """A model that calls a tool once, and then repeats what it was told."""
    return Model(
        lambda request: said(tool=(name, {})) if request["messages"][-1]["role"] == "user" else said(request["messages"][-1]["content"])
    )


def test_an_answer_is_the_entry_points_own(hosted):
    turn = turn_of(hosted())
    assert (turn.content, turn.status, turn.finish_reason, turn.is_fallback) == ("It is on its way.", "ok", "stop", False)
    assert [step.kind for step in turn.steps] == ["model"]


@pytest.mark.parametrize(
    "body",
    [
        "return None",
        "return {}",
        "return 'text'",
        "return {}['content']",
        "return {'content': None}",
        "return {'content': 7}",
        "return {'content': 'x', 'status': 'error'}",
        "return {'content': 'x', 'status': 'fine'}",
        "return {'content': 'x', 'blocked_rules': [7]}",
        "return {'content': 'x', 'finish_reason': 7}",
        "return {'content': 'x', 'case_number': 7}",
        r"return {'content': 'x', 'case_number': 'C-1\r\nset-cookie: a=b'}",
        r"return {'content': 'x', 'case_number': 'C-1\n'}",
        r"return {'content': 'x', 'case_number': 'C-\x00'}",
        r"return {'content': 'x', 'case_number': 'C-\xe9'}",
        "return {'content': 'x', 'case_number': 'C' * 257}",
        "return {'content': 'x', 'blocked_rules': 7}",
        f"raise ValueError('{SECRET}')",
        "raise TimeoutError",
        "await host.complete({'model': object()})",
        "await host.complete(None)",
        "await host.call_tool('look_up', {}, call_id=[])\n    return 1 / 0",
        "return (await host.call_tool('look_up', {}))",
    ],
)
def test_code_that_breaks_ends_in_the_bundles_fallback_and_its_words_are_not_logged(hosted, body, caplog):
    with caplog.at_level(logging.DEBUG):
        turn = turn_of(hosted(f"async def answer(messages, host):\n    {body}\n".encode()))
    assert (turn.content, turn.is_fallback) == (FALLBACK, True)
    assert turn.status in ("error", "timeout")
    assert turn.error_type
    assert turn.steps[-1].kind == "fallback"
    assert SECRET not in caplog.text


def test_the_log_says_where_a_bundle_broke(hosted, caplog):
    turn = turn_of(hosted(b"async def answer(messages, host):\n    return 1 / 0\n"))
    assert turn.error_type == "ZeroDivisionError"
    assert "agent.py:2" in caplog.text


def test_a_bundle_whose_code_cannot_be_imported_does_not_load(hosted):
    with pytest.raises(UsageError, match="importing agent failed: SyntaxError"):
        hosted(b"async def answer(:\n")


def test_code_that_is_not_utf8_does_not_load(hosted):
    with pytest.raises(UsageError, match="importing agent failed"):
        hosted(b"x = '\xff\xfe'\n")


def test_a_file_that_changed_after_loading_is_never_served(hosted, tmp_path):
    read = read_bundle(write_bundle(tmp_path, "v9", prompts={"system": "agent.py"}))
    with pytest.raises(IntegrityError, match="another digest"):
        HostedBundle(read.bundle, {**read.files, "agent.py": b"changed"})


def test_a_declared_status_of_the_entry_is_kept_and_a_cut_answer_is_truncated(hosted):
    handed = turn_of(hosted(b"async def answer(m, h):\n    return {'content': 'x', 'status': 'handed_off', 'case_number': 'C-1'}\n"))
    assert (handed.status, handed.handoff_id) == ("handed_off", "C-1")
    assert (
        turn_of(hosted(), model=Model(lambda _: said(choices=[{"message": {"content": "x"}, "finish_reason": "length"}]))).status
        == "truncated"
    )


@pytest.mark.parametrize("garbage", [None, {}, said(choices=[]), "x"])
def test_garbage_of_a_model_is_tried_again_and_then_falls_back(hosted, garbage):
    model = Model(lambda _: garbage)
    turn = turn_of(hosted(), model=model, clock=VirtualClock())
    assert (turn.status, turn.error_type, turn.is_fallback) == ("error", "provider_garbage", True)
    assert [asked["attempt"] for asked in model.asked] == [1, 2]
    assert [step.status for step in turn.steps] == ["error", "error", "ok"]


def test_a_failure_that_does_not_pass_is_not_tried_again(hosted):
    def refuse(_request):
        raise ProviderError("no", code="upstream_401", may_pass=False)

    turn = turn_of(hosted(), model=Model(refuse))
    assert (turn.error_type, len(turn.steps)) == ("upstream_401", 2)


def test_a_tool_that_did_nothing_is_called_again_and_its_words_reach_the_model(hosted):
    tools = Tools(ToolError("the desk is closed"))
    turn = turn_of(hosted(), model=uses_tool(), tools=tools, clock=VirtualClock())
    assert tools.calls == 2
    assert "the desk is closed" in turn.content
    assert turn.status == "ok"


@pytest.mark.parametrize("fault", [KeyError(SECRET), TimeoutError(SECRET), ConnectionError(SECRET), OSError(SECRET)])
def test_a_tool_that_broke_may_have_done_it_so_it_is_not_called_again_and_its_words_stay_away(hosted, fault, caplog):
    tools = Tools(fault)
    turn = turn_of(hosted(), model=uses_tool(), tools=tools)
    assert (tools.calls, turn.status) == (1, "ok")
    assert turn.content == '{"error": "look_up failed"}'
    assert SECRET not in caplog.text
    step = next(step for step in turn.steps if step.kind == "tool")
    assert step.status == ("timeout" if isinstance(fault, TimeoutError) else "error")


@pytest.mark.parametrize("result", [None, [], {"at": object()}, {7: "x"}, {"x": "\ud800"}])
def test_a_tool_result_that_is_no_json_object_is_a_failure_of_the_tool(hosted, result):
    turn = turn_of(hosted(), model=uses_tool(), tools=Tools(result))
    assert turn.content == '{"error": "look_up failed"}'
    assert next(step for step in turn.steps if step.kind == "tool").error_type == "bad_tool_result"


def test_a_tool_that_no_bundle_declares_is_refused(hosted):
    tools = Tools({})
    turn = turn_of(hosted(), model=uses_tool("open_safe"), tools=tools)
    assert tools.calls == 0
    assert "not a tool of this assistant" in turn.content
    assert [step.details["rule_id"] for step in turn.steps if step.kind == "guard"] == ["tool_not_declared"]


@pytest.mark.parametrize("arguments", ["{'note': {1, 2}}", "{'note': 10**30}", "{7: 'note'}", "{'note': object()}", "{'note': '\\ud800'}"])
def test_arguments_that_no_guard_can_read_do_not_reach_the_tool(hosted, arguments):
    agent = f"""
async def answer(messages, host):
    result = await host.call_tool("look_up", {arguments}, call_id="c")
    return {{"content": result["error"], "status": "ok"}}
"""
    tools = Tools({})
    turn = turn_of(hosted(agent.encode()), tools=tools)
    assert (tools.calls, turn.error_type) == (0, None)
    assert turn.content == "The arguments of look_up cannot be read: they are not valid JSON."


def test_what_reaches_a_tool_is_what_the_guards_looked_at(hosted):
    agent = b"""
async def answer(messages, host):
    await host.call_tool("LOOK-UP", {"note": float("inf"), "more": (1, 2)}, call_id="c")
    return {"content": "Done.", "status": "ok"}
"""

    class Noting(Tools):
        async def call(self, *call):
            self.called = call
            return {}

    tools = Noting({})
    turn = turn_of(hosted(agent), tools=tools)
    assert tools.called == ("look_up", {"note": None, "more": [1, 2]})
    assert next(step for step in turn.steps if step.kind == "tool").details["arguments"] == {"note": None, "more": [1, 2]}


async def hang(_request=None):
    await asyncio.sleep(60)


@pytest.mark.parametrize("clock", [RealClock, VirtualClock])
def test_the_shorter_of_the_callers_and_the_bundles_time_ends_the_turn(hosted, clock):
    made = clock()
    model = Model(lambda _: made.sleep(60))
    turn = turn_of(hosted(), model=model, clock=made, limit_s=0.2)
    assert (turn.status, turn.error_type, turn.content) == ("timeout", "timeout", FALLBACK)
    assert [step.status for step in turn.steps] == ["timeout", "ok"]
    assert turn.latency_s == pytest.approx(0.2, abs=0.5 if clock is RealClock else 0)


def test_the_bundles_own_timeout_counts_where_it_is_shorter(hosted):
    clock = VirtualClock()
    turn = turn_of(hosted(), model=Model(lambda _: clock.sleep(60)), clock=clock, limit_s=30)
    assert (turn.status, turn.latency_s) == ("timeout", 8.0)


def test_a_cancelled_turn_leaves_the_steps_it_made(hosted):
    steps: list[Step] = []

    async def leave():
        bundle = hosted()
        work = bundle.answer(ASK, unit="u", caller=asked_of(bundle, Model(hang)), tools=Tools(None), clock=RealClock(), steps=steps)
        task = asyncio.create_task(work)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert [(step.kind, step.status) for step in steps] == [("model", "cancelled")]


def test_the_name_of_a_failure_never_quotes_a_user():
    class Chatty(Exception):
        code = f"no such user {SECRET}"

    assert error_type(Chatty()) == "Chatty"
    assert error_type(ProviderError("x", code="upstream_503")) == "upstream_503"
