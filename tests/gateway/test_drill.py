"""A rollback drill with real gateways: all follow while they serve, one that hangs is named, one that was killed is not waited for."""

from __future__ import annotations

import json
import signal
import sys
from datetime import timedelta

import pytest

from tests.forks import run
from tests.gateway.place import APP, ROOT, Load, Place, Process, processes, put_in_canary, wait_until
from tests.ledger.writers import raw
from workbench.ledger.acknowledgements import acknowledgements_of
from workbench.ledger.routes import stored_route
from workbench.ledger.types import utc_text
from workbench.release import drilling


def drilled(place: Place, *, code: int) -> dict:
    """`workbench release drill --json` as its user runs it."""
    command = [sys.executable, "-m", "workbench", "release", "drill", APP, "--json"]
    done = run(command, env=place.variables, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def name_of(place: Place, process: Process) -> str:
    """What the gateway calls itself."""
    with place.ws.ledger.read() as connection:
        names = [each.gateway for each in acknowledgements_of(connection, APP)]
    return next(name for name in names if f":{process.process.pid}:" in name)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
def test_gateways_that_serve_follow_a_drill_and_those_that_hang_or_died_are_told_apart(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drilling, "LONGEST_S", 2.0)
    put_in_canary(place.ws, place.v2, 0.5)
    with processes(3, place) as gateways:
        names = [name_of(place, gateway) for gateway in gateways]
        with Load(gateways[0].url, place.key, clients=2, pause_s=0.005) as load:
            wait_until(lambda: {answer.arm for answer in load.answered} == {"stable", "candidate"})
            found = drilled(place, code=0)
            seen = len(load.answered)
            wait_until(lambda: len({answer.arm for answer in load.answered[seen:]}) == 2)
        assert (sorted(found["seconds"]), found["missing"], found["restores"]) == (sorted(names), [], place.v1)
        print(f"\n3 gateways followed within {found['slowest_s']:.3f} s")
        assert load.refused == []

        gateways[1].process.send_signal(signal.SIGSTOP)
        stuck = place.ws.releases.drill(APP)
        assert (stuck.missing, stuck.is_good) == ((names[1],), False)
        gateways[1].process.send_signal(signal.SIGCONT)
        assert place.ws.releases.drill(APP).n == 3

        gateways[2].kill()
        assert place.ws.releases.drill(APP).missing == (names[2],), "it was heard of a moment ago, so nobody knows what it serves"
        url = place.ws.settings.ledger or f"sqlite:///{place.ws.home}/ledger.sqlite"
        a_while_ago = utc_text(place.ws.clock() - timedelta(minutes=10))
        raw(url, f"UPDATE acknowledgements SET heard_at = '{a_while_ago}' WHERE gateway = '{names[2]}'")
        found = place.ws.releases.drill(APP)
        assert (sorted(found.seconds), found.missing, found.silent, found.is_good) == (sorted(names[:2]), (), (names[2],), True)

        assert gateways[1].stop() == 0
        assert list(drilled(place, code=0)["seconds"]) == [names[0]]
        gateways[0].kill()
    with place.ws.ledger.read() as connection:
        assert stored_route(connection, APP).candidate == place.v2, "after all of that the route says what it said"
