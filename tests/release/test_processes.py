"""Several processes at once, and processes that are killed: every act is done once and whole, or not at all."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.forks import Forked
from tests.release.house import APP, House, person
from workbench.ledger.audit import verify
from workbench.release.model import State

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def racer(house: House, url: str, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the company, which does not outlive the block."""
    command = [sys.executable, "-m", "tests.release.racers", url, str(house.folder), how]
    with Forked(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def race(house: House, url: str, *hows: str) -> list[str]:
    """What each of the processes says, when all of them act at the same time."""
    with ExitStack() as stack:
        racers = [stack.enter_context(racer(house, url, how)) for how in hows]
        for each in racers:
            assert each.stdout.readline() == "ready\n"
        for each in racers:
            go(each)
        return sorted(each.communicate(timeout=120)[0].strip() for each in racers)


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def kill(process: subprocess.Popen[str]) -> str:
    """What the process had said until it was killed."""
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    return said


def check_whole(house: House) -> None:
    """The audit is whole, and tells of every change of the release that is stored."""
    with house.ledger.read() as connection:
        assert verify(connection).is_whole
    for release in house.releases.history(APP):
        assert house.releases.entries(release.release_id)[-1].detail["version"] == release.version


@pytest.mark.slow
def test_of_releases_that_start_at_once_one_is_open(shared_house: House, url: str):
    assert race(shared_house, url, "start v1", "start v2", "start v2 too") == ["ConflictError", "ConflictError", "READY"]
    assert len(shared_house.releases.history(APP)) == 1
    check_whole(shared_house)


@pytest.mark.slow
def test_the_same_start_at_once_is_one_release_that_is_found_ready_once(shared_house: House, url: str):
    said = race(shared_house, url, *["start v2"] * 3)
    assert set(said) <= {"READY", "ConflictError"}, "who comes after it is found ready is told of it"
    assert "READY" in said
    assert shared_house.acts() == ["release.start", "release.ready"]
    check_whole(shared_house)


@pytest.mark.slow
def test_of_promotions_at_once_the_share_grows_by_one_step(shared_house: House, url: str):
    shared_house.canary()
    assert race(shared_house, url, *["promote"] * 3) == ["CANARY", "ConflictError", "ConflictError"]
    assert shared_house.releases.get(APP).step == 1
    check_whole(shared_house)


@pytest.mark.slow
def test_rollbacks_at_once_go_back_once(shared_house: House, url: str):
    for name in ("v1", "v2", "v3"):
        shared_house.promoted(name)
    assert race(shared_house, url, *["rollback"] * 3) == ["PROMOTED", "ReleaseRefused", "ReleaseRefused"]
    assert shared_house.route.stable == shared_house.bundles["v2"]
    check_whole(shared_house)


@pytest.mark.slow
def test_a_rollback_and_a_promotion_at_once_leave_the_candidate_out(shared_house: House, url: str):
    shared_house.promoted("v1")
    shared_house.canary("v2")
    said = race(shared_house, url, "promote", "rollback")
    assert "ROLLED_BACK" in said
    assert (shared_house.route.stable, shared_house.route.candidate) == (shared_house.bundles["v1"], None)
    check_whole(shared_house)


@pytest.mark.slow
def test_a_process_killed_inside_a_promotion_leaves_everything_as_it_was(shared_house: House, url: str):
    release = shared_house.canary()
    route, entries = shared_house.route, len(shared_house.audit())
    with racer(shared_house, url, "hang") as process:
        assert process.stdout.readline() == "ready\n"
        go(process)
        assert process.stdout.readline() == "inside\n"
        kill(process)
    assert (shared_house.releases.get(APP), shared_house.route, len(shared_house.audit())) == (release, route, entries)
    assert shared_house.releases.promote(APP, early="x", actor=person("requester")).step == 1
    check_whole(shared_house)


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_each_act_whole(shared_house: House, url: str):
    shared_house.canary()
    moments = random.Random(3)
    for _ in range(3):
        if shared_house.releases.get(APP).state is State.HELD:
            shared_house.releases.resume(APP, actor=person("requester"))
        before = shared_house.releases.get(APP).version
        with racer(shared_house, url, "swing") as process:
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.2))
            reported = 1 + len(kill(process).splitlines())
        assert shared_house.releases.get(APP).version - before in (reported, reported + 1)
        check_whole(shared_house)
