"""Releases whose gateways and controllers are killed and stopped at random moments: none is corrupted, and each ends where it should."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.place import wait_until
from tests.postgres import new_database, running_postgres
from tests.release.house import APP, person
from tests.soak.release_record import Observer, Record, in_looks, lasting
from tests.soak.release_town import PLAN, Town, opened_town
from workbench.ledger.audit import tail, verify
from workbench.ledger.releases import releases_of
from workbench.ledger.watches import decisions_of
from workbench.release.leadership import TAKEN_OVER_AFTER_S
from workbench.release.model import Release, State

pytestmark = pytest.mark.usefixtures("two_threads")  # the log's upkeep works on several threads, as it does in service

SEED = 17
WAYS = ("kill the leader", "kill the leader", "kill anybody", "stop the leader")
SHARES = [step["share"] for step in PLAN["steps"]]
ENDS = {"good": State.PROMOTED, "bad": State.ROLLED_BACK}
LONGEST_S = 240


class Run:
    """Releases one after the other, and what disturbs them; each line of the log says when, what and where the release stood."""

    def __init__(self, town: Town, *, ways: Sequence[str], most_disturbances: int, pause_s: tuple[float, float]) -> None:
        self._town = town
        self._ways = ways
        self._most = most_disturbances
        self._pause_s = pause_s
        self._rng = random.Random(SEED)
        self._begun = time.monotonic()
        self.log: list[str] = []
        self.totals: Counter[str] = Counter()

    def release(self, bundle: str) -> Release:
        """A release that a person begins and the controllers carry, at its end."""
        shop = self._town.shop
        release = shop.canary(bundle)
        self._note(f"{release.release_id}: {bundle} enters its canary")
        ends, due, done = time.monotonic() + LONGEST_S, self._next(), 0
        while (release := shop.releases.get(release.release_id)).is_open:
            assert time.monotonic() < ends, f"{release.release_id} is {release.state} at step {release.step} still\n{self.words}"
            time.sleep(0.05)
            if done < self._most and time.monotonic() > due:
                done += 1
                self._disturb(release)
                due = self._next()
        self._note(f"{release.release_id}: {release.state} {release.note[:100]}")
        self.totals[str(release.state)] += 1
        return release

    def _next(self) -> float:
        return time.monotonic() + self._rng.uniform(*self._pause_s)

    def _disturb(self, release: Release) -> None:
        """Kill the leader or anybody, or have the leader stand still until another one leads."""
        town, where = self._town, f"{release.release_id} {release.state} at step {(release.step or 0) + 1}"
        leader, how = town.leader(), self._rng.choice(self._ways)
        if how == "stop the leader" and leader is not None:
            with town.stopped(leader):
                time.sleep(TAKEN_OVER_AFTER_S + 2)
            self._note(f"{where}: {leader}, which led, stood still for {TAKEN_OVER_AFTER_S + 2:g} s; now {town.leader()} leads")
            self.totals["leaders stopped and continued"] += 1
            return
        name = leader if how == "kill the leader" and leader is not None else self._rng.choice(sorted(town.running))
        town.kill(name)
        led = ", which led" if name == leader else ""
        self._note(f"{where}: killed {name}{led}; {town.start()} takes its place, {len(town.up)} serve meanwhile")
        self.totals["leaders killed" if name == leader else "other gateways killed"] += 1

    def _note(self, line: str) -> None:
        self.log.append(f"{lasting(self._begun)}  {line}")

    @property
    def words(self) -> str:
        return "\n".join(self.log)


def record_of(town: Town) -> Record:
    with town.ws.ledger.read() as connection:
        assert verify(connection).is_whole
        releases = releases_of(connection, APP)
        return Record(
            entries=tail(connection, 1_000_000),
            releases=releases,
            decisions={release.release_id: decisions_of(connection, release.release_id) for release in releases},
            shares=SHARES,
        )


def soak(tmp_path: Path, kind: str, bundles: list[str], *, gateways: int, **disturbed: Any) -> None:
    with ExitStack() as stack:
        url = new_database(stack.enter_context(running_postgres(tmp_path))) if kind == "postgresql" else ""
        town = stack.enter_context(opened_town(tmp_path, ledger_url=url))
        for _ in range(gateways):
            town.start()
        wait_until(lambda: len(town.up) == gateways)
        run = Run(town, **disturbed)
        with Observer(town.url) as observer:
            for bundle in bundles:
                assert run.release(bundle).state is ENDS[bundle], run.words
                if bundle == "good":
                    town.shop.releases.rollback(APP, reason="the next one is to begin from v1", actor=person("requester"))
        record = record_of(town)
        for name in tuple(town.running):
            town.kill(name)
        assert town.ws.logs.flush(everything=True).faults == ()
        asked = "SELECT DISTINCT route_version, arm, bundle, traffic_share FROM lake.requests WHERE arm IN ('stable', 'candidate')"
        rows = town.ws.lake.read(lambda lake: lake.execute(asked).fetchall())
        found = [*observer.faults, *in_looks(observer.looks, SHARES), *record.faults(), *record.in_log(rows), *town.faults()]
        print(f"\nreleases on {kind}, seed {SEED}, {gateways} gateways that carry them\n{run.words}")
        totals = {
            **run.totals,
            "looks from outside": observer.n,
            "moments that differed": len(observer.looks),
            "leaders' tokens": max(look.token or 0 for look in observer.looks),
            "decisions": sum(map(len, record.decisions.values())),
            "audit entries": len(record.entries),
            **town.answers,
            "faults": len(found),
        }
        for what, n in totals.items():
            print(f"  {what:<34}{n:>10,}")
        assert found == []
        reached = SHARES if "good" in bundles else SHARES[:1]
        assert {share for _, arm, _, share in rows if arm == "candidate"} >= set(reached), "the candidates were asked at each step"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_twenty_releases_survive_kills_and_stops_at_random_moments(kind, tmp_path):
    soak(tmp_path, kind, ["good", "bad"] * 10, gateways=3, ways=WAYS, most_disturbances=3, pause_s=(0.5, 7.0))


@pytest.mark.slow
def test_a_release_survives_the_kill_of_its_leader_in_short(tmp_path):
    soak(tmp_path, "sqlite", ["bad"], gateways=2, ways=("kill the leader",), most_disturbances=1, pause_s=(1.0, 2.0))
