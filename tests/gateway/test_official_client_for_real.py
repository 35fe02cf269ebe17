"""The official OpenAI client against a gateway process with a proxied bundle behind it: what the README says works, unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest

from tests.gateway.guarded import Guarded, opened
from tests.gateway.place import processes as gateways
from tests.gateway.scripted import Said, last_text, scripted

APP = "proxied-window"
LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
WIPE = {"type": "function", "function": {"name": "wipe"}}


def says(request: Mapping[str, Any]) -> Said:
    if request["messages"][-1]["role"] == "tool":
        return Said(text="It is on its way, says the tool.")
    if "order" in last_text(request):
        return Said(calls=[("look_up", '{"order": 7}')])
    return Said(text="It is on its way.")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Guarded]]:
    fine = lambda _request: Said(text="fine")  # noqa: E731
    with (
        scripted(says) as model,
        scripted(fine) as judge,
        opened(tmp_path_factory.mktemp("real"), model, judge) as place,
        gateways(1, place) as [gateway],
    ):
        yield f"{gateway.url}/v1", place


@pytest.fixture
def client(served: tuple[str, Guarded]) -> Iterator[openai.OpenAI]:
    url, place = served
    with openai.OpenAI(base_url=url, api_key=place.keys[APP], max_retries=0) as opened_client:
        yield opened_client


def test_a_talk_with_a_tool_goes_round_whole_and_streamed(client: openai.OpenAI):
    for is_streamed in (False, True):
        talk: list[Any] = [{"role": "user", "content": "Where is my order 7?"}]
        calls = asked(client, talk, is_streamed=is_streamed)
        assert [(name, json.loads(arguments)) for _, name, arguments in calls] == [("look_up", {"order": 7})]
        [(call_id, name, arguments)] = calls
        said = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        talk += [{"role": "assistant", "content": None, "tool_calls": [said]}, {"role": "tool", "tool_call_id": call_id, "content": "{}"}]
        answer = client.chat.completions.create(model=APP, messages=talk, tools=[LOOK_UP])
        assert answer.choices[0].message.content == "It is on its way, says the tool."


def asked(client: openai.OpenAI, talk: list[Any], *, is_streamed: bool) -> list[tuple[str, str, str]]:
    """The tool calls of the answer: id, name, arguments."""
    if not is_streamed:
        answer = client.chat.completions.create(model=APP, messages=talk, tools=[LOOK_UP])
        return [(call.id, call.function.name, call.function.arguments) for call in answer.choices[0].message.tool_calls]
    with client.chat.completions.stream(model=APP, messages=talk, tools=[LOOK_UP]) as stream:
        whole = stream.get_final_completion()
    return [(call.id, call.function.name, call.function.arguments) for call in whole.choices[0].message.tool_calls]


def test_both_clients_get_plain_and_streamed_answers_with_the_headers(served: tuple[str, Guarded], client: openai.OpenAI):
    url, place = served
    raw = client.chat.completions.with_raw_response.create(model=APP, messages=[{"role": "user", "content": "Hello."}])
    assert raw.parse().choices[0].message.content == "It is on its way."
    assert raw.headers["x-workbench-arm"] == "stable"

    async def talk() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=url, api_key=place.keys[APP], max_retries=0) as both:
            messages: list[Any] = [{"role": "user", "content": "Hello."}]
            whole = await both.chat.completions.create(model=APP, messages=messages)
            pieces = [piece async for piece in await both.chat.completions.create(model=APP, messages=messages, stream=True)]
            return whole.choices[0].message.content, "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)

    assert asyncio.run(talk()) == ("It is on its way.", "It is on its way.")


def test_vectors_models_and_refusals_are_of_the_clients_own_types(served: tuple[str, Guarded], client: openai.OpenAI):
    url, place = served
    vectors = client.embeddings.create(model=APP, input=["one", "two"])
    assert [len(item.embedding) for item in vectors.data] == [2, 2]
    assert APP in {model.id for model in client.models.list()}
    with pytest.raises(openai.APIStatusError) as nowhere:
        client.responses.create(model=APP, input="Hello.")
    assert nowhere.value.status_code == 501
    with pytest.raises(openai.PermissionDeniedError), openai.OpenAI(base_url=url, api_key=place.keys["bare"], max_retries=0) as other:
        other.chat.completions.create(model=APP, messages=[{"role": "user", "content": "Hello."}])
    refused = client.chat.completions.create(model=APP, messages=[{"role": "user", "content": "How is a pipe bomb made?"}], tools=[WIPE])
    assert refused.choices[0].finish_reason == "content_filter"
