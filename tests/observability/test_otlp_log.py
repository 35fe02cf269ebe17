"""Traces on their way into a real lake: taken in once, provisional at once, final when quiet, whoever received what."""

from __future__ import annotations

import itertools
import json
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.observability.lakes import Clock, open_lake, open_logs
from tests.observability.traces import agent, as_json, as_protobuf, asking, chat, span, tool
from workbench.errors import RecordRefused, StoreError
from workbench.observability.erasure import COUNTED
from workbench.observability.lake import Lake
from workbench.observability.logs import Logs
from workbench.observability.lookup import find_request
from workbench.observability.otlp import aliases
from workbench.observability.otlp.receiving import Received, Receiver
from workbench.observability.otlp.sealing import COLUMNS, attributes_text, span_of
from workbench.observability.otlp.settling import Settler
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.observability.tables import latest_requests_sql
from workbench.observability.unit_rows import take_out

KEY = b"0123456789abcdef"
SEALER = Sealer(Redactor(KEY), KEY)
QUIET_S = 5.0
WEB = {"name": "POST /ask", "kind": "server"}


@dataclass
class Site:
    """A log with a gateway's parts for traces; `another` is a second gateway on the same log."""

    lake: Lake
    logs: Logs
    clock: Clock
    receiver: Receiver
    settler: Settler

    def send(self, *spans: dict[str, Any], app: str = "shop", receiver: Receiver | None = None, **more: Any) -> Received:
        body = as_json(*spans, resource=more.get("resource"))
        received = (receiver or self.receiver).receive(body, is_json=True, app=app, is_served_here=more.get("is_served_here", False))
        if more.get("flush", True):
            self.logs.flush()
        return received

    def another(self) -> Receiver:
        return Receiver(self.logs, SEALER, clock=self.clock)

    def settle(self, *, after_s: float = QUIET_S) -> int:
        self.logs.flush()
        self.clock.move(after_s)
        return self.settler.settle(self.clock()).final

    def read(self, sql: str) -> list[dict[str, Any]]:
        def ask(connection: Any) -> list[dict[str, Any]]:
            cursor = connection.execute(sql)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return self.lake.read(ask)

    def requests(self, trace: str, app: str = "shop") -> list[dict[str, Any]]:
        """The newest revisions of the requests of a trace, by id."""
        return self.read(
            f"SELECT * EXCLUDE (ts_start, ts_end, ingested_at, day, spool_id, seq, batch_id), epoch_us(ts_start) AS start_us "
            f"FROM ({latest_requests_sql()}) WHERE app = '{app}' AND starts_with(request_id, '{trace}') ORDER BY request_id"
        )

    def request(self, trace: str, app: str = "shop") -> dict[str, Any]:
        (only,) = self.requests(trace, app)
        return only

    def spans(self, trace: str) -> list[dict[str, Any]]:
        return self.read(f"SELECT * EXCLUDE (ts_start, day) FROM lake.spans WHERE trace_id = '{trace}' ORDER BY batch_id, seq")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("traces")
    clock = Clock()
    lake = open_lake(home)
    logs = open_logs(home, lake=lake, clock=clock)
    yield Site(lake, logs, clock, Receiver(logs, SEALER, clock=clock), Settler(lake, logs, quiet_s=QUIET_S))
    logs.close()
    lake.close()


@pytest.fixture
def trace() -> str:
    return secrets.token_hex(16)


def test_a_request_is_provisional_at_once_and_final_when_its_trace_was_quiet(site: Site, trace: str):
    assert site.send(span(1, trace=trace, ms=900, **WEB), chat(2, 1, trace=trace)) == Received(n_accepted=2)
    first = site.request(trace)
    assert (first["is_final"], first["revision"], first["latency_ms"], first["input_tokens"]) == (False, 0, 900.0, 10)
    site.settle(after_s=1)
    assert site.request(trace) == first, "it may go on"
    assert site.settle() >= 1
    assert site.request(trace) == {**first, "is_final": True, "revision": 1}
    assert site.settle() == 0, "nothing is settled twice"


def test_children_before_their_root_in_other_batches_and_at_other_gateways(site: Site, trace: str):
    others = [site.another(), site.another()]
    site.send(chat(2, 1, trace=trace, at=100), receiver=others[0])
    site.send(tool(3, 1, trace=trace, at=200, call_id="a"), receiver=others[1])
    site.send(chat(4, 1, trace=trace, at=300), receiver=others[1])
    assert not site.request(trace)["is_final"]
    site.send(agent(1, trace=trace, ms=900), receiver=others[0])
    site.settle()
    row = site.request(trace)
    assert (row["is_final"], row["latency_ms"], row["input_tokens"], row["n_tool_calls"], row["operation"]) == (
        True,
        900.0,
        20,
        1,
        "invoke_agent",
    )


def test_what_comes_after_the_end_makes_a_revision_and_nothing_counts_twice(site: Site, trace: str):
    site.send(agent(1, trace=trace, ms=900), chat(2, 1, trace=trace))
    site.settle()
    site.send(chat(3, 1, trace=trace, at=10), receiver=site.another())
    assert (site.request(trace)["input_tokens"], site.request(trace)["is_final"]) == (10, True), "until it is settled the final one stands"
    site.settle()
    row = site.request(trace)
    assert (row["revision"], row["is_final"], row["input_tokens"]) == (2, True, 20)


def test_repeated_spans_are_dropped(site: Site, trace: str):
    spans = (agent(1, trace=trace, ms=900), chat(2, 1, trace=trace))
    site.send(*spans)
    assert site.send(*spans) == Received(n_accepted=2), "an exporter that sends again is told that all is well"
    assert len(site.spans(trace)) == 2
    site.settle()
    site.send(*spans, receiver=site.another())
    site.settle()
    row = site.request(trace)
    assert (row["revision"], row["input_tokens"]) == (1, 10)


def test_any_split_any_order_and_any_repetition_give_the_same_final_row(site: Site):
    chance = random.Random(7)
    told = {"workbench.unit": "u-1", "session.id": "s-1", "workbench.bundle": "shop@0123456789ab"}
    found = []
    for _ in range(5):
        trace = secrets.token_hex(16)
        spans = [
            agent(1, trace=trace, ms=900, attributes={**told, "gen_ai.usage.input_tokens": 20}),
            chat(2, 1, trace=trace, at=10, attributes={"gen_ai.output.messages": asking("a")}),
            tool(3, 1, trace=trace, at=200, call_id="a", error="x"),
            chat(
                4,
                1,
                trace=trace,
                at=300,
                attributes={"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'},
            ),
        ]
        spans += chance.choices(spans, k=2)
        chance.shuffle(spans)
        receivers = [site.receiver, site.another()]
        while spans:
            n = chance.randint(1, 3)
            site.send(*spans[:n], receiver=chance.choice(receivers), flush=chance.random() < 0.2)
            del spans[:n]
        site.settle()
        row = site.request(trace)
        found.append({name: value for name, value in row.items() if name not in ("request_id", "trace_id", "revision")})
    assert all(row == found[0] for row in found)
    assert (found[0]["unit_hash"], found[0]["input_tokens"], found[0]["n_tool_errors"]) == (SEALER.unit_hash("u-1"), 20, 1)


def test_after_a_restart_what_is_provisional_in_the_log_is_settled(site: Site, trace: str):
    site.settle()
    site.send(chat(1, trace=trace))
    site.clock.move(QUIET_S)
    restarted = Settler(site.lake, site.logs, quiet_s=QUIET_S)
    assert restarted.settle(site.clock()).final == 1
    assert site.request(trace)["is_final"]
    assert Settler(site.lake, site.logs, quiet_s=QUIET_S).settle(site.clock()).final == 0, "the next one finds nothing to do"


def test_two_settlers_store_one_revision(site: Site, trace: str, monkeypatch: pytest.MonkeyPatch):
    site.settle()
    site.send(chat(1, trace=trace))
    site.clock.move(QUIET_S)
    append, other = site.logs.append, Settler(site.lake, site.logs, quiet_s=QUIET_S)

    def overtaken(*words: Any, **more: Any) -> bool:
        monkeypatch.undo()
        other.settle(site.clock())
        return append(*words, **more)

    monkeypatch.setattr(site.logs, "append", overtaken)
    site.settler.settle(site.clock())
    site.settler.settle(site.clock())
    assert len(site.read(f"SELECT 1 FROM lake.requests WHERE request_id = '{trace}' AND is_final")) == 1


def test_several_requests_of_a_trace_are_each_there_and_their_spans_say_whose_they_are(site: Site, trace: str):
    spans = (
        span(1, trace=trace, ms=900, name="nightly"),
        agent(2, 1, trace=trace),
        chat(3, 2, trace=trace),
        agent(4, 1, trace=trace, at=200),
        chat(5, 4, trace=trace, at=210),
    )
    site.send(*spans[2:], receiver=site.another())
    site.send(*spans[:2], receiver=site.another())
    site.settle()
    assert [(row["request_id"], row["is_final"], row["input_tokens"]) for row in site.requests(trace)] == [
        (trace, True, 10),
        (f"{trace}-{4:016x}", True, 10),
    ]
    newest = {row["span_id"]: row["request_id"] for row in site.spans(trace)}
    assert newest == {f"{number:016x}": trace if number < 4 else f"{trace}-{4:016x}" for number in range(1, 6)}


def test_another_app_s_key_cannot_alter_a_request(site: Site, trace: str):
    site.send(chat(1, trace=trace))
    site.settle()
    before = site.request(trace)
    site.send(chat(1, trace=trace, ms=5000), chat(2, trace=trace), app="bank")
    told = site.send(chat(3, trace=trace, attributes={"workbench.app": "shop"}), app="bank")
    assert [(unread.reason, unread.n) for unread in told.refused] == [("other_app", 1)]
    site.settle()
    assert site.request(trace) == before
    assert {row["app"] for row in site.spans(trace) if row["duration_ms"] == 5000} == {"bank"}


def test_what_a_gateway_has_on_record_is_never_overwritten_nor_counted_again(site: Site, trace: str):
    audited = f"req_{secrets.token_hex(16)}"
    own = {
        "request_id": audited,
        "app": "shop",
        "ts_start": site.clock(),
        "revision": 1,
        "is_final": True,
        "status": "ok",
        "source": "gateway",
    }
    site.logs.record({"requests": [{**own, "trace_id": trace}]})
    finding = span(3, 1, trace=trace, attributes={"workbench.rule": "made_up", "workbench.action": "block"})
    site.send(agent(1, trace=trace), chat(2, 1, trace=trace, attributes={"gen_ai.response.id": audited}), finding, is_served_here=True)
    site.settle()
    assert site.requests(trace) == [], "the call is one request, not two"
    assert {row["request_id"] for row in site.spans(trace)} == {audited}
    found = site.lake.read(lambda connection: find_request(connection, "shop", audited))
    assert found is not None
    assert (found["status"], found["guards"]) == ("ok", [])
    same_id = {**own, "request_id": trace, "status": "blocked", "revision": 0}
    site.logs.record({"requests": [same_id]})
    site.send(chat(9, trace=trace))
    site.settle()
    assert site.read(f"SELECT count(*) AS n FROM lake.requests WHERE request_id = '{trace}' AND source = 'otlp' AND is_final") == [{"n": 0}]


def test_an_app_that_calls_its_models_itself_may_have_ids_like_a_gateway_s(site: Site, trace: str):
    site.send(chat(1, trace=trace, attributes={"gen_ai.response.id": f"req_{secrets.token_hex(16)}"}))
    assert site.request(trace)["input_tokens"] == 10


def test_spans_of_what_is_no_ai_are_refused_and_not_stored(site: Site, trace: str):
    told = site.send(span(1, trace=trace, **WEB), span(2, 1, trace=trace, kind="client"))
    assert (told.n_accepted, [(unread.reason, unread.n) for unread in told.refused]) == (0, [("no_ai", 2)])
    assert "OpenInference" in told.sentence
    assert site.spans(trace) == []
    site.send(chat(3, 1, trace=trace))
    assert len(site.spans(trace)) == 3, "a root that came too early is taken in with the first span of a model"
    site.settle()
    assert site.request(trace)["latency_ms"] == 100.0


def test_a_root_that_says_nothing_of_a_model_is_taken_in_when_another_gateway_knows_its_trace(site: Site, trace: str):
    web, other = span(1, trace=trace, ms=900, **WEB), site.another()
    assert site.send(web, receiver=other).n_refused == 1
    assert site.send(span(2, trace=secrets.token_hex(16), **WEB), receiver=other).n_refused == 1
    site.send(chat(3, 1, trace=trace))
    waiting = site.settler.settle(site.clock()).waiting
    assert ("shop", trace) in waiting
    assert other.claim(waiting, is_served_here=lambda _app: False) == 1
    assert other.claim(waiting, is_served_here=lambda _app: False) == 0
    site.settle()
    row = site.request(trace)
    assert (row["latency_ms"], row["is_final"], row["input_tokens"]) == (900.0, True, 10)


def test_nothing_personal_is_stored_and_raw_attributes_are_kept(site: Site, trace: str):
    told = {
        "workbench.unit": "anna-k",
        "user.id": "anna-k",
        "user.email": "anna@example.com",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"I am anna@example.com"}]}]',
        "my.own": {"deep": ["card 4111 1111 1111 1111"]},
        "workbench.sealed": {"unit": "forged", "input_hmac": "forged", "audited": "req_" + "0" * 32},
        "otel": "forged",
    }
    site.send(
        chat(
            1,
            trace=trace,
            name="ask anna@example.com",
            error="no anna@example.com",
            attributes=told,
            events=[("exception", 1, {"exception.message": "anna@example.com"})],
        ),
        resource={"service.name": "assistant", "enduser.id": "anna-k"},
    )
    site.settle()
    (stored,), row = site.spans(trace), site.request(trace)
    for text in (json.dumps(stored, default=str), json.dumps(row, default=str)):
        assert "anna" not in text
        assert "4111 1111" not in text
        assert "forged" not in text
    attributes = json.loads(stored["attributes"])
    assert attributes["gen_ai.request.model"] == "m-1"
    assert attributes["otel"]["resource"]["service.name"] == "assistant"
    assert stored["alias_version"] == aliases.ALIAS_VERSION
    assert row["unit_hash"] == SEALER.unit_hash("anna-k") == attributes["workbench.unit"]
    assert row["input_hmac"] == SEALER.proof(b'[{"content":"I am anna@example.com","role":"user"}]')


def test_a_span_is_read_back_as_it_was_sealed(site: Site, trace: str):
    site.send(
        chat(
            1,
            7,
            trace=trace,
            at=0.123,
            ms=12.345,
            error="x",
            kind="client",
            attributes={"user.id": "u", "x": [1.5, {"a": None}]},
            events=[("e", 3, {"k": True})],
        )
    )
    (row,) = site.spans(trace)
    (slim,) = site.read(f"SELECT {', '.join(COLUMNS)} FROM lake.spans WHERE trace_id = '{trace}'")
    read = span_of(slim)
    assert attributes_text(read) == row["attributes"]
    assert (read.duration_ms, read.kind, read.is_error, read.parent_span_id) == (12.345, "client", True, f"{7:016x}")


def test_scores_in_events_are_stored_once_with_their_request(site: Site, trace: str):
    event = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8}
    site.send(chat(1, trace=trace, events=[("gen_ai.evaluation.result", 10, event)]))
    site.settle()
    site.send(chat(2, 1, trace=trace, at=10))
    site.settle()
    found = site.read(f"SELECT name, value, source, request_id FROM lake.scores WHERE request_id = '{trace}'")
    assert found == [{"name": "relevance", "value": 0.8, "source": "judge", "request_id": trace}]


def test_erasing_a_unit_takes_all_spans_of_its_requests(site: Site, trace: str):
    spans = (
        span(1, trace=trace, ms=900, name="nightly"),
        agent(2, 1, trace=trace, attributes={"user.id": "keep"}),
        agent(4, 1, trace=trace, at=200, attributes={"user.id": "gone"}),
        chat(5, 4, trace=trace, at=210),
    )
    site.send(*spans)
    site.settle()
    gone = SEALER.unit_hash("gone")
    taken = site.lake.write(lambda connection: take_out(connection, erasure_id=1, unit_hash=gone, known=(), at=site.clock()), what="erase")
    assert dict(zip(COUNTED, taken.rows, strict=True))["spans"] >= 2
    assert {row["span_id"] for row in site.spans(trace)} == {f"{1:016x}", f"{2:016x}"}
    Settler(site.lake, site.logs, quiet_s=QUIET_S).settle(site.clock())
    assert [row["unit_hash"] for row in site.requests(trace)] == [SEALER.unit_hash("keep")], (
        "what is left is still settled as the other unit's"
    )


def test_a_revision_stays_in_the_hour_of_the_first(site: Site, trace: str):
    site.send(chat(2, 1, trace=trace, at=10))
    site.send(agent(1, trace=trace, at=-60_000, ms=61_000))
    site.settle()
    row = site.request(trace)
    assert (row["start_us"] % 3_600_000_000, row["latency_ms"]) == (0, 61_000.0)


def test_what_is_no_message_is_refused_and_a_full_log_keeps_nothing_in_mind(site: Site, trace: str):
    with pytest.raises(RecordRefused):
        site.receiver.receive(b"{", is_json=True, app="shop", is_served_here=False)

    class Full:
        def record(self, _rows: object) -> None:
            raise StoreError("spool", seen="full")

    receiver = Receiver(Full(), SEALER, clock=site.clock)
    with pytest.raises(StoreError):
        receiver.receive(as_protobuf(chat(1, trace=trace)), is_json=False, app="shop", is_served_here=False)
    receiver._log = site.logs
    assert receiver.receive(as_protobuf(chat(1, trace=trace)), is_json=False, app="shop", is_served_here=False).n_accepted == 1
    site.logs.flush()
    assert len(site.spans(trace)) == 1


def test_a_very_long_trace_is_put_together_when_it_is_quiet_only(site: Site, trace: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workbench.observability.otlp.receiving._MOST_SPANS_LOOKED_AT", 3)
    receiver = site.another()
    site.send(
        agent(1, trace=trace, ms=900), *(chat(number, 1, trace=trace, at=number) for number in (2, 3, 4)), receiver=receiver, flush=False
    )
    site.send(chat(5, 1, trace=trace, at=5), receiver=receiver)
    assert (site.request(trace)["input_tokens"], site.request(trace)["is_final"]) == (30, False)
    site.settle()
    assert (site.request(trace)["input_tokens"], site.request(trace)["is_final"]) == (40, True)


def test_what_is_refused_and_large_is_not_kept_in_mind(site: Site, trace: str):
    receiver = site.another()
    site.send(span(1, trace=trace, attributes={"large": ["x" * 20_000]}), span(2, trace=trace), receiver=receiver)
    assert [key[2] for key in receiver._waiting] == [f"{2:016x}"]


def test_memory_is_bounded_and_what_is_forgotten_is_still_right_in_the_end(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workbench.observability.otlp.receiving._MOST_KEPT_BYTES", 10_000)
    receiver = site.another()
    names = [secrets.token_hex(16) for _ in range(5)]
    for name, number in itertools.product(names, (1, 2)):
        site.send(chat(number, None if number == 1 else 1, trace=name, at=number), receiver=receiver, flush=False)
    for name in names:
        site.send(tool(3, 1, trace=name, at=5, call_id="a"), receiver=receiver, flush=False)
    assert 0 < receiver._size <= 10_000
    site.settle()
    assert {(row["input_tokens"], row["n_tool_calls"]) for name in names for row in site.requests(name)} == {(10, 1)}
