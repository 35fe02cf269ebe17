"""Chat completions from elsewhere: wrong shapes are refused, wrong numbers are left out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given

from tests.controls.test_admission import json_values
from tests.controls.tiny import said
from workbench.controls.completions import checked_completion, model_details, prompt_s
from workbench.controls.providers import ProviderError


def choice(**message):
    return [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]


def call(**changes):
    return {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}, **changes}


@pytest.mark.parametrize(
    "response", [said(), said(tool=("look_up", {})), said(usage=None), said(model=None), {"choices": choice(content="")}]
)
def test_a_completion_is_taken_as_it_is(response):
    assert checked_completion(response) is response


@pytest.mark.parametrize(
    "response",
    [
        None,
        [],
        "ok",
        {},
        said(choices=None),
        said(choices=[]),
        said(choices={}),
        said(choices=["x"]),
        said(choices=[{"message": None}]),
        said(choices=choice(content=None)),
        said(choices=choice(content=7)),
        said(choices=choice(content=None, tool_calls="x")),
        said(choices=choice(content=None, tool_calls=["x"])),
        said(choices=choice(content=None, tool_calls=[call(id=None)])),
        said(choices=choice(content=None, tool_calls=[call(function={"name": "x", "arguments": {}})])),
        said(choices=choice(content=None, tool_calls=[call(function={"name": 1, "arguments": "{}"})])),
        said(choices=[{**choice(content="x")[0], "finish_reason": 7}]),
        said(model=7),
    ],
)
def test_what_is_no_completion_is_garbage(response):
    with pytest.raises(ProviderError) as fault:
        checked_completion(response)
    assert fault.value.code == "provider_garbage"


@given(json_values)
def test_nothing_else_ever_comes_out_of_a_check(response):
    with suppress(ProviderError):
        model_details(checked_completion(response))


def test_tokens_and_cost_are_read_where_they_are_said():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 8},
        "cost": 0.00123,
    }
    assert model_details(said(usage=usage)) == {
        "model": "small-1.0",
        "finish_reason": "stop",
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 60,
        "reasoning_tokens": 8,
        "cost_usd": 0.00123,
    }


@pytest.mark.parametrize(
    "usage",
    [
        None,
        7,
        [],
        {},
        {"prompt_tokens": -1, "completion_tokens": "9", "cost": -1},
        {"prompt_tokens": True, "cost": True},
        {"prompt_tokens": 1.5, "cost": float("inf")},
        {"prompt_tokens": 10**400, "cost": 10**400},
        {"prompt_tokens": 10**13, "cost": float("nan")},
        {"prompt_tokens_details": 3},
    ],
)
def test_wrong_numbers_are_left_out_never_zero(usage):
    assert set(model_details(said(usage=usage))) == {"model", "finish_reason"}


def test_the_first_token_is_known_only_where_the_server_says_it():
    assert prompt_s(said(timings={"prompt_ms": 250})) == 0.25
    assert [
        prompt_s(said(timings=timings))
        for timings in (None, {}, 7, {"prompt_ms": "1"}, {"prompt_ms": -1}, {"prompt_ms": 10**400}, {"prompt_ms": True})
    ] == [None] * 7
