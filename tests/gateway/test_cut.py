"""Streams that do not come to their end, on the real controls: whoever breaks them off, nothing passes for whole; the log says so."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.gateway.place import Model, Place, Process, opened_place, processes, wait_until
from tests.gateway.standin import ask
from tests.gateway.test_killed import PROXIED, key_of_proxied
from workbench.demo.faulty import DONE, Act, Faulty, Play, begun, chunk, playing
from workbench.gateway.connections import Connection
from workbench.gateway.server import running

WORDS = "Your parcel left our house at noon. " * 12
"""More than the guards hold back."""
TOOL = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}
ASK = {"model": PROXIED, "user": "u-1", "stream": True, "messages": [{"role": "user", "content": "Where is my order?"}]}


class Scene(NamedTuple):
    """A proxied app in service, whose model plays."""

    place: Place
    upstream: Faulty
    key: str

    def end(self) -> dict[str, Any]:
        """The last revision of the only request."""
        self.place.ws.logs.flush()
        names = "request_id, revision, status, error_type, finish_reason, output"
        rows = self.place.ws.lake.read(lambda lake: lake.sql(f"SELECT {names} FROM lake.requests ORDER BY seq").pl()).to_dicts()
        assert [row["revision"] for row in rows] == [0, 1]
        return {**rows[1], "output": json.loads(rows[1]["output"]) if rows[1]["output"] else None}

    def wait_until_ended(self) -> None:
        wait_until(lambda: self.place.ws.controls.status().in_flight == 0)


@contextmanager
def scene(folder: Path, play: Play, **spec: Any) -> Iterator[Scene]:
    with playing(play) as upstream, opened_place(folder, Model(url=upstream.url)) as place:
        yield Scene(place, upstream, key_of_proxied(place.ws, folder / "apps" / PROXIED, **spec))


@contextmanager
def opened(url: str, key: str, **asked: Any) -> Iterator[http.client.HTTPConnection]:
    """A request on its way; its connection is closed with the block."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.sock = socket.socket()
    connection.sock.settimeout(30)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the system reads megabytes for who reads nothing
    connection.sock.connect((connection.host, connection.port))
    connection.request("POST", "/v1/chat/completions", json.dumps({**ASK, **asked}), {"authorization": f"Bearer {key}"})
    try:
        yield connection
    finally:
        connection.close()


def first_words(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """The response, of which the role and the first piece are read."""
    response = connection.getresponse()
    assert response.status == 200
    assert [response.readline()[:6] for _ in range(4)] == [b"data: ", b"\n", b"data: ", b"\n"]
    return response


def leaves_at_once(scene: Scene, connection: http.client.HTTPConnection) -> None:
    del connection
    assert scene.upstream.was_asked()


def leaves_after_words(scene: Scene, connection: http.client.HTTPConnection) -> None:
    del scene
    first_words(connection).close()


@pytest.mark.parametrize(
    ("play", "leaves", "has_words"),
    [
        pytest.param((*begun(), Act.HOLD), leaves_at_once, False, id="before the first word"),
        pytest.param((*begun(WORDS), Act.HOLD), leaves_after_words, True, id="in the middle"),
        pytest.param((*begun(WORDS), chunk("stop"), Act.HOLD), leaves_after_words, True, id="after the last word"),
    ],
)
def test_a_client_who_leaves_ends_the_model_and_is_on_record_with_what_it_got(
    tmp_path: Path, play: Play, leaves: Callable[[Scene, http.client.HTTPConnection], None], has_words: bool
):
    with scene(tmp_path, play) as stage:
        with running(stage.place.ws) as url:
            with opened(url, stage.key) as connection:
                leaves(stage, connection)
            assert stage.upstream.was_left()
            stage.wait_until_ended()
        end = stage.end()
        assert (end["status"], end["error_type"], end["finish_reason"]) == ("cancelled", "client_left", None)
        assert bool(end["output"]) == has_words
        assert not has_words or WORDS.startswith(end["output"]["content"])


def test_a_client_who_stops_reading_is_left_and_holds_neither_model_nor_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Connection, "stall_s", 0.5)
    play = (*begun(), *[chunk(content=WORDS * 20) for _ in range(700)], Act.HOLD)  # 6 MB: more than sockets hold, less than is refused
    with scene(tmp_path, play) as stage:
        with running(stage.place.ws) as url, opened(url, stage.key) as connection:
            first_words(connection)
            stage.wait_until_ended()
        end = stage.end()
        assert (end["status"], end["error_type"]) == ("cancelled", "client_left")
        assert len(end["output"]["content"]) > 0


def test_of_three_answers_one_that_is_cut_makes_none_whole(tmp_path: Path):
    said = [chunk(content=f"{number} {WORDS}", index=number) for number in (0, 2)]
    with scene(tmp_path, (*begun(), *said, chunk("stop"), chunk("stop", index=2))) as stage:
        with running(stage.place.ws) as url:
            got = ask(url, {**ASK, "n": 3}, key=stage.key)
        assert b'"error"' in got.body.split(b"\n\n")[-2]
        assert b"[DONE]" not in got.body
        assert b'"finish_reason":"' not in got.body
        end = stage.end()
        assert (end["status"], end["error_type"]) == ("error", "upstream_truncated")
        first, (second, third) = end["output"]["content"], [other["content"] for other in end["output"]["others"]]
        assert (first[:2], second, third[:2]) == ("0 ", "", "2 "), "each under its own number"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answer_that_nobody_asked_for_is_none_and_makes_no_other_whole(tmp_path: Path, is_streamed: bool):
    play = (*begun(WORDS), chunk(content=WORDS, index=1), chunk("stop"), DONE)
    with scene(tmp_path, play) as stage:
        with running(stage.place.ws) as url:
            got = ask(url, {**ASK, "stream": is_streamed}, key=stage.key)
        if is_streamed:
            assert b'"index":1' not in got.body
            assert got.body.endswith(b"data: [DONE]\n\n")
            assert stage.end()["output"] == {"content": WORDS}


def test_a_tool_call_that_is_cut_is_released_to_nobody(tmp_path: Path):
    half = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "pay", "arguments": '{"amount": 1'}}
    with scene(tmp_path, (*begun(), chunk(tool_calls=[half])), orchestration={"tools": [{"name": "pay"}]}) as stage:
        with running(stage.place.ws) as url:
            got = ask(url, {**ASK, "tools": [TOOL]}, key=stage.key)
        assert b"tool_calls" not in got.body
        assert b"amount" not in got.body
        end = stage.end()
        assert (end["status"], end["error_type"]) == ("error", "upstream_truncated")
        assert "tool_calls" not in end["output"]


@pytest.mark.slow
def test_a_gateway_that_is_stopped_lets_a_stream_come_to_its_end(tmp_path: Path):
    paced = [step for _ in range(20) for step in (0.1, chunk(content="more "))]
    with scene(tmp_path, (*begun(WORDS), *paced, chunk("stop"), DONE)) as stage:
        with processes(1, stage.place) as [gateway], opened(gateway.url, stage.key) as connection:
            response = first_words(connection)
            stopping = threading.Thread(target=stopped, args=(gateway,))
            stopping.start()
            assert response.read().endswith(b"data: [DONE]\n\n")
            stopping.join()
        end = stage.end()
        assert (end["status"], end["output"]["content"]) == ("ok", WORDS + "more " * 20)


def stopped(gateway: Process) -> None:
    assert gateway.stop() == 0
