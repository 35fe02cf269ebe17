"""One DuckDB instance with the lake attached: extensions from wheels, settings, and what its errors mean."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from workbench.errors import StoreBusy, StoreError, UsageError, WorkbenchError
from workbench.observability.object_store import PREFIX, ObjectStore
from workbench.observability.schema import create_tables
from workbench.observability.stored_files import MISSING, RESTORE

_READ_OPTIONS = {"sqlite": "META_BUSY_TIMEOUT 10000, READ_ONLY", "postgres": "READ_ONLY"}
_WRITE_OPTIONS = {"sqlite": "META_BUSY_TIMEOUT 10000, META_JOURNAL_MODE 'WAL'", "postgres": ""}
_EXTENSION = {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}
SHARED = frozenset({"postgres_scanner", "httpfs"})
"""Extensions that come with the extra `shared`."""
_UNUSED_OPTIMIZERS = "join_order,statistics_propagation"
"""They ask DuckLake for the statistics of each column of each file, which takes most of
a small question's time, and change no plan of ours."""
MEMORY = 1200 << 20
"""1200 MiB, by which a process stays below 2 GiB whatever is asked of 20 million requests. What outgrows it goes on in the scratch
folder, but for the values of exact percentiles, which have to fit: 8 bytes a request for each column."""
_SUFFIX = ".parquet"
_VALUE = re.compile(r'(?<=\.parquet"): value ".*', re.DOTALL)
_OF_THE_QUERY = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)
_PASSWORD = re.compile(r"(password\s*=\s*)('[^']*'|\S+)|(://[^:/@\s]+:)[^@\s]+(?=@)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeAddress:
    """Where the lake is (its catalogue, its Parquet files), and what of this machine it may take: a scratch folder, and memory."""

    kind: str
    """`sqlite` or `postgres`."""
    target: str
    """A file path, or a PostgreSQL connection string."""
    data: str
    """A folder, or `s3://bucket/prefix`."""
    scratch: Path
    objects: ObjectStore | None = None
    """How the data's object store is reached; None for a folder."""
    memory: int = MEMORY
    """Bytes that the engine may take in each process; less where the machine has no twice as much."""

    @classmethod
    def parse(cls, *, catalog: str, data: str, scratch: Path, environment: Mapping[str, str], memory: int = MEMORY) -> LakeAddress:
        """The address in `catalog`: `sqlite:/path` or `postgres:<connection string>`.

        Raises:
            UsageError: it is none, the data lie somewhere unknown, or the environment does not say how their object store is reached.
        """
        kind, _, target = catalog.partition(":")
        if kind not in _EXTENSION or not target:
            needed = "`sqlite:/path/catalog.sqlite` or `postgres:host=… dbname=…`"
            raise UsageError("lake catalogue", seen=repr(without_password(catalog)), needed=needed, next_step="correct WORKBENCH_CATALOG")
        if "://" in data and not (data.startswith(PREFIX) and data.removeprefix(PREFIX).partition("/")[0]):
            needed = "a folder, or s3://BUCKET/PREFIX"
            raise UsageError("lake data", seen=repr(without_password(data)), needed=needed, next_step="correct WORKBENCH_DATA")
        objects = ObjectStore.parse(environment) if data.startswith(PREFIX) else None
        return cls(kind=kind, target=target, data=data, scratch=scratch, objects=objects, memory=memory)

    @property
    def file(self) -> Path | None:
        """The catalogue's file; None on PostgreSQL."""
        return Path(self.target) if self.kind == "sqlite" else None

    @property
    def data_folder(self) -> Path | None:
        """The folder of the Parquet files; None in an object store."""
        return Path(self.data) if self.objects is None else None

    def __str__(self) -> str:
        return f"{self.kind}:{without_password(self.target)}"

    def without_secrets(self, text: str) -> str:
        """The text with passwords and keys covered."""
        covered = without_password(text)
        return covered if self.objects is None else self.objects.without_secrets(covered)


def without_password(text: str) -> str:
    """The text with passwords of connection strings covered."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[3]}***", text)


def connect(address: LakeAddress, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A new instance with the lake attached as `lake`.

    Raises:
        StoreError: an extension is missing, or the catalogue's file cannot be made.
        duckdb.Error: the catalogue cannot be attached.
    """
    connection = _instance(address)
    options = [
        f"DATA_PATH '{_quoted(address.data)}'",
        "OVERRIDE_DATA_PATH true",
        (_READ_OPTIONS if read_only else _WRITE_OPTIONS)[address.kind],
    ]
    try:
        if address.file is not None and not read_only and not address.file.exists():
            _make_catalog(connection, address.file)
        connection.execute(f"ATTACH 'ducklake:{address.kind}:{_quoted(address.target)}' AS lake ({', '.join(filter(None, options))})")
    except (duckdb.Error, StoreError):
        connection.close()
        raise
    _make_room(address.scratch)
    return connection


def _make_catalog(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Put an empty catalogue there that has its journal mode already. Called under the writers' lock.

    SQLite changes into WAL mode by way of a rollback journal. Whoever is killed in it would leave a journal that only a writer can
    play back, and readers would be refused; so it is done under another name.
    """
    made = file.with_name(f"{file.name}.new")
    try:
        for left in file.parent.glob(f"{made.name}*"):
            left.unlink()
        connection.execute(f"ATTACH '{_quoted(str(made))}' AS made (TYPE sqlite, JOURNAL_MODE 'WAL')")
        connection.execute("CREATE TABLE made.nothing (i INTEGER)")  # the file is made by the first statement that writes
        connection.execute("DROP TABLE made.nothing")
        connection.execute("DETACH made")
        made.replace(file)
    except OSError as fault:
        raise StoreError(f"folder {file.parent}", seen=fault.strerror or str(fault), needed="a writable folder") from fault


def connect_empty(address: LakeAddress) -> duckdb.DuckDBPyConnection:
    """A new instance whose `lake` has every table and no row: what a reader sees before the first write."""
    connection = _instance(address)
    connection.execute("ATTACH ':memory:' AS lake")
    create_tables(connection)
    return connection


def _instance(address: LakeAddress) -> duckdb.DuckDBPyConnection:
    offline: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_unsigned_extensions": "true",  # they are wheels as DuckDB itself is; hashing their 70 MB takes most of an opening's time
    }
    connection = duckdb.connect(":memory:", config=offline)
    for name in _extensions(address):
        connection.execute(f"LOAD '{_quoted(extension_path(name))}'")
    if address.objects is not None:
        connection.execute(address.objects.secret_sql())
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute(f"SET GLOBAL memory_limit = '{memory_limit(address.memory) >> 20}MiB'")
    connection.execute(f"SET GLOBAL disabled_optimizers = '{_UNUSED_OPTIMIZERS}'")
    connection.execute("SET GLOBAL preserve_insertion_order = false")  # inserts go faster; whoever needs an order says so
    connection.execute(f"SET GLOBAL temp_directory = '{_quoted(str(address.scratch / f'{socket.gethostname()}-{os.getpid()}'))}'")
    return connection


def _make_room(scratch: Path) -> None:
    """Make the folder in which queries that outgrow the memory go on, and remove what killed processes of this host left there."""
    with suppress(OSError):  # on a read-only disk queries have to fit into memory
        scratch.mkdir(parents=True, exist_ok=True)
        for left in scratch.iterdir():
            pid = left.name.removeprefix(f"{socket.gethostname()}-")
            if pid.isdecimal() and not _is_alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _extensions(address: LakeAddress) -> Iterator[str]:
    yield _EXTENSION[address.kind]
    yield "ducklake"
    if address.objects is not None:
        yield "httpfs"


def extension_path(name: str) -> str:
    """The file of a DuckDB extension that was installed as a wheel.

    Raises:
        StoreError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).rglob(f"{name}.duckdb_extension")):
            return str(path)
    package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
    raise StoreError(
        f"DuckDB extension {name}",
        seen="not installed",
        needed=f"the package {package}",
        next_step="pip install 'readiness-workbench[shared]'" if name in SHARED else f"pip install {package}",
    )


def memory_limit(most: int) -> int:
    """Bytes that the engine may take: half of the memory this process may use, at most `most`; several processes share the machine."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        physical = min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return max(256 << 20, min(most, physical // 2))


def _quoted(text: str) -> str:
    return text.replace("'", "''")


_CONFLICTS = ("database is locked", "Transaction conflict", "has altered it", "has been created by another", "could not serialize access")
_TRIES_AFTER_CONFLICT = 40
_TRIES_AFTER_UNKNOWN = 4


def tries(fault: duckdb.Error) -> int:
    """How often in all the same transaction is tried that ended in this error; 1 when repeating cannot help."""
    text = str(fault)
    if _symptom(text) is not None:
        return 1
    if any(needle in text for needle in _CONFLICTS):
        return _TRIES_AFTER_CONFLICT
    return _TRIES_AFTER_UNKNOWN if isinstance(fault, duckdb.TransactionException) or is_broken(fault) or is_outdated(fault) else 1


def is_broken(fault: duckdb.Error) -> bool:
    """Whether the instance itself is unusable from here on."""
    return isinstance(fault, duckdb.FatalException | duckdb.InternalException) or "has been invalidated" in str(fault)


def is_vanished_file(fault: duckdb.Error) -> bool:
    """Whether a file of an older snapshot was cleaned away under the reader."""
    text = str(fault)
    if isinstance(fault, duckdb.HTTPException):
        return "404" in text and ".parquet" in text
    return isinstance(fault, duckdb.IOException) and "Cannot open file" in text and "No such file" in text


def is_outdated(fault: duckdb.Error) -> bool:
    """Whether the instance still looks for a table of inlined rows that another process removed when it had written them to files.

    An instance never notices by itself (duckdb/ducklake issue 1413).
    """
    return "ducklake_inlined_" in str(fault) and "does not exist" in str(fault)


def is_missing_lake(fault: duckdb.Error) -> bool:
    """Whether nothing was ever written at the address."""
    return "creating a new DuckLake is explicitly disabled" in str(fault)


_SYMPTOMS = (
    (("NoSuchBucket",), "the bucket does not exist", "make it, or correct WORKBENCH_DATA"),
    (
        ("HTTP code 403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"),
        "the object store refuses the key",
        "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the key access to the prefix",
    ),
    (("NoSuchKey", "HTTP 404"), "a file is missing", RESTORE),
    (("HTTP 416", "mismatches requested range"), "a file is shorter than it was written", RESTORE),
    (("error for HTTP",), "the object store does not answer", "start it, or correct AWS_ENDPOINT_URL_S3"),
    (
        ("Out of Memory", "failed to allocate", "could not allocate"),
        "it takes more memory than the log's engine may have",
        "ask for a shorter window or fewer percentiles at once, or raise WORKBENCH_LOG_MEMORY (for example 4GiB)",
    ),
    (
        ("No space left", "database or disk is full", "disk is full", "ENOSPC", "File too large", "quota exceeded"),
        "the disk is full",
        "free space, then run it again",
    ),
    (
        ("Read-only file system", "readonly database", "read-only database"),
        "the store is read-only",
        "make it writable, or choose another WORKBENCH_HOME",
    ),
    (
        ("unable to open database file",),
        "the catalogue cannot be opened",
        "make its folder readable and writable: readers keep a small index file beside it",
    ),
    (("disk I/O error",), "the disk does not take or give data, it may be full", "free space on it or check it, then run it again"),
    (
        ("Too many open files", "Input/output error", "Stale file handle", "Could not write", "Failed to write"),
        "this machine could not read or write it",
        "run it again; if it stays, look at the disk, and at how many files a process may open (ulimit -n)",
    ),
    (("Permission denied", "permission denied"), "permission denied", "give this user access to the folder"),
    (
        ("file is not a database", "malformed"),
        "the file is damaged or not ours",
        "restore it from a backup",
    ),
    (
        ("could not connect", "connection to server", "Connection refused", "server closed the connection"),
        "the server does not answer",
        "start PostgreSQL, or correct WORKBENCH_CATALOG",
    ),
)


def explained(fault: duckdb.Error, address: LakeAddress, what: str) -> WorkbenchError | None:
    """The store's error as one of ours; None when the fault lies in the query."""
    text = address.without_secrets(_without_values(str(fault)))
    name = None if isinstance(fault, _OF_THE_QUERY) else _named_file(text, address)
    if name is not None and is_vanished_file(fault):
        return of_damage(address, what, f"{name} {MISSING}")
    subject = f"log lake {address}"
    symptom = _symptom(text)
    if symptom is not None:
        seen, step = symptom
        return StoreError(
            subject,
            seen=f"could not {what}: {seen} ({_on_one_line(text)})",
            needed=f"a usable {address} and {address.data}",
            next_step=step,
        )
    if tries(fault) == _TRIES_AFTER_CONFLICT:
        return StoreBusy(subject, seen=f"could not {what}: {_on_one_line(text)}", next_step="run it again when the other writers are done")
    if name is not None:
        return of_damage(address, what, f"{name} is damaged or not ours ({_on_one_line(text)})")
    if (
        is_broken(fault)
        or isinstance(fault, duckdb.IOException | duckdb.ConnectionException | duckdb.TransactionException)
        or type(fault) is duckdb.Error
    ):
        return StoreError(
            subject,
            seen=f"could not {what}: {_on_one_line(text)}",
            next_step="run it again; if it stays, restore the store from a backup",
        )
    return None


def of_damage(address: LakeAddress, what: str, seen: str) -> StoreError:
    """The error of a Parquet file that is not there as it was written; `seen` names it."""
    return StoreError(f"log lake {address}", seen=f"could not {what}: {seen}", needed="the file as it was written", next_step=RESTORE)


def may_be_damage(fault: duckdb.Error, address: LakeAddress) -> bool:
    """Whether a damaged Parquet file may be behind a fault that names none.

    What DuckDB's decoder meets there is an error without a kind ("don't know what type: "), an assertion of its own, a length that no
    memory has, or a text that is none, which no query brings in.
    """
    text = str(fault)
    is_of_decoder = type(fault) is duckdb.Error or is_broken(fault) or "Invalid unicode" in text
    is_unexplained = is_of_decoder and _symptom(text) is None
    return (is_unexplained or isinstance(fault, duckdb.OutOfMemoryException)) and _named_file(text, address) is None


def _symptom(text: str) -> tuple[str, str] | None:
    """What a message shows of the store, and what to do about it."""
    return next(((seen, step) for needles, seen, step in _SYMPTOMS if any(needle in text for needle in needles)), None)


def _named_file(text: str, address: LakeAddress) -> str | None:
    """The Parquet file of the lake that a message names, below its data; no query of ours or of a user names one."""
    start = text.find(address.data)
    end = text.find(_SUFFIX, start)
    return None if min(start, end) < 0 else text[start + len(address.data) : end + len(_SUFFIX)].lstrip("/")


def _without_values(text: str) -> str:
    """A message without the text that its file holds, which is nobody's business and may look like any symptom."""
    return _VALUE.sub("", text)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())[:400] or "no message"
