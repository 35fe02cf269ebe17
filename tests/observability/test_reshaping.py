"""Upkeep by another process, in the middle of a read: what the reader is told is of one snapshot all the same."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observability.lakes import SHARED, catalog_of, count, open_lake, open_logs, request
from tests.postgres import new_database, running_postgres
from workbench.observability.reshaping import ADDING, CATALOGUE, leave_alone
from workbench.observability.tables import arrow_table

pytestmark = pytest.mark.usefixtures("two_threads")  # the log's upkeep works on several threads, as it does in service
UPKEEP = """
import sys
from pathlib import Path
from tests.observability.lakes import open_lake
from datetime import timedelta
from workbench.observability.upkeep import Upkeep
from workbench.observability.upkeep_plan import Plan, Step

merging = Plan(steps=(Step.FLUSH, Step.MERGE))
lake = open_lake(Path(sys.argv[1]), catalog=sys.argv[2])
upkeep = Upkeep(lake, cited=frozenset)
print("ready", flush=True)
for line in sys.stdin:
    lake.write(lambda c: c.execute("INSERT INTO lake.requests (request_id, app) VALUES ('more', 'shop')"), what="insert")
    if line == "forget\\n":
        upkeep.forget()
    else:
        upkeep._carried_out(merging, reason="", cited=frozenset(), keep=timedelta(1), progress=None)
    print("done", flush=True)
lake.close()
"""
ROWS = "SELECT count(*) FROM lake.requests"


class Keeper:
    """Another process, which inserts a row and does upkeep when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, word: str = "merge") -> None:
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        assert self._process.stdout.readline() == "done\n"

    def is_done_within(self, seconds: float) -> bool:
        return bool(select.select([self._process.stdout], [], [], seconds)[0])


@pytest.fixture(scope="module", params=["shared"] if SHARED else ["sqlite", "postgres"])
def place(request, tmp_path_factory) -> Iterator[tuple]:
    home = tmp_path_factory.mktemp("lake")
    if request.param == "sqlite":
        yield home, f"sqlite:{home / 'lake' / 'catalog.sqlite'}"
        return
    if SHARED:
        yield home, catalog_of(home)
        return
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield home, f"postgres:{new_database(url)}"


@pytest.fixture(scope="module")
def keeper(place, lake) -> Iterator[Keeper]:
    command = [sys.executable, "-c", UPKEEP, str(place[0]), place[1]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield Keeper(process)
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def lake(place):
    made = open_lake(place[0], catalog=place[1])
    yield made
    made.close()


def fill(lake, home) -> None:
    """Rows in files, of which some are deleted again, and rows in the catalogue."""
    logs = open_logs(home, lake=lake)
    for n in range(3):
        first = logs.mark("import:many") + 1
        rows = arrow_table("requests", [request() for _ in range(20)])
        logs.append({"requests": rows}, source_id="import:many", from_seq=first, to_seq=first + 19)
        if n == 1:
            lake.write(lambda c: c.execute("DELETE FROM lake.requests WHERE request_id LIKE '%3'"), what="delete")
        logs.record({"requests": [request(), request()]})
        logs.flush()
    logs.close()


@pytest.mark.parametrize("word", ["merge", "forget"])
def test_a_read_that_upkeep_meets_is_of_one_snapshot(place, lake, keeper, word):
    fill(lake, place[0])
    n, snapshot, tries = count(lake), lake.snapshot(), []

    def work(connection) -> list[int]:
        tries.append(word)
        before = connection.execute(ROWS).fetchone()[0]
        if len(tries) == 1:
            keeper.tell(word)
            keeper.wait()
        return [before, *(connection.execute(sql).fetchone()[0] for sql in (ROWS, f"{ROWS} AT (VERSION => {snapshot})"))]

    before, after, then = lake.read(work)
    assert before == after in {n, n + 1}
    assert then == n
    assert len(tries) == (2 if "sqlite" in place[1] else 1), "PostgreSQL shows a transaction the catalogue as it was"


def test_a_read_that_was_met_twice_is_waited_for(place, lake, keeper):
    fill(lake, place[0])
    tries = []

    def work(connection) -> list[int]:
        tries.append(1)
        before = connection.execute(ROWS).fetchone()[0]
        keeper.tell()
        if len(tries) < 3:
            keeper.wait()
        else:
            assert not keeper.is_done_within(0.3)
        return [before, connection.execute(ROWS).fetchone()[0]]

    before, after = lake.read(work)
    assert before == after
    if len(tries) == 3:
        keeper.wait()
    assert len(tries) == (3 if "sqlite" in place[1] else 1)


def test_a_fault_that_comes_of_upkeep_is_not_the_readers(place, lake, keeper):
    fill(lake, place[0])
    tries = []

    def work(connection) -> int:
        tries.append(1)
        before = connection.execute(ROWS).fetchone()
        if len(tries) == 1:
            keeper.tell()
            keeper.wait()
        assert connection.execute(ROWS).fetchone() == before
        return before[0]

    assert lake.read(work) == count(lake) - (0 if len(tries) == 2 else 1)


def test_what_a_snapshot_was_made_by_is_known_of_every_kind(place, lake, keeper):
    fill(lake, place[0])
    first = lake.snapshot()
    fill(lake, place[0])
    lake.write(lambda c: c.execute("ALTER TABLE lake.scores ADD COLUMN IF NOT EXISTS later VARCHAR"), what="alter")
    second = lake.snapshot()
    keeper.tell("forget")
    keeper.wait()
    sql = f"SELECT snapshot_id, changes_made FROM {CATALOGUE}.ducklake_snapshot_changes ORDER BY 1"
    changes = lake.read(lambda c: c.execute(sql).fetchall())
    assert leave_alone([change for change in changes if first <= change[0] <= second], first)
    assert not leave_alone([change for change in changes if change[0] >= second], second)


kinds = st.sampled_from([*ADDING, "merge_adjacent", "rewrite_delete", "inline_flush"])


@given(st.lists(st.lists(kinds, max_size=3), min_size=1, max_size=6), st.integers(0, 5), st.sets(st.integers(0, 5), max_size=2))
def test_only_additions_without_a_gap_leave_a_reader_alone(made, start, gone):
    gone -= {len(made) - 1}  # the newest is never given up
    changes = [(n, ",".join(f"{kind}:{n}" for kind in several) or None) for n, several in enumerate(made) if n not in gone]
    is_safe = (
        start < len(made)
        and all(n < start for n in gone if n < len(made))
        and all(ADDING.issuperset(several) for several in made[start + 1 :])
    )
    assert leave_alone([change for change in changes if change[0] >= start], start) == is_safe
