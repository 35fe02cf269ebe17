"""A talk over the steps of a canary, its end and its rollback: gateways over HTTP, and a ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.place import APP, Place, processes, put_in_canary, wait_until
from tests.gateway.standin import ask, send
from tests.gateway.test_joined import ASK, rows
from workbench.controls.assignment import bucket
from workbench.gateway.server import running
from workbench.ledger.routes import change_route, stored_route

UNITS = [f"u-{number}" for number in range(200)]
MOVED = next(unit for unit in UNITS if 1000 <= bucket("salt", unit) < 5000)
"""On stable at 10 %, on the candidate at 50 %."""
EARLY = next(unit for unit in UNITS if bucket("salt", unit) < 1000)


def change(place: Place, **values: Any) -> int:
    """The route changed; its new version."""
    with place.ws.ledger.write() as act:
        seen = stored_route(act.connection, APP)
        assert seen is not None
        change_route(act, seen, at=place.ws.clock(), values=values)
    return seen.version + 1


def in_canary(place: Place) -> None:
    put_in_canary(place.ws, place.v2, 0.1)
    change(place, drains=True)


def follows(place: Place) -> Callable[[int], None]:
    """Waits until the gateway in this process serves by that version."""
    return lambda version: wait_until(lambda: place.ws.controls.status().routes[0].route_version >= version)


def served(url: str, place: Place, unit: str, session: str | None, *, is_streamed: bool = False) -> str:
    named = {"x_workbench_session": session} if session else {}
    asked = {**ASK, "stream": is_streamed}
    return ask(url, asked, key=place.key, x_workbench_unit=unit, **named).headers["x-workbench-bundle"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_talk_stays_over_a_step_and_goes_with_a_rollback_and_its_records_say_so(place: Place, is_streamed: bool):
    v1, v2, wait = place.v1, place.v2, follows(place)
    in_canary(place)
    with running(place.ws) as url:

        def talk(unit: str, session: str | None) -> str:
            return served(url, place, unit, session, is_streamed=is_streamed)

        assert [talk(MOVED, "s-1"), talk(EARLY, "s-2"), talk(MOVED, None)] == [v1, v2, v1]
        wait(change(place, share=0.5))
        assert [talk(MOVED, "s-1"), talk(EARLY, "s-2"), talk(MOVED, None), talk(MOVED, "s-3")] == [v1, v2, v2, v2]
        place.ws.releases.rollback(APP, reason="complaints")
        since = time.monotonic()
        wait_until(lambda: talk(EARLY, "s-2") == v1 and talk(MOVED, "s-3") == v1)
        assert time.monotonic() - since < 10, "with the next reading; how soon that is, test_rolled_back measures"
        assert [talk(unit, session) for unit, session in ((MOVED, "s-1"), (EARLY, "s-2"), (MOVED, "s-3"), (EARLY, None))] == [v1] * 4
    found = rows(place, "session_id, revision, arm, traffic_share, route_version, assigned_by, release_id")
    for session, arm in (("s-1", "stable"), ("s-2", "candidate")):
        told = [row[1:] for row in found if row[0] == session][:4]
        version = told[0][3]
        beginning = (arm, 0.1, version)
        assert told == [
            *((revision, *beginning, "bucket", f"{APP}.2") for revision in (0, 1)),
            *((revision, *beginning, "session", f"{APP}.2") for revision in (0, 1)),
        ]


def test_two_gateways_on_one_ledger_remember_their_own_talks_and_both_follow_the_rollback(place: Place):
    in_canary(place)
    with processes(2, place) as (one, other):
        assert served(one.url, place, MOVED, "s-1") == place.v1
        version = change(place, share=0.5)
        wait_until(lambda: place.ws.releases.status(APP).followers.current and not place.ws.releases.status(APP).followers.behind)
        assert place.ws.releases.status(APP).followers.route_version == version
        wait_until(lambda: served(other.url, place, MOVED, None) == place.v2 and served(one.url, place, MOVED, None) == place.v2)
        assert served(one.url, place, MOVED, "s-1") == place.v1, "it saw the beginning"
        assert served(other.url, place, MOVED, "s-1") == place.v2, "it did not: by the bucket"
        assert served(other.url, place, EARLY, "s-2") == place.v2
        place.ws.releases.rollback(APP, reason="complaints")
        for gateway in (one, other):
            wait_until(lambda gateway=gateway: served(gateway.url, place, EARLY, "s-2") == place.v1)
            assert served(gateway.url, place, MOVED, "s-1") == place.v1


def test_after_the_promotion_a_talk_ends_on_the_old_bundle_unless_that_is_rolled_back_or_let_go(place: Place):
    v1, v2, wait = place.v1, place.v2, follows(place)
    in_canary(place)
    promoted = {"stable": v2, "candidate": None, "share": 0.0, "release_id": None, "retiring": v1}
    with running(place.ws) as url:
        assert [served(url, place, MOVED, "s-1"), served(url, place, EARLY, "s-2")] == [v1, v2]
        wait(change(place, **promoted))
        assert [served(url, place, unit, session) for unit, session in ((MOVED, "s-1"), (EARLY, "s-2"), (MOVED, "s-3"))] == [v1, v2, v2]
        wait(change(place, retiring=None))
        assert served(url, place, MOVED, "s-1") == v2


def test_a_flag_is_asked_for_in_a_talk(place: Place):
    wait = follows(place)
    in_canary(place)

    def flag(url: str, context: dict[str, Any]) -> tuple[str, str]:
        got = send(
            url,
            "POST",
            f"/ofrep/v1/evaluate/flags/{APP}",
            body=b'{"context": ' + str(context).replace("'", '"').encode() + b"}",
            headers={"authorization": f"Bearer {place.key}"},
        )
        return got.json["value"], got.json["reason"]

    with running(place.ws) as url:
        talk = {"targetingKey": MOVED, "sessionId": "s-1"}
        assert flag(url, talk) == (place.v1, "SPLIT")
        wait(change(place, share=0.5))
        assert flag(url, talk) == (place.v1, "CACHED")
        assert flag(url, {"targetingKey": MOVED}) == (place.v2, "SPLIT")
