"""A rollback with four gateways running: no unit reaches the candidate a second later, whatever else is broken."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.forks import run
from tests.gateway.place import APP, ROOT, Load, Place, processes, put_in_canary, wait_until
from workbench.ledger.routes import stored_route
from workbench.settings import Settings
from workbench.workspace import Workspace

LONGEST_S = 1.0
"""From the ledger's commit to the last request that any gateway assigns to the candidate."""


@contextlib.contextmanager
def unreadable_lake(place: Place) -> Iterator[None]:
    """In the place of the log lake there is rubbish for the block."""
    lake = place.ws.home / "lake"
    aside = lake.rename(place.ws.home / "lake-aside")
    (lake / "data").mkdir(parents=True)
    (lake / "catalog.sqlite").write_bytes(b"no catalogue" * 1000)
    try:
        yield
    finally:
        shutil.rmtree(lake)
        aside.rename(lake)


class ChatIsDown:
    """Somebody who wants to tell of a rollback, and cannot."""

    def on_transition(self, *_: object) -> None:
        raise ConnectionError("the chat is out of reach")


def by_verb(place: Place) -> None:
    """A person rolls back, and whoever is told of it fails."""
    with Workspace(Settings(home=place.ws.home, ledger=place.ws.settings.ledger)) as operator:
        operator.releases.listen(ChatIsDown())
        operator.releases.rollback(APP, reason="complaints")


def by_command(place: Place) -> None:
    """A person rolls back by the command line."""
    command = [sys.executable, "-m", "workbench", "rollback", APP, "--reason", "complaints"]
    done = run(command, env=place.variables, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ROLLED BACK" in done.stdout


def starts(place: Place) -> list[tuple[float, str, str]]:
    """When each call came in, by the gateways' own records in seconds of the wall clock, with its arm and bundle."""
    place.ws.logs.flush()
    asked = "SELECT epoch_us(ts_start) / 1e6, arm, bundle FROM lake.requests WHERE revision = 0"
    return place.ws.lake.read(lambda lake: lake.execute(asked).fetchall())


def changed_at(place: Place) -> float:
    """When the route was changed last, in seconds of the wall clock: taken inside the transaction, so not after its commit."""
    with place.ws.ledger.read() as connection:
        return stored_route(connection, APP).changed_at.timestamp()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "roll_back"), [("sqlite", by_command), ("postgresql", by_verb)], indirect=["place"])
def test_four_gateways_send_nobody_to_the_candidate_a_second_after_the_rollback(place: Place, roll_back: Callable[[Place], None]):
    put_in_canary(place.ws, place.v2, 0.5)
    place.ws.lake.write(lambda _: None, what="make the lake")
    with contextlib.ExitStack() as stack:
        gateways = stack.enter_context(processes(4, place))
        loads = [stack.enter_context(Load(gateway.url, place.key, clients=1, pause_s=0.01)) for gateway in gateways]
        wait_until(lambda: all(any(answer.arm == "candidate" for answer in load.answered) for load in loads))
        with unreadable_lake(place):
            roll_back(place)
            enough = changed_at(place) + 2 * LONGEST_S
            wait_until(lambda: all(load.answered[-1].at > enough for load in loads))
    delays = [(at - changed_at(place), arm, bundle) for at, arm, bundle in starts(place)]
    last = max(delay for delay, arm, _ in delays if arm == "candidate")
    print(f"\nlast candidate assignment {last * 1000:+.0f} ms after the route changed")
    assert last <= LONGEST_S
    assert last > -LONGEST_S, "the candidate served until the rollback, so the figure means something"
    assert {bundle for delay, _, bundle in delays if delay > LONGEST_S} == {place.v1}, "what served before is back, whole"
