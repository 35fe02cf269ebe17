"""The rollback drill: what it measures, whom it disturbs (nobody), and what it says where there is nothing to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from tests.ledger.writers import raw
from tests.release.house import APP, PLAN, House, NoLog, person, refused
from workbench.controls.acknowledging import Acknowledger
from workbench.controls.routing import Reading, RouteTable
from workbench.controls.service import _route_of
from workbench.errors import IntegrityError, NotPermitted
from workbench.ledger.acknowledgements import acknowledge, forget_gateway
from workbench.ledger.audit import verify
from workbench.ledger.routes import stored_routes
from workbench.ledger.tables import evidence as evidence_table
from workbench.readiness.rehearsal import Rehearsal
from workbench.release.collecting import Collected
from workbench.release.service import Releases
from workbench.release.targets import restorable
from workbench.views.drill import drill_text
from workbench.views.release import status_text


@contextmanager
def gateway(house: House, name: str) -> Iterator[None]:
    """The threads by which a real one follows the routes: one reads them, one tells the ledger."""

    def read() -> Reading:
        with house.ledger.read() as connection:
            routes = {stored.app: _route_of(stored) for stored in stored_routes(connection)}
        return Reading(routes=routes, specs=dict.fromkeys(routes))

    teller = Acknowledger(house.ledger, name=name, clock=house.clock)
    table = RouteTable(read, on_reading=lambda _: None, on_counting=teller.take, interval_s=0.02)
    table.poll()
    table.start()
    teller.start()
    while name not in told(house):
        pass
    try:
        yield
    finally:
        table.stop()
        teller.stop()


def told(house: House) -> set[str]:
    followers = house.releases.status(APP).followers
    return {*followers.live, *followers.silent}


def say(house: House, name: str, *, ahead: int = 0, ago: timedelta = timedelta(0)) -> None:
    """A gateway's word: it serves by the route's version, or by one that is so many ahead."""
    with house.ledger.write() as act:
        at = house.clock() - ago
        acknowledge(act, name, {APP: house.route.version + ahead}, at=at, silent_since=at - timedelta(days=1))


@dataclass
class Stopwatch:
    """A monotonic clock that only waiting moves on, and what happens at which second."""

    house: House
    now: float = 500.0
    plan: dict[float, Callable[[], None]] = field(default_factory=dict)

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        for at in [at for at in self.plan if at <= self.now - 500.0 + 1e-9]:
            self.plan.pop(at)()

    def drill(self, who: str = "requester") -> Rehearsal:
        """The drill on this clock."""
        house = self.house
        releases = Releases(
            house.ledger,
            house.versions,
            house.ownership,
            reviewer=lambda: house.reviewer,
            units=house.units,
            log=NoLog(),
            author=person("requester"),
            clock=house.clock,
            monotonic=self,
            pause=self.pause,
        )
        return releases.drill(APP, actor=person(who))


@pytest.fixture
def stopwatch(house: House) -> Stopwatch:
    house.releases.adopt(APP, "v1", reason="it serves", actor=person("approver"))
    return Stopwatch(house)


def test_every_gateway_follows_and_nobody_is_served_otherwise(shared_house: House):
    house = shared_house
    house.releases.adopt(APP, "v1", reason="it serves", actor=person("approver"))
    house.canary("v2")
    before = house.route
    with gateway(house, "a"), gateway(house, "b"), gateway(house, "c"):
        found = house.releases.drill(APP, actor=person("requester"))
        after = house.route
        assert replace(after, version=before.version, changed_at=before.changed_at) == before
        assert after.version == found.route_version == before.version + 1
        assert list(found.seconds) == ["a", "b", "c"]
        assert (found.missing, found.silent, found.is_good) == ((), (), True)
        assert 0 < found.slowest_s == max(found.seconds.values())
        assert (found.restores, found.fault) == (house.bundles["v1"], "")
        assert "by which 3 of 3 gateways serve" in status_text(house.releases.status(APP))
        assert house.releases.promote(APP, early="it goes on as if nothing had been", actor=person("requester")).step == 1
    assert told(house) == set()


def test_what_a_drill_found_stands_in_the_audit_and_is_evidence(stopwatch: Stopwatch):
    house = stopwatch.house
    for name in ("a", "b"):
        say(house, name)
    stopwatch.plan = {0.12: lambda: say(house, "a"), 0.31: lambda: say(house, "b")}
    found = stopwatch.drill()
    assert found.seconds == {"a": pytest.approx(0.12), "b": pytest.approx(0.31)}
    assert found.slowest_s == pytest.approx(0.31)
    begun, kept = house.audit()[-2:]
    assert (begun.act, begun.detail["gateways"], begun.detail["route_version"]) == ("release.drill", ["a", "b"], house.route.version)
    assert (kept.act, kept.detail["evidence"]) == ("release.drilled", found.evidence_id)
    assert Collected(house.ledger).drill(APP) == replace(found, seconds={name: float(f"{s:.12g}") for name, s in found.seconds.items()})
    with house.ledger.read() as connection:
        assert verify(connection).is_whole
    said = drill_text(found)
    for words in ("IN TIME", f"2 of 2 gateways followed within 0.31 s; it restores {house.bundles['v1']}", found.evidence_id):
        assert words in said


@pytest.mark.parametrize("n_silent", [0, 1])
def test_without_a_gateway_nothing_is_measured_and_nothing_is_written(stopwatch: Stopwatch, n_silent: int):
    house = stopwatch.house
    if n_silent:
        say(house, "old", ago=timedelta(seconds=31))
    version = house.route.version
    error = refused("not_measured", stopwatch.drill)
    assert error.exit_code == 3
    assert "workbench serve" in error.next_step
    assert ("1 ended or fell silent" in error.seen) == bool(n_silent)
    assert (house.route.version, Collected(house.ledger).drill(APP)) == (version, None)


def test_one_that_does_not_follow_fails_the_drill_by_name(stopwatch: Stopwatch):
    house = stopwatch.house
    for name in ("good", "stuck"):
        say(house, name)
    stopwatch.plan = {0.2: lambda: say(house, "good")}
    found = stopwatch.drill()
    assert (list(found.seconds), found.missing, found.is_good) == (["good"], ("stuck",), False)
    assert stopwatch.now == pytest.approx(510, abs=0.1), "it was waited for, and not for ever"
    assert "1 of 2 gateways followed within 0.20 s, not stuck" in drill_text(found)


def test_where_none_follows_there_is_no_time_and_no_yes(stopwatch: Stopwatch):
    say(stopwatch.house, "stuck")
    found = stopwatch.drill()
    assert (found.slowest_s, found.n, found.is_good) == (None, 1, False)


def test_one_that_takes_longer_than_a_second_fails_it(stopwatch: Stopwatch):
    house = stopwatch.house
    say(house, "slow")
    stopwatch.plan = {1.5: lambda: say(house, "slow")}
    found = stopwatch.drill()
    assert (found.missing, found.is_good, found.slowest_s) == ((), False, pytest.approx(1.5, abs=0.02))
    assert "NOT IN TIME" in drill_text(found)


def test_one_that_was_killed_a_while_ago_does_not_fail_it_but_is_named(stopwatch: Stopwatch):
    house = stopwatch.house
    say(house, "killed", ago=timedelta(seconds=31))
    say(house, "good", ago=timedelta(seconds=30))
    stopwatch.plan = {0.2: lambda: say(house, "good")}
    found = stopwatch.drill()
    assert (list(found.seconds), found.missing, found.silent, found.is_good) == (["good"], (), ("killed",), True)
    assert stopwatch.now < 502, "the dead are not waited for"
    assert "1 more was not heard of" in found.sentence


def test_one_whose_clock_is_behind_counts_as_soon_as_it_follows(stopwatch: Stopwatch):
    house = stopwatch.house
    say(house, "good")
    say(house, "behind", ago=timedelta(minutes=5))
    stopwatch.plan = {0.2: lambda: say(house, "good"), 0.4: lambda: say(house, "behind", ago=timedelta(minutes=5))}
    found = stopwatch.drill()
    assert (list(found.seconds), found.silent, found.is_good) == (["behind", "good"], (), True)


def test_one_that_ends_in_an_orderly_way_meanwhile_is_not_missing(stopwatch: Stopwatch):
    house = stopwatch.house

    def end() -> None:
        with house.ledger.write() as act:
            forget_gateway(act, "ending")

    for name in ("good", "ending"):
        say(house, name)
    stopwatch.plan = {0.1: end, 0.2: lambda: say(house, "good")}
    found = stopwatch.drill()
    assert (list(found.seconds), found.missing) == (["good"], ())
    say(house, "ending")
    say(house, "good", ago=timedelta(hours=1))
    stopwatch.plan = {stopwatch.now - 500 + 0.1: end}
    refused("not_measured", stopwatch.drill)


def test_a_target_whose_parts_are_gone_fails_it(stopwatch: Stopwatch, tmp_path):
    house = stopwatch.house
    raw(f"sqlite:///{tmp_path}/ledger.sqlite", "DELETE FROM blobs WHERE CAST(content AS TEXT) = 'Answer as v1.\n'")
    say(house, "good")
    stopwatch.plan = {0.2: lambda: say(house, "good")}
    found = stopwatch.drill()
    assert (found.is_good, found.slowest_s) == (False, pytest.approx(0.2, abs=0.02))
    assert found.fault == f"the stored parts of {house.bundles['v1']} are gone or altered"
    assert "NOTHING TO RESTORE" in drill_text(found)


def test_a_record_that_is_gone_or_altered_is_no_drill_and_brings_no_older_one_back(stopwatch: Stopwatch, tmp_path):
    house = stopwatch.house
    say(house, "good")
    for _ in range(2):
        stopwatch.plan = {stopwatch.now - 500 + 0.2: lambda: say(house, "good")}
        found = stopwatch.drill()
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    raw(url, f"UPDATE evidence SET statistics = replace(statistics, '[]', '[ ]') WHERE evidence_id = '{found.evidence_id}'")
    assert Collected(house.ledger).drill(APP).evidence_id == found.evidence_id, "the same content"
    raw(url, f"UPDATE evidence SET statistics = replace(statistics, '0.2', '0.1') WHERE evidence_id = '{found.evidence_id}'")
    with pytest.raises(IntegrityError, match="its content has the digest"):
        Collected(house.ledger).drill(APP)
    with house.ledger.write() as act:
        act.connection.execute(evidence_table.delete().where(evidence_table.c.evidence_id == found.evidence_id))
    with pytest.raises(IntegrityError, match="its record is gone"):
        Collected(house.ledger).drill(APP)


def test_before_the_first_release_there_is_nothing_to_rehearse(house: House):
    refused("nothing_serves", house.releases.drill, APP, actor=person("requester"))


@pytest.mark.parametrize("who", ["viewer", "night", "stranger"])
def test_without_a_role_nobody_rehearses(stopwatch: Stopwatch, who: str):
    say(stopwatch.house, "good")
    version = stopwatch.house.route.version
    with pytest.raises(NotPermitted, match=r"release\.drill"):
        stopwatch.drill(who)
    assert stopwatch.house.route.version == version


def test_a_freeze_or_a_lock_stops_no_drill(stopwatch: Stopwatch):
    house = stopwatch.house
    house.releases.freeze(APP, "holidays", actor=person("approver"))
    house.releases.lock(APP, "mine", actor=person("both"))
    say(house, "good")
    stopwatch.plan = {0.2: lambda: say(house, "good")}
    assert stopwatch.drill().is_good


def test_the_status_tells_how_many_gateways_serve_by_the_route(stopwatch: Stopwatch):
    house = stopwatch.house
    version = f"route version {house.route.version}"
    assert f"{version}." in status_text(house.releases.status(APP))
    for name in ("a", "b"):
        say(house, name)
    say(house, "c", ahead=-1)
    say(house, "d", ago=timedelta(seconds=31))
    followers = house.releases.status(APP).followers
    assert (followers.current, followers.behind, followers.silent) == (("a", "b"), ("c",), ("d",))
    assert f"{version}, by which 2 of 3 gateways serve, 1 not heard of" in status_text(house.releases.status(APP))


def test_what_a_rollback_would_restore(house: House):
    everything = {house.bundles[name] for name in ("v1", "v2", "v3")}

    def now(*, planned: str = "last_good", gone: str = ""):
        whole = everything - {house.bundles.get(gone)}
        stable = house.route.stable if house.route else None
        return restorable(house.releases_stored(), stable=stable, planned=planned, is_whole=whole.__contains__)

    assert now().bundle_id is None
    house.releases.adopt(APP, "v1", reason="serves", actor=person("approver"))
    assert (now().bundle_id, now().words, now().fault) == (house.bundles["v1"], f"{house.bundles['v1']}, which serves now", "")
    assert "gone or altered" in now(gone="v1").fault
    house.promoted("v2")
    assert now().bundle_id == house.bundles["v1"]
    assert now(planned="off").words == "nothing: it switches the app off"
    assert (now(planned="fallback").bundle_id, now(planned="fallback").fault) == (None, "")
    house.canary("v3")
    assert now().bundle_id == house.bundles["v2"], "in a canary, what is stable"
    assert now(planned="off").bundle_id == house.bundles["v2"]
    house.releases.rollback(APP, reason="bad", actor=person("night"))
    house.releases.rollback(APP, to="last-good", reason="bad as well", actor=person("requester"))
    assert now().bundle_id == house.bundles["v1"], "v2 was taken back: what serves is what the next canary goes back to"
    assert PLAN["rollback"]["target"] == "last_good"
