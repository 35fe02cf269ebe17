"""One call through the whole controls: what is promised about its order, its records, and whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import CancelledError, Future
from contextlib import closing

import pytest

from tests.controls.test_routing import wait_for
from tests.controls.tiny import APP, ASK, FALLBACK, NOW, Model, Tape, controls_of, put_route, register, said, serving
from workbench.controls.model import Reason
from workbench.demo.clock import VirtualClock
from workbench.errors import IntegrityError, RequestRefused, StoreError
from workbench.observability.sealing import Sealer
from workbench.workspace import LEDGER_FILE, Workspace

UNITS = [f"customer-{number:06d}" for number in range(10_000)]
DISK_FULL = StoreError("spool", seen="could not be written: disk full")


def ask(controls, app="support", messages=ASK, **about):
    return asyncio.run(controls.handle(app, messages, **about))


def refusal(controls, app="support", messages=ASK, **about) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        ask(controls, app, messages, **about)
    return refused.value


async def until(condition) -> None:
    """Return once the condition holds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to be")


def canary(ws, share=0.25, **values):
    """Bundle v2 beside v1, and the two ids."""
    stable, candidate = register(ws, "v1"), register(ws, "v2", controls={"timeout": "9s"})
    put_route(ws, stable=stable.bundle_id, candidate=candidate.bundle_id, share=share, release_id="support.1", **values)
    return stable.bundle_id, candidate.bundle_id


# The order


class Gate:
    """A log whose commits happen when the test says so."""

    pressure = 0.0

    def __init__(self) -> None:
        self.pending: list[tuple[dict, Future[None]]] = []

    def submit(self, rows):
        future: Future[None] = Future()
        self.pending.append((rows, future))
        return future


def test_start_is_committed_before_the_model_is_asked_and_end_before_the_answer_leaves(released):
    gate, events = Gate(), []
    model = Model(lambda _: events.append("model") or said())

    async def probe(controls):
        task = asyncio.create_task(controls.handle("support", ASK, unit="u1"))
        for record in ("START", "END"):
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not task.done()
            rows, future = gate.pending.pop()
            assert gate.pending == []
            assert rows["requests"][0]["is_final"] is (record == "END")
            assert rows["requests"][0]["revision"] == (record == "END")
            events.append(record)
            future.set_result(None)
        await task
        events.append("answer")

    with serving(released, model, log=gate) as controls:
        asyncio.run(probe(controls))
    assert events == ["START", "model", "END", "answer"]


def test_without_its_start_record_no_model_is_asked(released, model, tape):
    with serving(released, model, log=tape) as controls:
        tape.faults = [DISK_FULL]
        refused = refusal(controls)
        assert (refused.code, refused.http_status, refused.retry_after_s) == ("audit_unavailable", 503, 1.0)
        assert model.asked == []
        assert not controls.status().is_ready
        assert ask(controls).status == "ok"
        assert controls.status().is_ready


def test_without_its_end_record_no_answer_leaves(released, model, tape):
    with serving(released, model, log=tape) as controls:
        tape.faults = [None, DISK_FULL]
        assert refusal(controls).code == "audit_unavailable"
        assert len(model.asked) == 1
    assert [row["is_final"] for row in tape.rows()] == [False]


def test_an_app_whose_audit_is_best_effort_answers_and_leaves_a_gap_that_is_told(ws, tape):
    put_route(ws, stable=register(ws, "v1", app={**APP, "audit": "best_effort"}).bundle_id)
    with serving(ws, Model(), log=tape) as controls:
        tape.faults = [DISK_FULL, DISK_FULL]
        assert ask(controls).status == "ok"
        status = controls.status()
        assert not status.is_ready
        assert any("support: 2 audit records from" in alarm for alarm in status.alarms)
        assert ask(controls).status == "ok"
        assert controls.status().is_ready, "a gap is an alarm, not a reason to send nobody here"
        assert any("the audit has a gap" in alarm for alarm in controls.status().alarms)
    assert [row["name"] for row in tape.rows("spans") if row["kind"] == "other"] == ["audit_gap"]


def test_a_spool_that_cannot_be_written_refuses_before_the_model(released, model):
    with serving(released, model) as controls:
        ask(controls)
        spool = next((released.home / "spool").glob("*.sqlite"))
        with closing(sqlite3.connect(spool)) as other:
            other.execute("DROP TABLE rows")
            other.commit()
        asked = len(model.asked)
        refused = refusal(controls)
        assert refused.code == "audit_unavailable"
        assert str(spool) not in str(refused)
        assert len(model.asked) == asked
        assert any("audit" in reason for reason in controls.status().reasons)


# What the record says


def test_the_records_say_who_decided_what(ws, tape):
    stable, candidate = canary(ws, share=0.5)
    with serving(ws, Model(), log=tape) as controls:
        for number in range(40):
            ask(controls, unit=f"u{number}", session="s1", workflow="returns")
    ends = [row for row in tape.rows() if row["is_final"]]
    assert {row["arm"] for row in ends} == {"stable", "candidate"}
    for row in ends:
        assert row["bundle"] == (candidate if row["arm"] == "candidate" else stable)
        assert (row["traffic_share"], row["route_version"], row["release_id"]) == (0.5, 1, "support.1")
        assert (row["session_id"], row["workflow"], row["status"], row["attempts"]) == ("s1", "returns", "ok", 1)
        assert (row["model_requested"], row["model_served"], row["provider"]) == ("small", "small-1.0", "scripted")
        assert (row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (12, 5, None)
    assert len({row["unit_hash"] for row in ends}) == 40
    starts = [row for row in tape.rows() if not row["is_final"]]
    assert {(row["status"], row["revision"]) for row in starts} == {("unknown", 0)}
    assert {row["request_id"] for row in starts} == {row["request_id"] for row in ends}
    spans = tape.rows("spans")
    assert {(span["kind"], span["name"]) for span in spans} == {("agent", "answer"), ("model", "small")}
    assert len({span["span_id"] for span in spans}) == len(spans)


def test_latencies_are_on_the_calls_clock_and_the_first_token_counts_from_its_arrival(released, tape):
    clock = VirtualClock()

    async def think(_request):
        await clock.sleep(2)
        return said(timings={"prompt_ms": 500})

    with serving(released, Model(think), log=tape, turn_clock=lambda: clock) as controls:
        asyncio.run(clock.sleep(100))
        answer = ask(controls)
    assert answer.latency_ms == 2000
    end = tape.last()
    assert (end["latency_ms"], end["ttft_ms"], (end["ts_end"] - NOW).total_seconds()) == (2000, 500, 2)
    model_span = next(span for span in tape.rows("spans") if span["kind"] == "model")
    assert (model_span["ts_start"], model_span["duration_ms"]) == (NOW, 2000)


def test_tools_work_for_the_unit_and_the_assistant_never_runs_without_a_name(released, tape):
    model = Model(lambda request: said(tool=("look_up", {})) if request["messages"][-1]["role"] == "user" else said())
    with serving(released, model, log=tape) as controls:
        ask(controls, unit="u1", metadata={"signed_in": "yes"})
        ask(controls, request_id="req_7")
    results = [span["tool_result"] for span in tape.rows("spans") if span["kind"] == "tool"]
    assert '"unit":"u1"' in results[0]
    assert '"signed_in":"yes"' in results[0]
    assert '"unit":null' in results[1]
    assert [asked["user"] for asked in model.asked] == ["u1", "u1", "req_7", "req_7"]


# Who serves


def test_ten_thousand_units_stay_where_they_are_from_5_to_25_to_50_percent(ws):
    _, candidate = canary(ws, share=0.05)
    with serving(ws, Model()) as controls:
        seen: list[set[str]] = []
        for share in (0.05, 0.25, 0.5):
            version = put_route(ws, share=share)
            wait_for(lambda version=version: controls.assign("support", "u").route_version == version)
            assigned = {unit: controls.assign("support", unit) for unit in UNITS}
            assert {a.reason for a in assigned.values()} == {Reason.BUCKET}
            seen.append({unit for unit, a in assigned.items() if a.bundle_id == candidate})
            assert seen[-1] == {unit for unit in UNITS if controls.assign("support", unit).bundle_id == candidate}
    assert seen[0] < seen[1] < seen[2]
    assert [round(len(members) / len(UNITS), 2) for members in seen] == [0.05, 0.25, 0.5]


def test_calls_for_nobody_in_particular_are_served_by_stable_and_counted(ws, tape):
    stable, _ = canary(ws, share=1.0)
    with serving(ws, Model(), log=tape) as controls:
        answers = [ask(controls) for _ in range(5)] + [ask(controls, unit="u1")]
        status = controls.status()
    assert [answer.arm for answer in answers] == ["stable"] * 5 + ["candidate"]
    assert (status.no_unit, status.served) == (5, {"stable": 5, "candidate": 1})
    assert [row["unit_hash"] for row in tape.rows() if row["bundle"] == stable and "unit_hash" in row] == []


def test_a_rollback_reaches_the_calls_within_a_second_and_none_fails_meanwhile(ws):
    """Twenty callers without pause; after the ledger's commit the last candidate answer is at most a second away."""
    stable, candidate = canary(ws, share=1.0)
    seen: list[str] = []

    async def traffic(controls):
        async def caller(name):
            while candidate in seen[-200:] or len(seen) < 400:
                answer = await controls.handle("support", ASK, unit=name)
                seen.append(answer.bundle_id)
                if len(seen) == 200:
                    await asyncio.to_thread(put_route, ws, candidate=None, share=0.0)

        await asyncio.wait_for(asyncio.gather(*(caller(f"u{n}") for n in range(20))), 20)

    with serving(ws, Model(), log=Tape(), interval_s=0.25) as controls:
        asyncio.run(traffic(controls))
    assert seen[0] == candidate
    assert set(seen[-200:]) == {stable}


def test_a_rollback_after_promotion_to_a_bundle_that_is_not_loaded_waits_for_it(ws):
    old, new = register(ws, "v1"), register(ws, "v2", controls={"timeout": "9s"})
    put_route(ws, stable=new.bundle_id)
    with serving(ws, Model(), log=Tape()) as controls:
        assert ask(controls).bundle_id == new.bundle_id
        version = put_route(ws, stable=old.bundle_id)
        wait_for(lambda: controls.assign("support", None).route_version == version)
        assert ask(controls).bundle_id == old.bundle_id


def test_a_first_release_serves_its_share_and_the_declared_fallback_to_the_rest(ws, tape):
    candidate = register(ws, "v1")
    put_route(ws, candidate=candidate.bundle_id, share=0.5, release_id="support.1")
    with serving(ws, Model(), log=tape) as controls:
        answers = [ask(controls, unit=f"u{n}") for n in range(40)]
        version = put_route(ws, without_stable="off")
        wait_for(lambda: controls.assign("support", None).route_version == version)
        refused = refusal(controls)
    assert {answer.arm for answer in answers} == {"candidate", "none"}
    canned = [answer for answer in answers if answer.arm == "none"]
    assert {(a.content, a.is_fallback, a.bundle_id, a.attempts, a.model_served) for a in canned} == {(FALLBACK, True, None, 0, None)}
    assert (refused.code, refused.http_status) == ("nothing_to_serve", 503)
    assert (tape.last()["status"], tape.last()["error_type"], tape.last()["arm"]) == ("error", "nothing_to_serve", "none")


@pytest.mark.parametrize("fallback", [None, {"kind": "off"}, {"kind": "human"}])
def test_without_a_declared_text_there_is_no_fallback_to_give(ws, fallback):
    candidate = register(ws, "v1", app={**APP, "fallback": fallback})
    put_route(ws, candidate=candidate.bundle_id, share=0.0)
    with serving(ws, Model(), log=Tape()) as controls:
        assert refusal(controls).code == "nothing_to_serve"


# The ledger out of reach


def test_after_thirty_seconds_without_the_ledger_there_is_stable_only_and_it_says_so(ws, tape, monkeypatch):
    stable, candidate = canary(ws, share=1.0)
    now = [1000.0]
    with serving(ws, Model(), log=tape, monotonic=lambda: now[0]) as controls:
        reachable = ws.ledger.read

        def gone():
            raise StoreError("ledger", seen="out of reach")

        assert controls.status().alarms == ()
        monkeypatch.setattr(ws.ledger, "read", gone)
        wait_for(lambda: controls.status().alarms)
        now[0] += 29.9
        assert ask(controls, unit="u1").bundle_id == candidate
        assert "after 30 s candidates serve nobody" in controls.status().alarms[0]
        assert controls.status().is_ready, "a ledger that is away for a moment takes no gateway out of service"
        now[0] += 0.2
        answer = ask(controls, unit="u1")
        assert (answer.bundle_id, answer.arm) == (stable, "stable")
        assert controls.assign("support", "u1").reason is Reason.STALE_ROUTE
        assert tape.last()["traffic_share"] == 0.0
        status = controls.status()
        assert not status.is_ready
        assert "candidates serve nobody" in status.reasons[0]
        assert status.route_age_s > 30
        monkeypatch.setattr(ws.ledger, "read", reachable)
        wait_for(lambda: controls.status().is_ready)
        assert ask(controls, unit="u1").bundle_id == candidate


def test_a_first_release_without_the_ledger_falls_to_the_fallback(ws, monkeypatch):
    put_route(ws, candidate=register(ws, "v1").bundle_id, share=1.0)
    now = [0.0]
    with serving(ws, Model(), log=Tape(), monotonic=lambda: now[0], interval_s=60) as controls:
        now[0] += 31
        answer = ask(controls, unit="u1")
    assert (answer.content, answer.arm) == (FALLBACK, "none")


def test_a_ledger_out_of_reach_at_the_start_refuses_to_start(released, monkeypatch):
    def gone():
        raise StoreError("ledger", seen="out of reach")

    controls = controls_of(released, Model())
    monkeypatch.setattr(released.ledger, "read", gone)
    with pytest.raises(StoreError):
        controls.start()
    with pytest.raises(StoreError):
        ask(controls)
    assert not controls.status().is_ready
    controls.close()


# Bundles that cannot be served


def damage(ws, bundle_id):
    """Change the stored code of a bundle behind the workbench's back."""
    bundle = ws.versions.get(bundle_id)
    digest = f"sha256:{bundle.parts['orchestration'].content['code'][0]['sha256']}"
    with closing(sqlite3.connect(ws.home / LEDGER_FILE)) as ledger:
        assert ledger.execute("UPDATE blobs SET content = X'00' WHERE digest = ?", (digest,)).rowcount == 1
        ledger.commit()


@pytest.mark.parametrize("arm", ["stable", "candidate"])
def test_a_bundle_whose_files_changed_is_not_started(ws, arm):
    stable, candidate = register(ws, "v1").bundle_id, register(ws, "v2", agent=b"async def answer(m, h): ...\n").bundle_id
    put_route(ws, stable=stable, candidate=candidate, share=0.5)
    damage(ws, {"stable": stable, "candidate": candidate}[arm])
    controls = controls_of(ws, Model())
    with pytest.raises(IntegrityError, match="no longer matches its digest"):
        controls.start()
    assert not controls.status().is_ready
    controls.close()


def test_a_candidate_that_cannot_be_loaded_later_leaves_its_units_on_stable(released):
    with serving(released, Model(), log=Tape()) as controls:
        candidate = register(released, "v2", agent=b"async def answer(m, h): ...\n").bundle_id
        damage(released, candidate)
        put_route(released, candidate=candidate, share=1.0)
        wait_for(lambda: controls.status().alarms)
        assignment = controls.assign("support", "u1")
        assert (assignment.arm, assignment.reason, assignment.share) == ("stable", Reason.NOT_LOADED, 0.0)
        assert ask(controls, unit="u1").arm == "stable"
        assert "the candidate bundle cannot be served" in controls.status().alarms[0]
        assert controls.status().is_ready, "stable serves everybody, so no gateway leaves service"
        put_route(released, candidate=None, share=0.0)
        wait_for(lambda: not controls.status().alarms)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"agent": b"import no_such_module\n"}, "importing agent failed: ModuleNotFoundError"),
        ({"app": {key: value for key, value in APP.items() if key != "tools"}}, "names nothing that runs them"),
        ({"app": {**APP, "tools": "tests.controls.tiny:nothing"}}, "has no callable 'nothing'"),
        ({"app": {**APP, "tools": "no.such.module:f"}}, "importing no.such.module failed"),
        ({"orchestration": {"code": ["agent.py"]}}, "no entry point"),
    ],
)
def test_a_stable_bundle_that_cannot_be_run_is_a_clear_alarm_and_a_clear_refusal(ws, tape, changes, why):
    put_route(ws, stable=register(ws, "v1", **changes).bundle_id)
    with serving(ws, Model(), log=tape) as controls:
        status = controls.status()
        assert not status.is_ready
        assert why in status.alarms[0]
        refused = refusal(controls)
        assert (refused.code, refused.http_status) == ("nothing_to_serve", 503)
    assert tape.last()["error_type"] == "nothing_to_serve"


def test_a_provider_that_nobody_knows_names_the_variable_to_set(released):
    from workbench.controls.providers import Providers

    with serving(released, None, providers=Providers({}, installed=lambda _: None)) as controls:
        assert "WORKBENCH_PROVIDER_SCRIPTED_URL" in controls.status().alarms[0]


def test_an_app_that_is_served_elsewhere_is_refused_in_a_clear_sentence_and_still_assigned(ws, tape):
    about = {"app": {**{key: value for key, value in APP.items() if key != "tools"}, "serving": "external"}}
    stable, candidate = register(ws, "v1", **about), register(ws, "v2", controls={"timeout": "9s"}, **about)
    put_route(ws, stable=stable.bundle_id, candidate=candidate.bundle_id, share=1.0)
    with serving(ws, Model(), log=tape) as controls:
        refused = refusal(controls)
        assert (refused.code, refused.http_status) == ("not_served_here", 501)
        assert "serving: external" in str(refused)
        assert controls.assign("support", "u1").arm == "candidate"
        assert controls.status().is_ready
    assert (tape.last()["status"], tape.last()["error_type"]) == ("error", "not_served_here")


# Calls that are refused, or end early


def test_an_unknown_app_is_refused_and_leaves_no_record(released, model, tape):
    with serving(released, model, log=tape) as controls:
        refused = refusal(controls, "suport")
        assert (refused.code, refused.http_status) == ("unknown_app", 404)
        assert 'did you mean "support"' in str(refused)
        with pytest.raises(RequestRefused, match="there is none"):
            controls.assign("nobody", "u1")
        for wrong in (None, 7, ["support"], "\ud800"):
            assert refusal(controls, wrong).code == "bad_request"
    assert tape.batches == []


def test_an_app_that_was_never_released_is_refused_and_recorded(ws, tape):
    register(ws, "v1")
    with serving(ws, Model(), log=tape) as controls:
        refused = refusal(controls)
        assert (refused.code, refused.http_status) == ("nothing_to_serve", 503)
        assert "release start support" in str(refused)
        assert controls.status().is_ready
    assert [row["error_type"] for row in tape.rows()] == ["nothing_to_serve"]


@pytest.mark.parametrize("deadline_s", [0, -5, 0.04])
def test_a_deadline_that_is_past_is_refused_before_anything_begins(released, model, tape, deadline_s):
    with serving(released, model, log=tape) as controls:
        refused = refusal(controls, unit="u1", deadline_s=deadline_s)
        assert (refused.code, refused.http_status) == ("deadline_passed", 504)
        assert controls.status().refused == {"deadline_passed": 1}
    assert model.asked == []
    (row,) = tape.rows()
    assert (row["status"], row["error_type"], row["is_final"], row["revision"]) == ("timeout", "deadline_passed", True, 0)
    assert "input" not in row


def test_a_deadline_ends_the_turn_in_the_bundles_fallback(released, tape):
    clock = VirtualClock()
    with serving(released, Model(lambda _: clock.sleep(60)), log=tape, turn_clock=lambda: clock) as controls:
        answer = ask(controls, deadline_s=2)
    assert (answer.status, answer.is_fallback, answer.content) == ("timeout", True, "Please try again later.")
    assert answer.latency_ms == pytest.approx(1950)


def test_a_start_that_took_all_the_time_asks_no_model(released, model, tape):
    clock = VirtualClock()

    class Slow(Tape):
        def submit(self, rows):
            clock._now += 5
            return super().submit(rows)

    log = Slow()
    with serving(released, model, log=log, turn_clock=lambda: clock) as controls:
        assert refusal(controls, deadline_s=2).code == "deadline_passed"
    assert model.asked == []
    assert [(row["is_final"], row["status"]) for row in log.rows()] == [(False, "unknown"), (True, "timeout")]


def test_a_caller_who_leaves_gets_an_end_with_what_was_done(released, tape):
    started = threading.Event()

    async def hang(_request):
        started.set()
        await asyncio.sleep(60)

    async def leave(controls):
        task = asyncio.create_task(controls.handle("support", ASK, unit="u1"))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving(released, Model(hang), log=tape) as controls:
        asyncio.run(leave(controls))
        assert controls.status().in_flight == 0
    end = tape.last()
    assert (end["revision"], end["is_final"], end["status"], end["error_type"], end["output"]) == (
        1,
        True,
        "cancelled",
        "client_left",
        None,
    )
    assert [(span["kind"], span["status"]) for span in tape.rows("spans")] == [("agent", "cancelled"), ("model", "cancelled")]


def test_a_caller_who_leaves_while_start_is_written_gets_an_end_too(released, model):
    gate = Gate()

    async def leave(controls):
        task = asyncio.create_task(controls.handle("support", ASK))
        await until(lambda: gate.pending)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving(released, model, log=gate) as controls:
        asyncio.run(leave(controls))
    assert [rows["requests"][0]["status"] for rows, _ in gate.pending] == ["unknown", "cancelled"]
    assert model.asked == []


def test_a_caller_who_leaves_while_end_is_written_leaves_one_end(released, model):
    gate = Gate()

    async def leave(controls):
        task = asyncio.create_task(controls.handle("support", ASK))
        await until(lambda: gate.pending)
        gate.pending[0][1].set_result(None)
        await until(lambda: len(gate.pending) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving(released, model, log=gate) as controls:
        asyncio.run(leave(controls))
    assert [rows["requests"][0]["status"] for rows, _ in gate.pending] == ["unknown", "ok"]


LONG = [{"role": "user", "content": "where is my parcel? " * 5000}]


class Watched(Sealer):
    """Seals, and knows on which threads."""

    def __init__(self, like: Sealer) -> None:
        super().__init__(*like.__reduce__()[1])
        self.threads: list[bool] = []  # whether it was the loop's
        self.may_seal = threading.Event()
        self.may_seal.set()

    def request(self, row):
        self.threads.append(threading.current_thread() is threading.main_thread())
        assert self.may_seal.wait(10)
        return super().request(row)


@pytest.fixture
def sealers(monkeypatch) -> list[Watched]:
    """What seals for the controls of the test."""
    made = []

    def watched(redactor, unit_key):
        made.append(Watched(Sealer(redactor, unit_key)))
        return made[-1]

    monkeypatch.setattr("tests.controls.tiny.Sealer", watched)
    return made


@pytest.mark.parametrize(("messages", "answer"), [(ASK, "short"), (LONG, "x " * 40_000)])
def test_long_bodies_are_sealed_beside_the_loop_in_the_same_order(released, tape, sealers, messages, answer):
    order = []

    def reply(_request):
        order.append([row["is_final"] for row in tape.rows()])
        return said(answer)

    with serving(released, Model(reply), log=tape) as controls:
        told = asyncio.run(controls.handle("support", messages))
    assert sealers[0].threads == [messages is ASK] * 2
    assert order == [[False]]
    assert [row["is_final"] for row in tape.rows()] == [False, True]
    assert told.content == answer


def test_a_caller_who_leaves_while_a_long_answer_is_sealed_gets_one_end(released, tape, sealers):
    def reply(_request):
        sealers[0].may_seal.clear()
        return said("x " * 40_000)

    async def leave(controls):
        task = asyncio.create_task(controls.handle("support", ASK))
        await until(lambda: len(sealers[0].threads) == 2)
        sealers[0].may_seal.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving(released, Model(reply), log=tape) as controls:
        asyncio.run(leave(controls))
    assert [(row["is_final"], row["status"]) for row in tape.rows()] == [(False, "unknown"), (True, "cancelled")]


CARELESS = b"""
async def answer(messages, host):
    host.record("guard", "policy", rule_id=7)
    return {"content": "It is on its way."}
"""


@pytest.mark.parametrize(
    "agent",
    [
        CARELESS,
        b'async def answer(m, h): return {"content": "\\ud800"}\n',
        b"async def answer(m, h):\n    h.steps.clear()\n    h.steps.append(None)\n    return {'content': 'x'}\n",
    ],
)
def test_an_answer_that_cannot_be_recorded_does_not_leave_and_its_end_says_so(ws, tape, agent):
    put_route(ws, stable=register(ws, "v1", agent=agent).bundle_id)
    with serving(ws, Model(), log=tape) as controls:
        refused = refusal(controls)
        assert (refused.code, refused.http_status) == ("internal_error", 500)
    end = tape.last()
    assert (end["is_final"], end["status"], end["output"]) == (True, "error", None)


def test_messages_that_cannot_be_stored_are_refused_before_the_model(released, model, tape):
    deep: list = []
    for _ in range(400):
        deep = [deep]
    with serving(released, model, log=tape) as controls:
        for strange in ({"name": deep}, {"name": "\ud800"}, {"name": object()}, {7: "x"}):
            assert refusal(controls, messages=[{**ASK[0], **strange}]).code == "bad_request"
    assert model.asked == []
    assert {(row["status"], row["error_type"], row["revision"]) for row in tape.rows()} == {("blocked", "bad_request", 0)}


def test_more_calls_than_allowed_are_refused_at_once(released, tape):
    async def crowd(controls):
        tasks = [asyncio.create_task(controls.handle("support", ASK)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert controls.status().in_flight == 3
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def hang(_request):
        await asyncio.sleep(60)

    with serving(released, Model(hang), log=tape, most_in_flight=3) as controls:
        ended = asyncio.run(crowd(controls))
        refused = [fault for fault in ended if isinstance(fault, RequestRefused)]
        assert [(fault.code, fault.http_status, fault.retry_after_s) for fault in refused] == [("overloaded", 429, 1.0)] * 2
        assert controls.status().refused == {"overloaded": 2}
        assert controls.status().in_flight == 0


def test_an_audit_that_is_nearly_full_takes_only_what_a_person_waits_for(released, model, tape):
    with serving(released, model, log=tape) as controls:
        tape.pressure = 0.79
        assert ask(controls, priority="shadow").status == "ok"
        tape.pressure = 0.8
        assert [refusal(controls, priority=priority).code for priority in ("batch", "shadow")] == ["overloaded"] * 2
        assert ask(controls).status == "ok"


# Beginning and end


def test_the_first_call_starts_the_controls(released, model, tape):
    controls = controls_of(released, model, log=tape)
    assert controls.status().reasons == ("the controls have not been started",)
    assert ask(controls).status == "ok"
    assert controls.status().is_ready
    controls.start()
    controls.close()


def _raised(work) -> type[BaseException] | None:
    try:
        work()
    except BaseException as fault:
        return type(fault)
    return None


def test_calls_that_the_end_of_the_process_cancels_are_recorded_as_stopped(released, tape):
    started, ended = threading.Event(), []

    async def hang(_request):
        started.set()
        await asyncio.sleep(60)

    with serving(released, Model(hang), log=tape) as controls:
        caller = threading.Thread(target=lambda: ended.append(_raised(lambda: controls.handle_blocking("support", ASK))))
        caller.start()
        assert started.wait(10)
        controls.close()
        caller.join(10)
    assert ended == [CancelledError]
    assert [(row["is_final"], row["status"], row.get("error_type")) for row in tape.rows()] == [
        (False, "unknown", None),
        (True, "cancelled", "stopping"),
    ]


def test_blocking_callers_need_no_loop_and_share_one(released, model, tape):
    with serving(released, model, log=tape) as controls:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(controls.handle_blocking("support", ASK))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == ["ok"] * 8

        async def notebook():
            return controls.handle_blocking("support", ASK, unit="u1")

        assert asyncio.run(notebook()).status == "ok"
        with pytest.raises(RequestRefused):
            controls.handle_blocking("support", [])


def test_a_blocking_call_inside_a_blocking_call_is_refused_not_waited_for(released, tape):
    model = Model(lambda _: controls.handle_blocking("support", ASK))
    with serving(released, model, log=tape) as controls:
        answer = controls.handle_blocking("support", ASK)
    assert answer.is_fallback


def test_closing_ends_blocking_calls_with_a_record(released, tape):
    started = threading.Event()
    ended: list[BaseException] = []

    async def hang(_request):
        started.set()
        await asyncio.sleep(60)

    def call(controls):
        try:
            controls.handle_blocking("support", ASK)
        except BaseException as fault:
            ended.append(fault)

    with serving(released, Model(hang), log=tape) as controls:
        thread = threading.Thread(target=call, args=(controls,))
        thread.start()
        started.wait(10)
    thread.join()
    assert len(ended) == 1
    assert tape.last()["status"] == "cancelled"


def test_the_workspace_brings_the_controls_and_ends_them_before_the_log(tmp_path):
    with Workspace.open(tmp_path / "home", clock=lambda: NOW, turn_clock=VirtualClock) as ws:
        put_route(ws, stable=register(ws, "v1", model={"provider": "local", "name": "m", "version": "1"}).bundle_id)
        ws.controls.start()
        assert ws.controls.status().is_ready
        assert ws.controls.handle_blocking("support", ASK).is_fallback
    with Workspace.open(tmp_path / "home", clock=lambda: NOW) as ws:
        assert ws.metrics.value("volume", app="support", where={}).n == 1
