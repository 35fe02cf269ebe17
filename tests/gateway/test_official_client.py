"""The official OpenAI client against the gateway: what it sends is understood, and what it gets is of its own types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.gateway.standin import ANSWER, ASK, KEY, StandIn, gateway
from workbench.controls.events import Choice, TextPart, ToolCall
from workbench.controls.model import Answer, Asked, StreamBroken
from workbench.errors import RequestRefused


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def client(controls: StandIn) -> Iterator[openai.OpenAI]:
    with gateway(controls) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as opened:
        yield opened


def test_a_question_is_answered(client: openai.OpenAI):
    answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Your parcel is on its way."
    assert (answer.model, answer.usage.total_tokens, answer.system_fingerprint) == ("local-1", 19, "support@0123456789ab")
    assert ChatCompletion.model_validate(answer.model_dump(), strict=True) == answer
    assert not answer.model_extra


def test_the_async_client_is_answered_too(controls: StandIn):
    async def talk(url: str) -> str | None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            return (await client.chat.completions.create(**ASK)).choices[0].message.content

    with gateway(controls) as url:
        assert asyncio.run(talk(url)) == "Your parcel is on its way."


def test_everything_that_the_client_can_say_is_taken(controls: StandIn, client: openai.OpenAI):
    call = {"id": "call_1", "type": "function", "function": {"name": "order", "arguments": "{}"}}
    got = client.chat.completions.with_raw_response.create(
        model="support",
        messages=[
            {"role": "developer", "content": "Be kind.", "name": "shop"},
            {"role": "user", "content": [{"type": "text", "text": "Where is it?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "on its way", "tool_call_id": "call_1"},
        ],
        frequency_penalty=0.5,
        logit_bias={"1": 1},
        logprobs=True,
        max_completion_tokens=50,
        metadata={"session_id": "s-1", "workflow": "orders"},
        n=1,
        parallel_tool_calls=True,
        presence_penalty=0.5,
        response_format={"type": "text"},
        safety_identifier="u-1",
        seed=7,
        service_tier="auto",
        stop="\n",
        store=True,
        stream=False,
        temperature=1,
        tool_choice="none",
        tools=[{"type": "function", "function": {"name": "order", "parameters": {}}}],
        top_logprobs=0,
        top_p=1,
        user="somebody",
    )
    asked = controls.asked[0]
    assert (asked["unit"], asked["session"], asked["workflow"]) == ("u-1", "s-1", "orders")
    assert got.http_response.status_code == 200
    ignored = got.headers["x-workbench-ignored"].split(", ")
    assert {"temperature", "tools", "seed", "response_format"} <= set(ignored)
    assert not {"user", "metadata", "model", "messages", "n", "stream"} & set(ignored)


def test_the_clients_own_time_limit_is_the_deadline(controls: StandIn, client: openai.OpenAI):
    client.with_options(timeout=12.5).chat.completions.create(**ASK)
    assert controls.asked[0]["deadline_s"] == 12.5


def test_models_are_listed_and_found(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["support"]
    assert client.models.retrieve("support").id == "support"


@pytest.mark.parametrize(
    ("asked", "error", "code"),
    [
        ({"model": "bank"}, openai.PermissionDeniedError, "other_app"),
        ({"model": "shop"}, openai.NotFoundError, "unknown_app"),
        ({"messages": []}, openai.BadRequestError, "bad_request"),
        ({"n": 3}, openai.BadRequestError, "unsupported_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            openai.BadRequestError,
            "bad_request",
        ),
    ],
)
def test_each_refusal_is_the_clients_own_error_and_is_sent_once(
    controls: StandIn, client: openai.OpenAI, asked: dict[str, object], error: type[openai.APIStatusError], code: str
):
    with pytest.raises(error) as refused:
        client.chat.completions.create(**{**ASK, **asked})
    assert refused.value.code == code
    assert refused.value.request_id.startswith("req_")
    assert controls.asked == []


def test_a_wrong_key_is_an_authentication_error(client: openai.OpenAI):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wb_wrong").chat.completions.create(**ASK)


def test_the_client_repeats_what_may_pass_and_nothing_else(controls: StandIn, client: openai.OpenAI):
    def refuse(code: str, status: int, retry_after_s: float | None) -> Answer:
        raise RequestRefused("app support", code=code, http_status=status, seen="a reason", retry_after_s=retry_after_s)

    controls.answer = lambda _asked: refuse("deadline_passed", 504, None)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**ASK)
    assert len(controls.asked) == 1
    controls.answer = lambda _asked: refuse("overloaded", 429, 0.01)
    with pytest.raises(openai.RateLimitError):
        client.with_options(max_retries=1).chat.completions.create(**ASK)
    assert len(controls.asked) == 3


def test_other_parts_of_the_api_are_a_clear_no(client: openai.OpenAI):
    with pytest.raises(openai.InternalServerError) as refused:
        client.responses.create(model="support", input="text")
    assert (refused.value.status_code, refused.value.code) == (501, "not_supported")


CALL = ToolCall(call_id="call_1", name="order", arguments='{"number": 7}')
TOOL = {"type": "function", "function": {"name": "order", "parameters": {"type": "object"}}}


def test_a_stream_is_read_piece_by_piece(controls: StandIn, client: openai.OpenAI):
    with client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert {chunk.id for chunk in chunks} == {controls.asked[0]["request_id"]}
    assert {(chunk.model, chunk.system_fingerprint) for chunk in chunks} == {("local-1", "support@0123456789ab")}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip() == "Your parcel is on its way."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 19)
    for chunk in chunks:
        assert ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True) == chunk
        assert not chunk.model_extra
    assert controls.left == ["end"]


def test_the_async_client_reads_streams_too(controls: StandIn):
    async def talk(url: str) -> str:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            stream = await client.chat.completions.create(**ASK, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with gateway(controls) as url:
        assert asyncio.run(talk(url)).strip() == "Your parcel is on its way."


def test_a_proxied_apps_tools_are_called_streamed_or_not(controls: StandIn, client: openai.OpenAI):
    controls.serving = "proxied"
    choices = (
        Choice(content=None, tool_calls=(CALL, replace(CALL, call_id="call_2")), finish_reason="tool_calls"),
        Choice(content="Which order?", finish_reason="stop"),
    )
    controls.answer = lambda _asked: replace(ANSWER, choices=choices)
    asked = {**ASK, "tools": [TOOL], "tool_choice": "auto", "n": 2, "seed": 7, "temperature": 0.1}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    for completion in (whole, streamed):
        first, second = completion.choices
        assert [(call.id, call.function.name, call.function.arguments) for call in first.message.tool_calls] == [
            ("call_1", "order", '{"number": 7}'),
            ("call_2", "order", '{"number": 7}'),
        ]
        assert (first.finish_reason, second.message.content.strip(), second.finish_reason) == ("tool_calls", "Which order?", "stop")
    form = Asked(tools=(TOOL,), n=2, options={"tool_choice": "auto", "seed": 7})
    assert [asked["asked"] for asked in controls.asked] == [form, replace(form, is_streamed=True)]


def test_a_stream_that_breaks_is_an_error_and_not_an_end(controls: StandIn, client: openai.OpenAI):
    async def cut():
        yield TextPart(text="Your parcel")
        raise StreamBroken("upstream_cut_off", "The model stopped in the middle.")

    controls.events = cut
    with client.chat.completions.create(**ASK, stream=True) as stream:
        assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "Your parcel"]
        with pytest.raises(openai.APIError, match="in the middle") as broken:
            next(stream)
    assert broken.value.code == "upstream_cut_off"
    assert controls.left == ["StreamBroken"]


def test_what_is_refused_before_the_first_content_is_a_true_status(controls: StandIn, client: openai.OpenAI):
    def refuse(_asked: object) -> Answer:
        raise RequestRefused("app support", code="deadline_passed", http_status=504, seen="a reason")

    controls.answer = refuse
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(**ASK, stream=True)
    assert (refused.value.status_code, refused.value.code) == (504, "deadline_passed")


@pytest.mark.parametrize("texts", ["one", ["one", "three"]])
def test_texts_become_vectors(controls: StandIn, client: openai.OpenAI, texts: str | list[str]):
    made = client.embeddings.create(model="support", input=texts, user="u-1", dimensions=2)
    assert [vector.embedding for vector in made.data] == [[3.0, 0.5], [5.0, 0.5]][: 1 if isinstance(texts, str) else 2]
    plain = client.embeddings.create(model="support", input=texts, encoding_format="float")
    assert [vector.embedding for vector in plain.data] == [vector.embedding for vector in made.data]
    assert (made.model, made.usage.prompt_tokens) == ("embed-1", 3)
    assert (controls.asked[0]["unit"], controls.asked[0]["source"]) == ("u-1", "gateway")


def test_tokens_are_no_text_to_embed(controls: StandIn, client: openai.OpenAI):
    for wrong in ([1, 2], [[1]], [], "", ["a", ""]):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="support", input=wrong)
    assert controls.asked == []
