"""What runs is what was hashed, every step is recorded, and a failure ends in the bundle's fallback."""

from __future__ import annotations

import asyncio

import pytest

from workbench.controls.clock import RealClock
from workbench.controls.hosting import HostedBundle
from workbench.controls.providers import ProviderError, Providers
from workbench.controls.serving import Models
from workbench.controls.tools import ToolError
from workbench.demo.clock import VirtualClock
from workbench.demo.provider import LocalProvider
from workbench.demo.shop import Desk, Shop
from workbench.demo.traffic import run_to_end
from workbench.errors import IntegrityError, UsageError
from workbench.versions.reading import read_bundle

SHOP = Shop(seed=5)
NUMBER = SHOP.orders_of(10)[0].number


def hosted(folder, **changes):
    read = read_bundle(folder)
    return HostedBundle(read.bundle, {**read.files, **changes})


def talk(bundle, text, *, provider=None, tools=None):
    clock = VirtualClock()
    desk = tools or Desk(SHOP, customer=10, is_signed_in=True, clock=clock)
    models = Models(providers=Providers({}, installed=lambda _name: provider or LocalProvider))
    messages = [{"role": "user", "content": text}]
    return run_to_end(bundle.answer(messages, unit="customer-000010", caller=models.caller(bundle.content), tools=desk, clock=clock))


class Dead:
    def __init__(self, clock):
        self.clock = clock

    async def complete(self, _request, **_about):
        raise ProviderError("503")


class Slow:
    def __init__(self, clock):
        self.clock = clock

    async def complete(self, _request, **_about):
        await self.clock.sleep(3600)
        raise AssertionError("waited")


class Broken:
    async def call(self, _name, _arguments):
        raise ToolError("down")


class Wild:
    """A model that calls a tool nobody declared, again and again."""

    def __init__(self, clock):
        self.clock = clock

    async def complete(self, _request, **_about):
        call = {"id": "c", "type": "function", "function": {"name": "open_safe", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {
            "model": "m",
            "choices": [{"message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            "timings": {"prompt_ms": 1.0, "predicted_ms": 1.0},
        }


def test_an_answer_records_search_model_and_tool(bundle_folder):
    turn = talk(hosted(bundle_folder("v2")), f"where is my parcel? {NUMBER}")
    assert [step.kind for step in turn.steps] == ["retrieval", "model", "tool", "model"]
    assert NUMBER in turn.content
    assert turn.status == "ok"
    assert 0 < turn.ttft_s < turn.latency_s


@pytest.mark.parametrize("path", ["../../assistant/agent.py", "../../assistant/guard.py"])
def test_code_that_is_not_what_was_hashed_does_not_load(bundle_folder, path):
    with pytest.raises(IntegrityError, match="another digest"):
        hosted(bundle_folder("v2"), **{path: b"answer = print"})


@pytest.mark.parametrize("path", ["prompts/system.md", "policy.md", "index.json"])
def test_a_file_that_is_not_what_was_hashed_is_not_read(bundle_folder, path):
    with pytest.raises(IntegrityError, match="another digest"):
        talk(hosted(bundle_folder("v2"), **{path: b"{}"}), "hello")


def test_two_versions_of_the_code_live_side_by_side(bundle_folder, changed):
    folder = changed()
    agent = folder / "../../assistant/agent.py"
    agent.write_text(agent.read_text().replace('"content": content,', '"content": content.upper(),'))
    new, old = hosted(folder), hosted(bundle_folder("v2"))
    text = "how do I clean an iron skillet?"
    assert talk(new, text).content == talk(old, text).content.upper() != talk(old, text).content


def test_the_checkout_is_not_on_the_import_path(bundle_folder):
    import sys

    hosted(bundle_folder("v2"))
    assert "assistant" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "seen"),
    [(None, "no entry point"), ("assistant.gone:answer", "no module 'assistant.gone'"), ("assistant.agent:gone", "no callable 'gone'")],
)
def test_a_missing_entry_point_is_named(changed, entry, seen):
    with pytest.raises(UsageError, match=seen):
        hosted(changed({"orchestration": {"entry": entry}}))


def test_a_model_that_stays_away_ends_in_the_fallback_after_all_attempts(bundle_folder):
    turn = talk(hosted(bundle_folder("v2")), "hello", provider=Dead)
    assert (turn.status, turn.is_fallback, turn.error_type) == ("error", True, "provider_error")
    assert turn.content.startswith("We cannot answer right now")
    assert [step.attempt for step in turn.steps if step.kind == "model"] == [1, 2, 3]
    assert turn.steps[-1].kind == "fallback"


def test_time_that_runs_out_ends_in_the_fallback_at_the_limit(bundle_folder):
    turn = talk(hosted(bundle_folder("v2")), "hello", provider=Slow)
    assert (turn.status, turn.latency_s) == ("timeout", 20.0)


def test_the_same_turn_runs_on_the_real_clock(bundle_folder):
    bundle, text = hosted(bundle_folder("v2")), "how do I clean an iron skillet?"

    async def live():
        clock = RealClock()
        desk = Desk(SHOP, customer=10, is_signed_in=True, clock=clock)
        messages = [{"role": "user", "content": text}]
        return await bundle.answer(
            messages, unit="customer-000010", caller=Models(providers=Providers({})).caller(bundle.content), tools=desk, clock=clock
        )

    turn, simulated = asyncio.run(live()), talk(bundle, text)
    assert turn.content == simulated.content
    waited_s = sum(step.duration_s for step in simulated.steps if step.kind != "retrieval")  # computing takes its own time here
    assert turn.latency_s >= waited_s - 0.01


def test_a_tool_that_stays_away_is_told_to_the_model(bundle_folder):
    turn = talk(hosted(bundle_folder("v2")), f"where is my parcel? {NUMBER}", tools=Broken())
    tools = [step for step in turn.steps if step.kind == "tool"]
    assert [step.status for step in tools] == ["error"] * 3
    assert "does not answer" in turn.content


def test_an_undeclared_tool_is_refused_and_turns_are_bounded(bundle_folder):
    turn = talk(hosted(bundle_folder("v2")), "hello", provider=Wild)
    guards = [step for step in turn.steps if step.kind == "guard"]
    assert {step.details["rule_id"] for step in guards} == {"tool_not_declared"}
    assert len(guards) == 8
    assert turn.status == "truncated"
