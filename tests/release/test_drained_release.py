"""A release under `sessions: drain` from its approval to its rollback: two persons, the controller, and gateways that are processes."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path

import pytest

from tests.gateway.place import wait_until
from tests.gateway.standin import ask
from tests.release.house import APP, person, refused
from tests.soak.release_town import FAILING, PLAN, Town, opened_town
from workbench.controls.assignment import bucket
from workbench.errors import NotPermitted
from workbench.ownership.permissions import CONTROLLER
from workbench.release.model import State
from workbench.release.replaying import Found

FIRST, SECOND = (step["share"] for step in PLAN["steps"])
DRAINING = {**PLAN, "sessions": "drain", "steps": [PLAN["steps"][0], {**PLAN["steps"][1], "at_least": "1h"}]}
"""The controller takes the first step as soon as it is proven, and the second one is not left before the test ends."""


def approved_by_two(town: Town) -> str:
    """A release at its first step, which no person alone can bring there; the controller waits for the end of a lock."""
    releases = town.shop.releases
    release_id = releases.start(APP, "good", reason="better answers", actor=person("both")).release_id
    refused("wrong_state", releases.promote, release_id, actor=person("both"))
    with pytest.raises(NotPermitted, match="both asked for this release; needed: the approval of a second person"):
        releases.approve(release_id, actor=person("both"))
    releases.approve(release_id, actor=person("approver"))
    releases.lock(APP, "a talk is to begin first", actor=person("both"))
    assert releases.promote(release_id, actor=person("both")).step == 0
    return release_id


def unit_between(town: Town, low: float, high: float) -> str:
    """A customer at whom no bundle breaks down, and whom the candidate gets from a share in this range on."""
    units = (f"talker-{number}" for number in itertools.count())
    return next(
        unit
        for unit in units
        if low * 10_000 <= bucket(town.shop.route.salt, unit) < high * 10_000 and zlib.crc32(unit.encode()) >= FAILING["v1"] * 2**32
    )


@pytest.mark.slow
def test_two_persons_and_a_controller_bring_it_up_while_talks_stay_and_a_rollback_takes_them_all(tmp_path: Path):
    with opened_town(tmp_path, plan=DRAINING) as town:
        v1, good = (town.shop.bundles[name] for name in ("v1", "good"))
        gateways = [town.start() for _ in range(2)]
        wait_until(lambda: len(town.up) == len(gateways))
        one, other = (town.running[name].url for name in gateways)

        def served(url: str, unit: str, session: str) -> str:
            asked = {"model": APP, "messages": [{"role": "user", "content": "Where is my parcel?"}]}
            return ask(url, asked, key=town.key, x_workbench_unit=unit, x_workbench_session=session).headers["x-workbench-bundle"]

        new = map("s-new-{}".format, itertools.count())
        release_id = approved_by_two(town)
        early, moved = unit_between(town, 0, FIRST), unit_between(town, FIRST, SECOND)
        wait_until(lambda: all(served(url, early, next(new)) == good for url in (one, other)))
        assert [served(one, moved, "s-old"), served(one, early, "s-new")] == [v1, good]
        town.shop.releases.unlock(APP, actor=person("both"))
        wait_until(lambda: town.shop.releases.get(release_id).step == 1)
        acts = [(entry.act, entry.actor) for entry in town.shop.releases.entries(release_id)]
        assert acts[-1] == ("release.promote", CONTROLLER), "that was no person"

        wait_until(lambda: all(served(url, moved, next(new)) == good for url in (one, other)))
        assert served(one, moved, "s-old") == v1, "the talk ends where it began"
        assert served(other, moved, "s-old") == good, "a gateway that did not see it begin decides by the user's bucket"
        assert [served(url, early, "s-new") for url in (one, other)] == [good, good]

        town.shop.releases.rollback(APP, reason="complaints", actor=person("both"))
        assert town.shop.releases.get(release_id).state is State.ROLLED_BACK
        talks = list(itertools.product((one, other), ((moved, "s-old"), (early, "s-new"))))
        wait_until(lambda: all(served(url, *talk) == v1 for url, talk in talks))
        assert [served(url, *talk) for url, talk in talks] == [v1] * len(talks), "and it stays so"
        for name in tuple(town.running):
            town.kill(name)
        assert town.faults() == []
        assert town.ws.logs.flush(everything=True).faults == ()
        asked = "SELECT assigned_by, arm, traffic_share FROM lake.requests WHERE session_id = 's-old' AND revision = 1 ORDER BY ts_start"
        rows = town.ws.lake.read(lambda lake: lake.execute(asked).fetchall())[:3]
        assert rows == [
            ("bucket", "stable", FIRST),
            ("session", "stable", FIRST),
            ("bucket", "candidate", SECOND),
        ], "each is judged by the share that its talk began with, at the gateway that answered"
        assert town.ws.releases.replay(release_id).found is Found.SAME
