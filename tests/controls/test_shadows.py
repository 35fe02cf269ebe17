"""Nothing that a shadow does is met by a user or a tool: it answers copies, later, elsewhere, and is dropped first."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.controls.test_routing import wait_for
from tests.controls.test_service import ask
from tests.controls.test_streams import BREAKS, pieces_of
from tests.controls.tiny import APP, ASK, Model, Tape, put_route, register, said, serving
from workbench.controls.assignment import assign, is_mirrored
from workbench.controls.model import Reason, Route, StreamBroken
from workbench.controls.shadows import DROPPED, MOST_AT_ONCE
from workbench.errors import StoreError
from workbench.workspace import Workspace

LONGEST_S = 30
WRITING: list[str] = []


class Writing:
    """Tools that note what is done to the world."""

    async def call(self, name: str, arguments: Any) -> dict[str, Any]:
        WRITING.append(name)
        return {"done": name, "with": dict(arguments)}


def open_writing(_context: Any) -> Writing:
    return Writing()


TOOLS = [{"name": "look_up", "side_effect": "read"}, {"name": "refund", "side_effect": "write"}, {"name": "ping"}]
ORCHESTRATION = {"entry": "agent:answer", "code": ["agent.py"], "tools": TOOLS}


def shadowed(ws: Workspace, share: float = 1.0, **candidate: Any) -> tuple[str, str]:
    """Bundle v2 as the shadow of v1, and the two ids."""
    stable, shadow = (
        register(ws, "v1"),
        register(ws, "v2", **{"model": {"provider": "scripted", "name": "other", "version": "2"}, **candidate}),
    )
    put_route(ws, stable=stable.bundle_id, shadow=shadow.bundle_id, shadow_share=share, release_id="support.1")
    return stable.bundle_id, shadow.bundle_id


def ended(controls: Any, n: int = 1) -> dict[str, int]:
    """The counts of copies, once so many have ended."""
    wait_for(lambda: sum(controls.status().shadows.values()) >= n)
    return dict(controls.status().shadows)


def loaded(controls: Any) -> Any:
    wait_for(lambda: bool(controls._shadow_shelf.loaded))
    return controls


def is_copy(request: Any) -> bool:
    return request["model"] == "other"


def test_the_user_gets_stables_answer_and_the_log_has_a_copy_beside_it(ws, model, tape):
    stable, shadow = shadowed(ws)
    model.reply = lambda request: said("The shadow's words." if is_copy(request) else "It is on its way.")
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        answer = ask(controls, unit="u1", session="s1")
        assert ended(controls) == {"ok": 1}
        assert (answer.content, answer.arm, answer.bundle_id) == ("It is on its way.", "stable", stable)
        assert controls.status().served == {"stable": 1}
    own, copy = (next(row for row in tape.rows() if row["is_final"] and row["arm"] == arm) for arm in ("stable", "shadow"))
    assert (copy["bundle"], copy["release_id"], copy["session_id"]) == (shadow, "support.1", "s1")
    assert copy["request_id"] != own["request_id"]
    assert copy["trace_id"] == own["trace_id"]
    assert copy["unit_hash"] == own["unit_hash"]
    assert "The shadow's words." in copy["output"]


def test_a_tool_that_may_change_something_is_never_called(ws, model, tape):
    WRITING.clear()
    app = {**APP, "tools": "tests.controls.test_shadows:open_writing"}
    shadowed(ws, orchestration=ORCHESTRATION, app=app)
    names = iter(["refund", "ping", "look_up"])
    told: list[Any] = []

    def reply(request: Any) -> Any:
        if not is_copy(request):
            return said()
        told.append(request["messages"][-1]["content"])
        name = next(names, None)
        return said("Done.") if name is None else said(tool=(name, {"id": 7}))

    model.reply = reply
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        ask(controls, unit="u1")
        assert ended(controls) == {"ok": 1}
    assert WRITING == ["look_up"]
    assert [("nothing may change" in words, "done" in words) for words in told[1:]] == [(True, False), (True, False), (False, True)]
    steps = {row["tool_name"]: row for row in tape.rows("spans") if row["kind"] == "tool"}
    assert {name: row["error_type"] for name, row in steps.items()} == {"refund": "withheld", "ping": "withheld", "look_up": None}


def test_stables_own_tools_run_as_ever(ws, model, tape):
    WRITING.clear()
    app = {**APP, "tools": "tests.controls.test_shadows:open_writing"}
    stable = register(ws, "v1", orchestration=ORCHESTRATION, app=app)
    shadow = register(ws, "v2", model={"provider": "scripted", "name": "other", "version": "2"}, app=app)
    put_route(ws, stable=stable.bundle_id, shadow=shadow.bundle_id, shadow_share=1.0)
    model.reply = lambda request: said(tool=("refund", {})) if len(request["messages"]) == 1 and not is_copy(request) else said()
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        ask(controls, unit="u1")
        ended(controls)
    assert WRITING == ["refund"]


def test_a_shadow_that_hangs_delays_nobody_and_what_is_too_much_is_dropped(ws, model, tape):
    shadowed(ws)
    blocked, released = threading.Event(), threading.Event()

    def reply(request: Any) -> Any:
        if is_copy(request):
            blocked.set()
            released.wait(LONGEST_S)  # keeps the shadows' whole thread
        return said()

    model.reply = reply
    n = MOST_AT_ONCE + 5
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        assert ask(controls, unit="u0").status == "ok"
        assert blocked.wait(LONGEST_S)
        assert [ask(controls, unit=f"u{number}").status for number in range(1, n)] == ["ok"] * (n - 1)
        assert controls.status().shadows == {DROPPED: n - MOST_AT_ONCE}
        assert controls.status().in_flight == 0
        released.set()
        assert ended(controls, n) == {DROPPED: n - MOST_AT_ONCE, "ok": MOST_AT_ONCE}


@pytest.mark.parametrize("fault", [RuntimeError("it broke"), TypeError("it is none")], ids=str)
def test_a_shadow_that_breaks_is_recorded_and_the_next_answers_are_as_before(ws, model, tape, fault):
    shadowed(ws)

    def reply(request: Any) -> Any:
        if is_copy(request):
            raise fault
        return said()

    model.reply = reply
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        for number in range(30):
            assert ask(controls, unit=f"u{number}").status == "ok"
            ended(controls, number + 1)
        assert controls.status().reasons == ()
    assert {row["status"] for row in tape.rows() if row["arm"] == "shadow" and row["is_final"]} == {"error"}
    assert {row["status"] for row in tape.rows() if row["arm"] == "stable" and row["is_final"]} == {"ok"}


def test_a_shadows_failures_close_no_target_for_those_who_wait(ws, tape):
    """Both bundles ask the same model, which fails for the shadow's prompt only: the record of the target is not shared."""
    stable = register(ws, "v1")
    shadow = register(ws, "v2", model={"provider": "scripted", "name": "small", "version": "1.0", "params": {"seed": 7}}, agent=SEEDED)
    put_route(ws, stable=stable.bundle_id, shadow=shadow.bundle_id, shadow_share=1.0)

    def reply(request: Any) -> Any:
        if request.get("seed") == 7:
            raise ConnectionError("gone")
        return said()

    with serving(ws, Model(reply), log=tape) as controls:
        loaded(controls)
        for number in range(40):
            assert ask(controls, unit=f"u{number}").attempts == 1
            ended(controls, number + 1)


SEEDED = b"""
async def answer(messages, host):
    response = await host.complete({"model": "small", "messages": list(messages), "seed": 7})
    return {"content": response["choices"][0]["message"]["content"]}
"""


def test_shadows_are_dropped_before_anybody_is_refused(ws, model):
    class Full(Tape):
        def __init__(self) -> None:
            super().__init__()
            self.pressure = 0.85

    shadowed(ws)
    with serving(ws, model, log=Full()) as controls:
        loaded(controls)
        assert ask(controls, unit="u1").status == "ok"
        assert controls.status().shadows == {DROPPED: 1}


def test_a_copy_asks_nobody_and_calls_nobody_back(ws, model, tape):
    """What a person would have to decide is noted in the copy's record, and lies on no desk."""

    class NoDesk:
        def can_hold(self, _app: str) -> bool:
            return True

        def holding_text(self, _app: str) -> str:
            return "wait"

        def open(self, _new: Any) -> Any:
            raise AssertionError("a copy was handed to a person")

    shadowed(ws, controls={"timeout": "8s", "fallback": [{"kind": "human"}]})

    def reply(request: Any) -> Any:
        if is_copy(request):
            raise ConnectionError("gone")
        return said()

    model.reply = reply
    with serving(ws, model, log=tape, desk=NoDesk()) as controls:
        loaded(controls)
        assert ask(controls, unit="u1").status == "ok"
        ended(controls)
    copy = next(row for row in tape.rows() if row["arm"] == "shadow" and row["is_final"])
    assert copy["handoff_id"] is None
    assert copy["status"] in ("error", "timeout")


def test_a_streamed_answer_is_copied_whole_when_it_has_left(ws, model, tape):
    shadowed(ws)

    async def streamed(controls: Any) -> str:
        async with controls.stream("support", ASK, unit="u1") as stream:
            async for _ in stream:
                assert controls.status().shadows == {}
            return stream.answer.content

    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        assert asyncio.run(streamed(controls)) == "It is on its way."
        assert ended(controls) == {"ok": 1}


def test_a_streamed_answer_that_breaks_is_copied_too_so_that_what_fails_with_stable_is_compared(ws, model, tape):
    stable = register(ws, "v1", agent=BREAKS)
    shadow = register(ws, "v2", model={"provider": "scripted", "name": "other", "version": "2"})
    put_route(ws, stable=stable.bundle_id, shadow=shadow.bundle_id, shadow_share=1.0)
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        with pytest.raises(StreamBroken):
            asyncio.run(pieces_of(controls, unit="u1"))
        assert ended(controls) == {"ok": 1}
    assert {row["arm"]: row["status"] for row in tape.rows() if row["is_final"]} == {"stable": "error", "shadow": "ok"}


def test_a_copy_that_cannot_be_recorded_is_nobodys_fault(ws, model):
    class Broken(Tape):
        def submit(self, rows: Any) -> Any:
            if any(row["arm"] == "shadow" for row in rows.get("requests", ())):
                raise StoreError("spool", seen="disk full")
            return super().submit(rows)

    shadowed(ws)
    with serving(ws, model, log=Broken()) as controls:
        loaded(controls)
        assert ask(controls, unit="u1").status == "ok"
        assert ended(controls) == {"audit_unavailable": 1}


def test_who_is_not_of_the_share_or_nobody_is_not_copied(ws, model, tape):
    shadowed(ws, share=0.25)
    with serving(ws, model, log=tape) as controls:
        loaded(controls)
        route = controls.status().routes[0]
        units = [f"u{number}" for number in range(40)]
        for unit in units:
            ask(controls, unit=unit)
        ask(controls)
        mirrored = [unit for unit in units if is_mirrored(route, unit)]
        assert 0 < len(mirrored) < 40
        assert ended(controls, len(mirrored)) == {"ok": len(mirrored)}


def test_what_is_mirrored_is_what_a_canary_of_that_share_takes_first():
    shared: dict[str, Any] = {"app": "a", "stable": "a@1", "salt": "s", "release_id": None, "without_stable": "off", "route_version": 1}
    shadow = Route(**shared, candidate=None, share=0.0, changed_at=None, shadow="a@2", shadow_share=0.2)
    canary = Route(**shared, candidate="a@2", share=0.2, changed_at=None)
    units = [str(number) for number in range(500)]
    assert [is_mirrored(shadow, unit) for unit in units] == [assign(canary, unit).arm == "candidate" for unit in units]
    assert {assign(shadow, unit).reason for unit in units} == {Reason.NO_CANDIDATE}
    assert not is_mirrored(shadow, None)
    assert not is_mirrored(canary, "1")


def test_a_shadow_that_cannot_be_loaded_is_an_alarm_and_hinders_nobody(ws, model, tape):
    shadowed(ws, orchestration={"entry": "agent:nothing", "code": ["agent.py"]})
    with serving(ws, model, log=tape) as controls:
        wait_for(lambda: bool(controls.status().alarms))
        assert ask(controls, unit="u1").status == "ok"
        assert ended(controls) == {"candidate_not_loaded": 1}
        assert controls.status().is_ready
        assert "the shadow cannot be asked" in controls.status().alarms[0]
