"""SIGKILL under load: whoever got an answer finds its END record in the lake, once; what died in between is named to an operator."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.forks import run
from tests.gateway.place import APP, ROOT, Answered, Load, Model, Place, opened_place, processes, wait_until
from tests.versions.folders import write_yaml
from workbench.demo.faulty import Play, Seen, playing_to, streamed, whole
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

PROXIED = "assistant"
WORDS = ("Your parcel left our house at noon, and it is on its way to you. ",) * 8
"""More than the guards hold back, so that a stream is under way for a while."""


def says(seen: Seen) -> Play:
    return streamed(*WORDS, gap_s=0.005) if seen.body.get("stream") else whole("".join(WORDS))


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Whose audit is in the mode of the parameter, and whose model streams."""
    with playing_to(says) as upstream, opened_place(tmp_path, Model(url=upstream.url), spool=request.param) as opened:
        yield opened


def key_of_proxied(ws: Workspace, folder: Path, **parts: Any) -> str:
    """A key to a second app, which is proxied and in service; parts of its bundle may be others."""
    people = {"primary": {"os": [login_of_process()], "roles": {PROXIED: ["admin", "operator"]}}}
    spec = {"app": PROXIED, "name": "v1", "model": {"provider": "house", "name": "house-1", "version": "1"}, "orchestration": {}, **parts}
    write_yaml(folder / "app.yaml", {"app": PROXIED, "title": "Assistant", "risk_tier": "low", "owner": "primary", "serving": "proxied"})
    write_yaml(folder / "people.yaml", {"people": people})
    write_yaml(folder / "bundles/v1/bundle.yaml", spec)
    ws.releases.adopt(PROXIED, ws.versions.register(folder / "bundles/v1").bundle.bundle_id, reason="it serves already")
    return ws.keys.create(PROXIED, person="primary", label="tests").text


def killed_under_load(place: Place, *, times: int, longest_s: float) -> list[Answered]:
    """Every answer that clients read, streamed or not, hosted or proxied, of gateways that were killed at random moments."""
    moments = random.Random(7)
    keys = {APP: place.key, PROXIED: key_of_proxied(place.ws, place.ws.home.parent / "apps" / PROXIED)}
    answered: list[Answered] = []
    for _ in range(times):
        with processes(1, place) as [gateway], ExitStack() as loads:
            ways = [
                loads.enter_context(Load(gateway.url, keys[app], clients=2, app=app, is_streamed=is_streamed))
                for app, is_streamed in product(keys, (False, True))
            ]
            wait_until(lambda ways=ways: all(load.answered for load in ways))
            time.sleep(moments.uniform(0, longest_s))
            gateway.kill()
        assert [load.refused for load in ways] == [[]] * len(ways)
        answered += [answer for load in ways for answer in load.answered]
    return answered


def assert_every_answer_has_its_end(place: Place, answered: list[Answered]) -> None:
    place.ws.lake.write(lambda _: None, what="finish a lake whose making was killed")
    report = place.ws.logs.flush()
    assert report.faults == ()
    assert place.ws.logs.waiting() == {}
    rows = place.ws.lake.read(lambda lake: lake.execute("SELECT request_id, revision, is_final, status FROM lake.requests").fetchall())
    ended = {request_id: status for request_id, _, is_final, status in rows if is_final}
    started = {request_id for request_id, revision, _, _ in rows if revision == 0}
    answers = [answer.request_id for answer in answered]
    assert len(answers) == len(set(answers))
    assert set(answers) - ended.keys() == set(), "answered requests without an END record"
    assert ended.keys() <= started
    assert max(Counter((request_id, revision) for request_id, revision, _, _ in rows).values()) == 1
    assert_an_operator_sees(place, ended=Counter(ended.values()), died=started - ended.keys())


def assert_an_operator_sees(place: Place, *, ended: Counter[str], died: set[str]) -> None:
    """That a call that died in between is shown, and not as a success."""
    assert died, "of so many kills one took somebody's answer away"
    shown = json.loads(told(place, "metrics", "show", "volume", "--by", "status", "--json"))
    assert {row["status"]: row["volume"] for row in shown} == {**ended, "unknown": len(died)}
    named = json.loads(told(place, "audit", "unfinished", "-n", "1000", "--json"))
    assert {one["request_id"] for one in named} == died
    assert f"{len(died)} request" in told(place, "doctor")


def told(place: Place, *words: str) -> str:
    """What the command line says."""
    command = [sys.executable, "-m", "workbench", *words]
    done = run(command, env=place.variables, cwd=ROOT)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", ["write", "durable"], indirect=True)
def test_kills_under_load_leave_no_answer_without_its_end(place: Place):
    answered = killed_under_load(place, times=4, longest_s=1.0)
    assert len(answered) > 16
    assert_every_answer_has_its_end(place, answered)


@pytest.mark.soak
@pytest.mark.parametrize("place", ["write", "durable"], indirect=True)
def test_fifty_kills_under_load_leave_no_answer_without_its_end(place: Place):
    answered = killed_under_load(place, times=50, longest_s=3)
    assert_every_answer_has_its_end(place, answered)
    print(f"\n{len(answered):,} answers over 50 kills, each with its END record")
