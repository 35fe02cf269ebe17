"""Files of the lake that are not as they were written: every way to damage one is told with its name, and no query's own mistake is."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from tests.observability.lakes import SHARED, open_lake, open_logs, remove_stored, request, stored_files
from workbench.errors import StoreError
from workbench.observability.engine import LakeAddress, explained
from workbench.observability.lake import Lake
from workbench.observability.tables import arrow_table

_LENGTHS = 8
"""Bytes behind a footer: its length, and `PAR1`."""


class Log:
    """A lake whose files are damaged one at a time, and put right again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        lake = open_lake(home)
        noise = random.Random(7)
        rows = [request(app=app, output=noise.randbytes(40).hex()) for app in ("bank", "shop") for _ in range(150)]
        open_logs(home, lake=lake).append({"requests": arrow_table("requests", rows)}, source_id="import:x", from_seq=1, to_seq=len(rows))
        lake.close()
        self.data = home / "lake" / "data"
        (self.file,) = self.data.rglob("requests/app=shop/**/*.parquet")
        self.good = self.file.read_bytes()
        self.name = str(self.file.relative_to(self.data))
        self.footer = len(self.good) - _LENGTHS - int.from_bytes(self.good[-8:-4], "little")

    def opened(self, damage: Callable[[Log], object] | None = None) -> Lake:
        if damage is not None:
            damage(self)
        return open_lake(self.home)

    def mend(self) -> None:
        if self.file.is_dir():
            self.file.rmdir()
        self.file.write_bytes(self.good)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return (
        Log(tmp_path_factory.mktemp("log") / "a[b]*?")
        if not SHARED
        else pytest.skip("is about files of this machine, and the stores are on servers")
    )


@pytest.fixture
def log(made: Log) -> Iterator[Log]:
    yield made
    made.mend()


def read_all(lake: Lake) -> None:
    lake.read(lambda connection: connection.execute("SELECT * FROM lake.requests").pl())


def written(content: Callable[[Log], bytes] | bytes) -> Callable[[Log], object]:
    return lambda log: log.file.write_bytes(content if isinstance(content, bytes) else content(log))


def noise(n: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(n)


def truncated(n: int) -> Callable[[Log], object]:
    """The file's first bytes; of a negative number, all but its last."""
    return written(lambda log: log.good[:n])


def as_a_folder(log: Log) -> None:
    log.file.unlink()
    log.file.mkdir()


SEEN_AT_THE_END = {
    "noise of the same length": written(lambda log: noise(len(log.good))),
    "noise of another length": written(noise(5000)),
    "more behind it": written(lambda log: log.good + b"x"),
    "words": written(b"not a table\n" * 100),
    "words of the same length": written(lambda log: (b"not a table\n" * len(log.good))[: len(log.good)]),
    "zeros": written(lambda log: bytes(len(log.good))),
    "empty": truncated(0),
    "one byte": truncated(1),
    "too short": truncated(11),
    "shortest": truncated(12),
    "half": written(lambda log: log.good[: len(log.good) // 2]),
    "without its lengths": truncated(-_LENGTHS),
    "without its last byte": truncated(-1),
    "another length of footer": written(lambda log: log.good[:-8] + noise(4) + b"PAR1"),
    "a footer of noise": written(lambda log: log.good[: log.footer] + noise(len(log.good) - log.footer - 8) + log.good[-8:]),
    "a footer of zeros": written(lambda log: log.good[: log.footer] + bytes(len(log.good) - log.footer - 8) + log.good[-8:]),
    "a folder": as_a_folder,
    "missing": lambda log: log.file.unlink(),
}
ONLY_SEEN = {"twice": written(lambda log: log.good * 2)}
"""DuckDB reads as much of it as was written."""
NOT_SEEN_AT_THE_END = {
    "rows of noise": written(lambda log: log.good[:4] + noise(log.footer - 4) + log.good[log.footer :]),
    "rows of zeros": written(lambda log: log.good[:4] + bytes(log.footer - 4) + log.good[log.footer :]),
}


@pytest.mark.parametrize("damage", [*SEEN_AT_THE_END, *NOT_SEEN_AT_THE_END])
def test_whoever_reads_a_damaged_file_is_told_which_it_is(log: Log, damage: str):
    lake = log.opened((SEEN_AT_THE_END | NOT_SEEN_AT_THE_END)[damage])
    with pytest.raises(StoreError, match=r"could not read.*restore it from a backup") as told:
        read_all(lake)
    assert log.name in str(told.value)
    log.mend()
    read_all(log.opened())


@pytest.mark.parametrize("damage", [*SEEN_AT_THE_END, *ONLY_SEEN])
def test_the_files_of_the_newest_snapshot_are_looked_at_without_being_read(log: Log, damage: str):
    report = log.opened((SEEN_AT_THE_END | ONLY_SEEN)[damage]).files()
    assert report is not None
    assert [found.name for found in report.damaged] == [log.name]
    assert (report.damaged[0].seen == "is missing") == (damage == "missing")
    kind = "1 missing" if damage == "missing" else "1 damaged"
    with pytest.raises(StoreError, match=rf"of the {report.n} files of snapshot {report.snapshot} {kind}: {log.name} .*; restore them"):
        report.require_whole("log lake")


def test_whole_files_are_reported_whole_and_before_the_first_write_there_are_none(log: Log, tmp_path: Path):
    report = log.opened().files()
    assert report is not None
    assert report.n == report.n_ends == len(list(log.data.rglob("*.parquet"))) > 1
    report.require_whole("log lake")
    assert open_lake(tmp_path).files() is None


def test_what_is_missing_is_told_wherever_the_data_are(tmp_path: Path):
    rows = arrow_table("requests", [request(app=app) for app in ("bank", "shop_eu-1") for _ in range(150)])
    open_logs(tmp_path).append({"requests": rows}, source_id="import:x", from_seq=1, to_seq=300)
    report = open_lake(tmp_path).files()
    assert report is not None
    assert report.n == len(stored_files(tmp_path)) > 1
    report.require_whole("log lake")
    gone = next(name for name in stored_files(tmp_path) if "app=bank" in name)
    remove_stored(tmp_path, gone)
    report = open_lake(tmp_path).files()
    assert report is not None
    assert [(found.name, found.seen) for found in report.damaged] == [(gone.removeprefix("/"), "is missing")]


def test_deletions_are_files_too_and_what_was_given_up_is_none_of_them(log: Log, tmp_path: Path):
    shutil.copytree(log.home, tmp_path / "copy")
    lake = open_lake(tmp_path / "copy")
    lake.write(lambda connection: connection.execute("SET ducklake_default_data_inlining_row_limit = 0"), what="set")
    lake.write(lambda connection: connection.execute("DELETE FROM lake.requests WHERE app = 'bank'"), what="delete a whole file")
    lake.write(lambda connection: connection.execute("DELETE FROM lake.requests WHERE output < '8'"), what="delete some rows")
    folder = tmp_path / "copy" / "lake" / "data"
    shutil.rmtree(next(folder.rglob("app=bank")))
    report = lake.files()
    assert report is not None
    report.require_whole("log lake")
    lake.close()
    for deletions in folder.rglob("*-delete.parquet"):
        deletions.unlink()
    report = open_lake(tmp_path / "copy").files()
    assert report is not None
    assert [(found.name.endswith("-delete.parquet"), found.seen) for found in report.damaged] == [(True, "is missing")]


@pytest.mark.parametrize("seed", range(12))
def test_a_few_bytes_anywhere_end_in_rows_or_in_the_name_of_the_file(log: Log, seed: int):
    chance = random.Random(seed)
    first = 4 if seed % 2 else log.footer
    at = chance.randrange(first, len(log.good) - 16)
    lake = log.opened(written(lambda log: log.good[:at] + chance.randbytes(8) + log.good[at + 8 :]))
    try:
        read_all(lake)
    except StoreError as told:
        assert log.name in str(told)  # noqa: PT017 - Parquet has no sums of its bytes: what can be decoded is read


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("SELECT colour FROM lake.requests", duckdb.BinderException),
        ("SELECT * FROM lake.colours", duckdb.CatalogException),
        ("SELEC 1", duckdb.ParserException),
        ("SELECT CAST('No magic bytes' AS INTEGER)", duckdb.ConversionException),
        ("SELECT error('Corrupt: TProtocolException in x.parquet')", duckdb.InvalidInputException),
        ("SELECT regexp_matches('a', '(')", duckdb.InvalidInputException),
    ],
)
def test_a_mistake_in_a_query_stays_what_it_is_beside_damaged_files(log: Log, query: str, kind: type[duckdb.Error]):
    with pytest.raises(kind):
        log.opened(SEEN_AT_THE_END["empty"]).read(lambda connection: connection.execute(query).fetchall())


ADDRESS = LakeAddress(kind="sqlite", target="/home/lake/catalog.sqlite", data="/home/lake/data", scratch=Path("/home/lake/scratch"))
FILE = "/home/lake/data/main/requests/app=shop/x.parquet"


@pytest.mark.parametrize(
    "fault",
    [
        duckdb.InvalidInputException(f"Invalid Input Error: No magic bytes found at end of file '{FILE}'"),
        duckdb.InvalidInputException(f"Invalid Input Error: File '{FILE}' too small to be a Parquet file"),
        duckdb.InvalidInputException(f"Invalid Input Error: Invalid footer length provided for file '{FILE}'"),
        duckdb.InvalidInputException(f"Invalid Input Error: Footer length error in file '{FILE}'"),
        duckdb.InvalidInputException(f'Invalid Input Error: Failed to read file "{FILE}": ZSTD Decompression failure'),
        duckdb.InvalidInputException(f'Invalid Input Error: Failed to read file "{FILE}": Snappy decompression failure'),
        duckdb.IOException(f'IO Error: Could not read enough bytes from file "{FILE}": attempted to read 59 bytes from location 92596'),
        duckdb.IOException(f'IO Error: Could not read from file "{FILE}": Is a directory'),
        duckdb.InvalidInputException(
            f'Invalid Input Error: Invalid string encoding found in Parquet file "{FILE}": value "a\nb" is not UTF8!'
        ),
        duckdb.ConversionException(f'Conversion Error: in file "{FILE}" the column "day" could not be cast'),
    ],
)
def test_each_text_that_names_a_file_of_the_lake_is_told_as_its_damage(fault: duckdb.Error):
    told = explained(fault, ADDRESS, "read")
    assert isinstance(told, StoreError)
    assert "could not read: main/requests/app=shop/x.parquet is damaged or not ours" in str(told)


def test_the_text_that_a_damaged_file_holds_is_not_repeated_nor_taken_for_a_symptom():
    fault = f'Invalid string encoding found in Parquet file "{FILE}": value "ann is ill\nPermission denied" is not valid UTF8!'
    told = str(explained(duckdb.InvalidInputException(f"Invalid Input Error: {fault}"), ADDRESS, "read"))
    assert "x.parquet is damaged or not ours" in told
    assert "ann" not in told
    assert "ermission" not in told


def test_a_file_that_may_not_be_read_is_no_damage():
    told = explained(duckdb.IOException(f'IO Error: Cannot open file "{FILE}": Permission denied'), ADDRESS, "read")
    assert "permission denied" in str(told)
    assert "damaged" not in str(told)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (f'IO Error: Cannot open file "{FILE}": Too many open files', "this machine could not read or write it"),
        (f'IO Error: Could not read from file "{FILE}": Input/output error', "this machine could not read or write it"),
        (f'IO Error: Could not write file "{FILE}": Disk quota exceeded', "the disk is full"),
        (f'IO Error: Could not write file "{FILE}": Broken pipe', "this machine could not read or write it"),
    ],
)
def test_what_a_machine_cannot_do_is_no_damage_for_which_a_backup_is_restored(fault: str, seen: str):
    told = explained(duckdb.IOException(fault), ADDRESS, "store rows")
    assert isinstance(told, StoreError)
    assert seen in str(told)
    assert "backup" not in str(told)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ("(HTTP 404 Not Found) NoSuchKey: The specified key does not exist.", "a file is missing"),
        ("(HTTP 416 Range Not Satisfiable) InvalidRange: The requested range is not satisfiable", "a file is shorter than it was written"),
    ],
)
def test_what_an_object_store_says_of_a_file_is_told_in_our_words(answer: str, seen: str):
    url = "http://127.0.0.1/lake/main/requests/app%3Dbank/x.parquet"
    told = explained(duckdb.IOException(f"HTTP Error: HTTP GET error reading '{url}' in region 'us-east-1' {answer}"), ADDRESS, "read")
    assert isinstance(told, StoreError)
    assert f"could not read: {seen} (HTTP Error" in str(told)
    assert url in str(told)
    assert told.next_step.startswith("restore it from a backup")
