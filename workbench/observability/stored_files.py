"""The Parquet files that the lake's newest snapshot names, held against what is stored: by their sizes and ends, not read whole.

DuckDB says of some damaged files only that it met something it cannot decode, and not where; `first_damaged` says which file that is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import duckdb
import pyarrow as pa

from workbench.errors import StoreError
from workbench.observability.reshaping import CATALOGUE

MISSING = "is missing"
RESTORE = "restore it from a backup; see with `workbench doctor` what else is missing or damaged"
_MOST_ENDS = 2_000
"""Files whose ends are read, the newest; the sizes of all are looked at."""
_MOST_BYTES = 256 << 20
"""What is read whole to find a file that ends well and cannot be decoded."""
_ALONE: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "256MiB", "threads": 1, "temp_directory": ""}
"""What an instance may take that decodes a file which may be damaged, beside the lake's own."""
_MAGIC = b"PAR1"
_GLOB = re.compile(r"[\[*?]")
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file as the catalogue has it."""

    path: str
    n_bytes: int
    n_footer_bytes: int | None
    """Without the 8 bytes after it; None where the catalogue does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is wrong with a file."""

    name: str
    """Below the lake's data."""
    seen: str
    """For example `is missing`."""

    def __str__(self) -> str:
        return f"{self.name} {self.seen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesReport:
    """How the files of one snapshot are."""

    snapshot: int
    n: int
    n_ends: int
    """Of them whose ends were read."""
    damaged: tuple[Damage, ...]

    def require_whole(self, subject: str) -> None:
        """Nothing, where every file is as it was written as far as was looked.

        Raises:
            StoreError: how many are missing or damaged, and the first of them.
        """
        if not self.damaged:
            return
        n_missing = sum(damage.seen == MISSING for damage in self.damaged)
        counts = (f"{n:,} {what}" for n, what in ((n_missing, "missing"), (len(self.damaged) - n_missing, "damaged")) if n)
        first = ", ".join(map(str, self.damaged[:_SHOWN])) + (" …" if len(self.damaged) > _SHOWN else "")
        raise StoreError(
            subject,
            seen=f"of the {self.n:,} files of snapshot {self.snapshot} {' and '.join(counts)}: {first}",
            needed="each file as it was written",
            next_step="restore them from a backup; what reads their rows fails until then",
        )


def look(connection: duckdb.DuckDBPyConnection, snapshot: int, data: str, *, is_folder: bool) -> FilesReport:
    """How the files of the newest snapshot are, in a read transaction at it.

    Args:
        connection: has the lake attached.
        snapshot: the number of it.
        data: the lake's data: a folder, or a prefix of an object store, where only the names are compared.
        is_folder: which of both.

    Raises:
        StoreError: this user may not look at them.
        duckdb.Error: the catalogue cannot be read, or the object store does not answer.
    """
    files = named_files(connection)
    damaged = _damaged(files) if is_folder else _not_among(files, _listed(connection, data))
    found = tuple(Damage(name=_below(data, file.path), seen=seen) for file, seen in damaged)
    return FilesReport(snapshot=snapshot, n=len(files), n_ends=min(len(files), _MOST_ENDS) if is_folder else 0, damaged=found)


def first_damaged(connection: duckdb.DuckDBPyConnection, data: str) -> Damage | None:
    """A file in the folder `data` that the newest snapshot names and that cannot be decoded; None where none is found.

    Those that end well are read, the newest first and 256 MiB in all: for who knows already that there is one.
    """
    files = named_files(connection)
    faults = (*_damaged(files), *_undecodable(files))
    return next((Damage(name=_below(data, file.path), seen=seen) for file, seen in faults), None)


def named_files(connection: duckdb.DuckDBPyConnection) -> list[StoredFile]:
    """Every file that the newest snapshot names, of rows and of deletions, the newest first: their names rise with the time."""
    tables = connection.execute(f"SELECT table_name FROM {CATALOGUE}.ducklake_table WHERE end_snapshot IS NULL ORDER BY 1").fetchall()
    columns = ", ".join(f"{kind}, {kind}_size_bytes, {kind}_footer_size" for kind in ("data_file", "delete_file"))
    found: dict[str, StoredFile] = {}
    for (table,) in tables:
        for row in connection.execute(f"SELECT {columns} FROM ducklake_list_files('lake', ?)", [table]).fetchall():
            for path, n_bytes, n_footer in (row[:3], row[3:]):
                if path is not None:
                    found[path] = StoredFile(path=path, n_bytes=n_bytes, n_footer_bytes=n_footer)
    return sorted(found.values(), key=lambda file: PurePosixPath(file.path).name, reverse=True)


def _damaged(files: Sequence[StoredFile]) -> Iterator[tuple[StoredFile, str]]:
    for number, file in enumerate(files):
        seen = _fault(file, reads_end=number < _MOST_ENDS)
        if seen:
            yield file, seen


def _fault(file: StoredFile, *, reads_end: bool) -> str:
    """What is wrong with a file of this machine; empty where nothing is."""
    path = Path(file.path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "is no file"
        if found.st_size != file.n_bytes:
            return f"has {found.st_size:,} bytes and was written with {file.n_bytes:,}"
        return _fault_of_end(path, file.n_footer_bytes) if reads_end else ""
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except PermissionError as fault:
        step = "give this user access to the folder"
        raise StoreError(f"file {path}", seen="permission denied", needed="to look at it", next_step=step) from fault
    except OSError as fault:
        return f"cannot be read: {fault.strerror or fault}"


def _fault_of_end(path: Path, n_footer_bytes: int | None) -> str:
    """What is wrong with a file's last bytes: its footer, the footer's length in 4 bytes, and `PAR1` (Parquet format, "File Format")."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - a gateway does not need it

    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), os.SEEK_END)
        end = file.read()
    if end[4:] != _MAGIC or n_footer_bytes not in (None, int.from_bytes(end[:4], "little")):
        return "does not end as it was written"
    try:
        pq.read_metadata(path)
    except (pa.ArrowException, OSError, ValueError):  # the last of names that are no text
        return "has a footer that cannot be decoded"
    return ""


def _undecodable(files: Iterable[StoredFile]) -> Iterator[tuple[StoredFile, str]]:
    left = _MOST_BYTES
    for file in files:
        if file.n_bytes > left:
            continue
        left -= file.n_bytes
        with closing(duckdb.connect(":memory:", config=_ALONE)) as alone:  # what a damaged file does to an instance ends with it
            try:
                alone.execute("SELECT count(COLUMNS(*)) FROM read_parquet(?)", [_GLOB.sub(r"[\g<0>]", file.path)])
            except duckdb.OutOfMemoryException:
                continue
            except duckdb.Error:
                yield file, "has rows that cannot be decoded"


def _listed(connection: duckdb.DuckDBPyConnection, data: str) -> set[str]:
    return {path for (path,) in connection.execute("SELECT file FROM glob(?)", [f"{data.rstrip('/')}/**/*.parquet"]).fetchall()}


def _not_among(files: Iterable[StoredFile], listed: set[str]) -> Iterator[tuple[StoredFile, str]]:
    return ((file, MISSING) for file in files if file.path not in listed)


def _below(data: str, path: str) -> str:
    return path.removeprefix(data).lstrip("/")
