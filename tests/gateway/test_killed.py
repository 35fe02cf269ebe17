"""SIGKILL under load: whoever got an answer finds its END record in the lake, once."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.gateway.place import Answered, Load, Place, processes, wait_until


def killed_under_load(place: Place, *, times: int, longest_s: float) -> list[Answered]:
    """Every answer that clients read, of gateways that were killed at random moments, one after the other."""
    moments = random.Random(7)
    answered: list[Answered] = []
    for _ in range(times):
        with processes(1, place) as [gateway], Load(gateway.url, place.key) as load:
            wait_until(lambda: load.answered)
            time.sleep(moments.uniform(0, longest_s))
            gateway.kill()
        answered += load.answered
    return answered


def assert_every_answer_has_its_end(place: Place, answered: list[Answered]) -> None:
    place.ws.lake.write(lambda _: None, what="finish a lake whose making was killed")
    report = place.ws.logs.flush()
    assert report.faults == ()
    assert place.ws.logs.waiting() == {}
    rows = place.ws.lake.read(lambda lake: lake.execute("SELECT request_id, revision, is_final, status FROM lake.requests").fetchall())
    ended = {request_id for request_id, _, is_final, status in rows if is_final and status == "ok"}
    started = {request_id for request_id, revision, _, _ in rows if revision == 0}
    answers = [answer.request_id for answer in answered]
    assert len(answers) == len(set(answers))
    assert set(answers) - ended == set(), "answered requests without an END record"
    assert ended <= started
    assert max(Counter((request_id, revision) for request_id, revision, _, _ in rows).values()) == 1
    shown = {row["status"]: row["volume"] for row in place.ws.metrics.query(["volume"], by=["status"]).to_dicts()}
    unfinished = {"unknown": len(started - ended)} if started - ended else {}
    assert shown == {"ok": len(ended), **unfinished}, "a call that died in between is shown, and not as a success"


@pytest.mark.slow
def test_ten_kills_under_load_leave_no_answer_without_its_end(place: Place):
    answered = killed_under_load(place, times=10, longest_s=1.5)
    assert len(answered) > 10
    assert_every_answer_has_its_end(place, answered)


@pytest.mark.soak
def test_fifty_kills_under_load_leave_no_answer_without_its_end(place: Place):
    answered = killed_under_load(place, times=50, longest_s=3)
    assert_every_answer_has_its_end(place, answered)
    print(f"\n{len(answered):,} answers over 50 kills, each with its END record")
