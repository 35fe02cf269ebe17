"""The log as plain Parquet files: one consistent snapshot, for engines that cannot read the lake.

A table is a folder of files under `app=…/day=…`. Rows stand as they hold at the snapshot: each request, step and event in its newest
version, without what was deleted. `manifest.json` names every file with its digest. It is made in a folder beside the target, which takes
the target's name in one step when everything is on the disk: an export that was cut off leaves nothing that looks like one.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from workbench.errors import StoreError, UsageError
from workbench.ledger.authority import Author, Authority
from workbench.ledger.canonical import JSON
from workbench.ledger.store import Ledger
from workbench.observability.flusher import literal
from workbench.observability.importers.files import sha256_of
from workbench.observability.lake import Lake
from workbench.observability.schema import version_of
from workbench.observability.tables import JUDGMENTS, OUTCOMES, REQUESTS, SCORES, SPANS, LogTable, latest_requests_sql
from workbench.versions.canonical import digest

FORMAT = 1
MANIFEST = "manifest.json"
EXPORTED = "log.export"
TABLES = (REQUESTS, SPANS, SCORES, OUTCOMES, JUDGMENTS)
_PARTIAL = ".partial-"
_WRITTEN = "a folder that `workbench export` wrote"
_LATEST = {"spans": ("app", "request_id", "trace_id", "span_id"), "outcomes": ("app", "outcome_id")}
"""What tells apart the rows of a table of which the one that was stored last counts."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """One Parquet file."""

    path: str
    """From the export's folder on."""
    rows: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedTable:
    """One table of an export."""

    rows: int
    files: tuple[ExportedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an export holds."""

    format: int
    snapshot: int
    """Of the lake."""
    schema_version: int
    """Of the lake's tables."""
    apps: tuple[str, ...]
    """The only apps in it; none for all."""
    exported_at: datetime
    tables: Mapping[str, ExportedTable]
    digest: str = ""
    """`sha256:` over everything else but the time."""

    def content(self) -> dict[str, JSON]:
        """Everything but the digest, as JSON."""
        content = asdict(self) | {"exported_at": self.exported_at.isoformat()}
        del content["digest"]
        return json.loads(json.dumps(content))  # type: ignore[no-any-return]


class Exports:
    """The verb of exporting.

    Args:
        lake: what is exported.
        ledger: its audit tells who took what where.
    """

    def __init__(self, lake: Lake, ledger: Ledger, *, authority: Authority, author: Author, clock: Callable[[], datetime]) -> None:
        self._lake = lake
        self._ledger = ledger
        self._authority = authority
        self._author = author
        self._clock = clock

    def parquet(self, folder: Path, *, apps: Sequence[str] = (), progress: Progress | None = None, actor: Author | None = None) -> Manifest:
        """Write the log, or that of some apps, as it is now into a folder that is not there yet, or empty.

        Raises:
            NotPermitted: the actor may not export.
            UsageError: the folder holds something.
            StoreError: nothing was ever logged, the lake cannot be read, or the folder not be written; nothing is left of it.
        """
        author = actor or self._author
        for app in apps or (None,):
            self._authority.require(author, EXPORTED, app)
        target = folder.absolute()
        _check_free(target)
        _remove_leftovers(target)
        partial = target.with_name(f".{target.name}{_PARTIAL}{os.getpid()}-{uuid.uuid4().hex[:8]}")
        try:
            partial.mkdir(parents=True)
            manifest = self._lake.read(lambda connection: self._written(connection, partial, tuple(sorted(set(apps))), progress))
            _sync(partial)
            self._audit(author, target, manifest)
            partial.rename(target)
            _sync_folder(target.parent)
        except OSError as fault:
            raise StoreError(
                f"export {target}",
                seen=fault.strerror or str(fault),
                needed="a folder that this user can write, with room for the log",
                next_step="free space, or choose another folder",
            ) from fault
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def _written(self, connection: duckdb.DuckDBPyConnection, partial: Path, apps: tuple[str, ...], progress: Progress | None) -> Manifest:
        """Runs again from the start when a file of the snapshot was cleaned away meanwhile."""
        shutil.rmtree(partial)
        partial.mkdir()
        row = connection.execute("SELECT id FROM lake.current_snapshot()").fetchone() if version_of(connection) else None
        if row is None:
            raise StoreError("log", seen="nothing was ever logged", next_step="import a log first: workbench import FORMAT FILE")
        tables = {}
        for number, table in enumerate(TABLES):
            if progress is not None:
                progress(table.name, number, len(TABLES))
            tables[table.name] = _table(connection, table, partial, apps)
        manifest = Manifest(
            format=FORMAT,
            snapshot=int(row[0]),
            schema_version=version_of(connection) or 0,
            apps=apps,
            exported_at=self._clock(),
            tables=tables,
        )
        content = manifest.content()
        sealed = digest({name: value for name, value in content.items() if name != "exported_at"})
        (partial / MANIFEST).write_text(json.dumps({**content, "digest": sealed}, indent=2) + "\n", encoding="utf-8")
        return _with_digest(manifest, sealed)

    def _audit(self, author: Author, target: Path, manifest: Manifest) -> None:
        detail: dict[str, JSON] = {
            "folder": str(target),
            "snapshot": manifest.snapshot,
            "digest": manifest.digest,
            "rows": {name: table.rows for name, table in manifest.tables.items()},
        }
        app = manifest.apps[0] if len(manifest.apps) == 1 else None
        with self._ledger.write() as act:
            act.audit(author, EXPORTED, app=app, subject=target.name, detail=detail)


def read_manifest(folder: Path, *, is_thorough: bool = False) -> Manifest:
    """The manifest of an export whose files are all there.

    Args:
        is_thorough: whether to compare every file's content with its digest, not its size alone.

    Raises:
        StoreError: it is no export, of a newer form, or not what was written.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, ValueError) as fault:
        raise StoreError(f"export {folder}", seen=f"no readable {MANIFEST}", needed=_WRITTEN) from fault
    manifest = parse_manifest(text, str(folder))
    for table in manifest.tables.values():
        for file in table.files:
            _check_file(folder, file, is_thorough=is_thorough)
    return manifest


def parse_manifest(text: str, folder: str) -> Manifest:
    """The manifest of an export, from the text of its file.

    Raises:
        StoreError: it is none, of a newer form, or not what was written.
    """
    try:
        content = json.loads(text)
    except ValueError as fault:
        raise StoreError(f"export {folder}", seen=f"no readable {MANIFEST}", needed=_WRITTEN) from fault
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StoreError(f"export {folder}", seen="a form that this version does not know", next_step="export it again")
    sealed = content.pop("digest", "")
    if digest({name: value for name, value in content.items() if name != "exported_at"}) != sealed:
        raise StoreError(f"export {folder}: {MANIFEST}", seen="not what was written", needed=sealed, next_step="export it again")
    tables = {
        name: ExportedTable(rows=table["rows"], files=tuple(ExportedFile(**file) for file in table["files"]))
        for name, table in content["tables"].items()
    }
    at = datetime.fromisoformat(content["exported_at"])
    manifest = Manifest(**{**content, "apps": tuple(content["apps"]), "exported_at": at, "tables": tables})
    return _with_digest(manifest, sealed)


def _with_digest(manifest: Manifest, sealed: str) -> Manifest:
    values = {name: getattr(manifest, name) for name in Manifest.__slots__}
    return Manifest(**{**values, "digest": sealed})


def _check_file(folder: Path, file: ExportedFile, *, is_thorough: bool) -> None:
    path = folder / file.path
    size = path.stat().st_size if path.is_file() else None
    if size != file.n_bytes or (is_thorough and sha256_of(path) != file.sha256):
        seen = "not there" if size is None else f"{size:,} bytes" if size != file.n_bytes else "another content"
        raise StoreError(f"export {folder}: {file.path}", seen=seen, needed="what was written", next_step="export it again")


def _table(connection: duckdb.DuckDBPyConnection, table: LogTable, partial: Path, apps: Sequence[str]) -> ExportedTable:
    """Write one table; where it has no row, one file that says which columns there would be."""
    place = partial / table.name
    rows = f"SELECT * FROM ({_rows_sql(table)}) AS held" + (f" WHERE app IN ({', '.join(map(literal, apps))})" if apps else "")
    by = f", PARTITION_BY ({', '.join(table.partition_by)})"
    copied = connection.execute(f"COPY ({rows}) TO {literal(str(place))} (FORMAT parquet, COMPRESSION zstd{by})").fetchone()
    n = int(copied[0]) if copied else 0
    if not n:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        connection.execute(f"COPY ({rows} LIMIT 0) TO {literal(str(place / 'none.parquet'))} (FORMAT parquet)")
    return ExportedTable(rows=n, files=tuple(_files(connection, partial, place)))


def _rows_sql(table: LogTable) -> str:
    """The rows of a table as they hold now."""
    columns = ", ".join(column.name for column in table.columns)
    if table is REQUESTS:
        return f"SELECT {columns} FROM ({latest_requests_sql()}) AS latest"
    key = _LATEST.get(table.name)
    latest = f" QUALIFY row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY batch_id DESC, seq DESC) = 1" if key else ""
    return f"SELECT {columns} FROM lake.{table.name}{latest}"


def _files(connection: duckdb.DuckDBPyConnection, partial: Path, place: Path) -> Iterator[ExportedFile]:
    for path in sorted(place.rglob("*.parquet")):
        row = connection.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata({literal(str(path))})").fetchone()
        yield ExportedFile(
            path=path.relative_to(partial).as_posix(),
            rows=int(row[0] or 0) if row else 0,
            n_bytes=path.stat().st_size,
            sha256=sha256_of(path),
        )


def _check_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise UsageError(f"export {target}", seen="there is something of this name", needed="a folder that is not there yet, or is empty")


def _remove_leftovers(target: Path) -> None:
    """What exports of processes that are gone began under this name."""
    for left in target.parent.glob(f".{target.name}{_PARTIAL}*"):
        owner = left.name.rpartition(_PARTIAL)[2].partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists() and Path("/proc").is_dir():
            shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Bring the folder and all in it to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
