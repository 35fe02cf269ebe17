"""Processes that release: they wait for a word, act, and say what came of it. Some are killed in the middle."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.release.carrying import Carrier, ToldJudge
from tests.release.house import APP, Clock, House, person
from workbench.errors import WorkbenchError
from workbench.ledger.store import Ledger
from workbench.release.judge_kinds import Decision
from workbench.release.turn import Turn


def company(url: str, folder: str) -> House:
    """The company that another process made."""
    clock = Clock()
    return House(Ledger.open(url, clock=clock), Path(folder), clock, specs={}, names=())


def act(house: House, how: str, seen: int | None) -> str:
    """What one act came to: where the release stands then, or the kind of the refusal.

    Args:
        house: the company.
        how: the act.
        seen: the version of the release that was there when everybody got ready.
    """
    releases = house.releases
    acts = {
        "start v1": lambda: releases.start(APP, "v1", reason="x", actor=person("requester")),
        "start v2": lambda: releases.start(APP, "v2", reason="x", actor=person("requester")),
        "start v2 too": lambda: releases.start(APP, "v2", reason="x", actor=person("both")),
        "approve": lambda: releases.approve(APP, actor=person("approver")),
        "promote": lambda: releases.promote(APP, early="x", expected_version=seen, actor=person("requester")),
        "rollback": lambda: releases.rollback(APP, reason="x", actor=person("night")),
    }
    try:
        return str(acts[how]().state)
    except WorkbenchError as error:
        return type(error).__name__


def hang_inside() -> None:
    """From now on an act stops after it has changed the release and the route, before its audit entry."""

    def hang(*_args: object, **_named: object) -> None:
        print("inside", flush=True)
        time.sleep(600)

    Turn._audit = hang


def swing(house: House) -> None:
    """Holds and resumes for ever, and reports each act that is done."""
    while True:
        house.releases.hold(APP, reason="x", actor=person("requester"))
        print("hold", flush=True)
        house.releases.resume(APP, actor=person("requester"))
        print("resume", flush=True)


def carry(house: House) -> None:
    """Takes a turn as a controller, and before it does what it decided it waits for another word."""
    carrier = Carrier(house, "racer", judge=ToldJudge(decision=Decision.INCONCLUSIVE))
    act = carrier.controller._act

    def late(*decided: object) -> None:
        print("deciding", flush=True)
        sys.stdin.readline()
        act(*decided)

    carrier.controller._act = late
    print(carrier.turn(), carrier.turn(), flush=True)


def main(url: str, folder: str, how: str) -> None:
    house = company(url, folder)
    if how == "swing":
        swing(house)
    if how == "hang":
        hang_inside()
        how = "promote"
    seen = next((release.version for release in house.releases.open()), None)
    print("ready", flush=True)
    sys.stdin.readline()
    if how == "carry":
        carry(house)
    else:
        print(act(house, how, seen), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
