"""Recorded traffic brought into the log lake: idempotent, in chunks, nothing half-written.

A file is known by the digest of its format, content and options. Each chunk is one transaction that also stores how far the file
is read, so a run that was killed goes on behind its last chunk, and a file that is stored is skipped whole. Request ids that the lake
holds already, from any file, are counted as duplicates and not stored again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa

from workbench.errors import UsageError
from workbench.ledger.authority import Author, Authority
from workbench.observability.importers import IMPORTERS, Imported, ImportOptions, Refused, Row, Source, zone_of
from workbench.observability.importers.repeats import Repeat, Repeats
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table
from workbench.spec.bundle import BundleSpec
from workbench.versions.model import RegisteredBundle

CHUNK_ROWS = 50_000
"""Requests in one transaction, at most."""
_CHUNK_SPANS = 200_000
_CHUNK_CHARACTERS = 128_000_000
_PROGRESS_EVERY = 1000

Progress = Callable[[str, int, int], None]
"""(file, done, total): bytes for line formats, records otherwise."""


class LogStore(Protocol):
    """What importing needs of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int) -> bool: ...

    def mark(self, source_id: str) -> int: ...

    def known_request_ids(self, ids: Sequence[str]) -> set[str]: ...


class BundleRegistry(Protocol):
    """What importing needs of the versions; `versions.service.Versions` is one."""

    def register_external(self, spec: BundleSpec, files: Mapping[str, bytes], *, actor: Author | None = None) -> RegisteredBundle: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """The records refused for one reason."""

    count: int
    example: str
    """`file:record: sentence` of the first; it never quotes the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What became of one file. `read` is `stored` + `duplicates` + all refused."""

    file: str
    digest: str
    """SHA-256 of the file's bytes, hex."""
    read: int
    """Records read in this run."""
    stored: int
    """Requests that are in the lake because of this run."""
    duplicates: int
    """Records whose request the lake held, or that the file repeats."""
    earlier: int
    """Records that an earlier run of the same file dealt with."""
    refused: Mapping[str, Refusals] = field(default_factory=dict)
    bundles: tuple[str, ...] = ()
    """Bundles that the file's traffic is stored under, when the file itself describes them."""
    notes: tuple[str, ...] = ()

    @property
    def n_refused(self) -> int:
        return sum(refusals.count for refusals in self.refused.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did."""

    format: str
    apps: tuple[str, ...]
    """Apps whose requests were read, sorted."""
    files: tuple[FileReport, ...]

    @property
    def read(self) -> int:
        return sum(report.read for report in self.files)

    @property
    def stored(self) -> int:
        return sum(report.stored for report in self.files)

    @property
    def duplicates(self) -> int:
        return sum(report.duplicates for report in self.files)

    @property
    def earlier(self) -> int:
        return sum(report.earlier for report in self.files)

    @property
    def refused(self) -> int:
        return sum(report.n_refused for report in self.files)

    @property
    def subject(self) -> str:
        """What an audit entry calls this import."""
        n = len(self.files)
        return f"{self.format}: {Path(self.files[0].file).name}" if n == 1 else f"{self.format}: {n} files"

    def summary(self) -> dict[str, Any]:
        """The counts as JSON, for an audit entry: file names and digests, nothing of their content."""
        return {
            "format": self.format,
            "apps": list(self.apps),
            "files": [
                {
                    "file": Path(report.file).name,
                    "sha256": report.digest,
                    "read": report.read,
                    "stored": report.stored,
                    "duplicates": report.duplicates,
                    "earlier": report.earlier,
                    "refused": {reason: refusals.count for reason, refusals in report.refused.items()},
                    "bundles": list(report.bundles),
                }
                for report in self.files
            ],
        }


class Imports:
    """The verb of importing.

    Args:
        logs: where rows go.
        versions: registers bundles that only a file describes.
        redactor: takes out personal data and secrets before anything is written.
        unit_key: the workspace's key of `unit_hash`.
        authority: says whether the author may `log.import` into an app.
        author: who acts when a run names nobody.
        clock: not read; the storage stamps rows.
        record_import: called once per run that stored something, also when it broke off.
    """

    def __init__(
        self,
        logs: LogStore,
        versions: BundleRegistry,
        *,
        redactor: Redactor,
        unit_key: bytes,
        authority: Authority,
        author: Author,
        clock: Callable[[], datetime],
        record_import: Callable[[Author, ImportReport], None] | None = None,
    ) -> None:
        self._logs = logs
        self._versions = versions
        self._sealer = Sealer(redactor, unit_key)
        self._authority = authority
        self._author = author
        self._clock = clock
        self._record_import = record_import

    def run(
        self,
        format: str,  # noqa: A002 - the word of the command line
        files: Sequence[Path],
        *,
        app: str | None = None,
        mapping: Path | None = None,
        zone: str | None = None,
        progress: Progress | None = None,
        actor: Author | None = None,
    ) -> ImportReport:
        """Bring the files into the lake.

        Args:
            format: a key of `IMPORTERS`.
            app: the app of records that name none.
            mapping: mapping file of the format `csv`.
            zone: time zone of times that carry none, for example `Europe/Berlin`.

        Raises:
            UsageError: a file as a whole, or an option, cannot be used; nothing was stored.
            NotPermitted: the actor may not import into an app.
            StoreError: the lake cannot be written; what the report's audit entry counts is stored, and another run goes on there.
        """
        author = actor or self._author
        options = ImportOptions(app=app, zone=_zone(zone), mapping=mapping)
        sources = _opened(format, files, options)
        permitted = _Permitted(self._authority, author)
        for source in sources:
            permitted.need(source.settings.get("app"))
        runs = [_FileRun(source, format, self._logs, self._versions, self._sealer, permitted, progress) for source in sources]
        try:
            for run in runs:
                run.go()
        finally:
            report = ImportReport(format=format, apps=permitted.apps, files=tuple(run.report() for run in runs))
            if report.stored and self._record_import is not None:
                self._record_import(author, report)
        return report


def _zone(name: str | None) -> Any:
    if name is None:
        return None
    try:
        return zone_of(name)
    except ValueError as error:
        raise UsageError("--zone", seen=str(error)) from error


def _opened(format_: str, files: Sequence[Path], options: ImportOptions) -> list[Source]:
    """Every file, checked as a whole before anything is stored; the same file named twice is read once."""
    importer = IMPORTERS.get(format_)
    if importer is None:
        raise UsageError(f"import format {format_!r}", seen="not known", needed=f"one of {', '.join(sorted(IMPORTERS))}")
    if not files:
        raise UsageError(f"import {format_}", seen="no files", needed="at least one")
    if options.mapping is not None and format_ != "csv":
        raise UsageError("--mapping", seen=f"given for {format_}", needed="the format csv", next_step="leave it out")
    return [importer.open(Path(path), options) for path in dict.fromkeys(files)]


class _Permitted:
    """The apps of a run; each is asked for once."""

    def __init__(self, authority: Authority, author: Author) -> None:
        self.author = author
        self._authority = authority
        self._apps: set[str] = set()

    @property
    def apps(self) -> tuple[str, ...]:
        return tuple(sorted(self._apps))

    def need(self, app: str | None) -> None:
        """Return when the author may import into the app.

        Raises:
            NotPermitted: otherwise.
        """
        if app is not None and app not in self._apps:
            self._authority.require(self.author, "log.import", app)
            self._apps.add(app)


class _Chunk:
    """Sealed rows that wait for their transaction."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {"requests": [], "spans": [], "scores": []}
        self.characters = 0

    @property
    def is_full(self) -> bool:
        rows = self.rows
        return len(rows["requests"]) >= CHUNK_ROWS or len(rows["spans"]) >= _CHUNK_SPANS or self.characters >= _CHUNK_CHARACTERS

    def drop(self, request_ids: set[str]) -> None:
        for name, rows in self.rows.items():
            self.rows[name] = [row for row in rows if row["request_id"] not in request_ids]


class _FileRun:
    """One file on its way into the lake."""

    def __init__(
        self,
        source: Source,
        format_: str,
        logs: LogStore,
        versions: BundleRegistry,
        sealer: Sealer,
        permitted: _Permitted,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._logs = logs
        self._versions = versions
        self._sealer = sealer
        self._permitted = permitted
        self._progress = progress or (lambda _file, _done, _total: None)
        identity = orjson.dumps([format_, source.digest, dict(source.settings)], option=orjson.OPT_SORT_KEYS)
        self._source_id = "import:" + hashlib.sha256(identity).hexdigest()
        self._read = self._stored = self._duplicates = self._earlier = 0
        self._refused: dict[str, Refusals] = {}
        self._bundle: str | None = None

    def go(self) -> None:
        """Read the file behind its mark, chunk by chunk; at its end, mark it whole."""
        whole_id = f"{self._source_id}:whole"
        self._earlier = self._logs.mark(whole_id)
        if not self._earlier:
            last = self._read_chunks(self._logs.mark(self._source_id))
            if last:
                self._logs.append({}, source_id=whole_id, from_seq=1, to_seq=last)
        self._progress(str(self._source.path), self._source.total, self._source.total)

    def report(self) -> FileReport:
        notes = self._source.notes
        if self._earlier and not self._read:
            notes = (*notes, "this file is stored already; nothing was read")
        return FileReport(
            file=str(self._source.path),
            digest=self._source.digest,
            read=self._read,
            stored=self._stored,
            duplicates=self._duplicates,
            earlier=self._earlier,
            refused=dict(self._refused),
            bundles=(self._bundle,) if self._bundle else (),
            notes=notes,
        )

    def _read_chunks(self, mark: int) -> int:
        """Store what stands behind the mark; the number of the last record."""
        chunk, repeats, last, stored_to = _Chunk(), Repeats(), 0, mark
        for record in self._source.records():
            last = record.at
            self._take(record, chunk, repeats, is_earlier=last <= mark)
            if last % _PROGRESS_EVERY == 0:
                self._progress(str(self._source.path), record.done, self._source.total)
            if chunk.is_full:
                self._store(chunk, from_seq=stored_to + 1, to_seq=last)
                chunk, stored_to = _Chunk(), last
                repeats.compact()
        if last > stored_to:
            self._store(chunk, from_seq=stored_to + 1, to_seq=last)
        return last

    def _take(self, record: Imported | Refused, chunk: _Chunk, repeats: Repeats, *, is_earlier: bool) -> None:
        """Put a record into the chunk, or count why not."""
        if is_earlier:
            self._earlier += 1
        else:
            self._read += 1
        if isinstance(record, Refused):
            if not is_earlier:
                self._refuse(record.at, record.reason, record.sentence)
            return
        request = record.rows.requests[0]
        repeat = repeats.judge(request["request_id"], record.content)
        if is_earlier:
            return
        if repeat is Repeat.NEW:
            self._permitted.need(request["app"])
            self._seal(record, chunk)
        elif repeat is Repeat.SAME:
            self._duplicates += 1
        else:
            self._refuse(record.at, "conflicting_id", "its request id stood on another record of this file; needed: one record per request")

    def _refuse(self, at: int, reason: str, sentence: str) -> None:
        known = self._refused.get(reason)
        example = known.example if known else f"{self._source.path.name}:{at}: {sentence}"
        self._refused[reason] = Refusals(count=known.count + 1 if known else 1, example=example)

    def _seal(self, record: Imported, chunk: _Chunk) -> None:
        rows, sealer, at = record.rows, self._sealer, record.at
        request = rows.requests[0]
        unit = request.get("unit")
        if self._source.bundle is not None:
            request["bundle"] = self._bundle_id()
        chunk.characters += sealer.request(request)
        request["seq"] = at
        chunk.rows["requests"].append(request)
        for span in rows.spans:
            span["bundle"], span["seq"] = request.get("bundle"), at
            chunk.characters += sealer.span(span, unit)
            chunk.rows["spans"].append(span)
        for score in rows.scores:
            score["seq"] = at
            sealer.score(score, unit)
            chunk.rows["scores"].append(score)

    def _bundle_id(self) -> str:
        """The bundle that the file describes; it is registered when the first of its rows is about to be stored."""
        if self._bundle is None:
            described = self._source.bundle
            if described is None:
                raise AssertionError("only asked for a source with a bundle")
            self._bundle = self._versions.register_external(described.spec, described.files, actor=self._permitted.author).bundle.bundle_id
        return self._bundle

    def _store(self, chunk: _Chunk, *, from_seq: int, to_seq: int) -> None:
        """One transaction: the rows that the lake does not hold yet, and how far the file is read."""
        requests = chunk.rows["requests"]
        n = len(requests)
        known = self._logs.known_request_ids([row["request_id"] for row in requests]) if requests else set()
        if known:
            chunk.drop(known)
        batch = {name: arrow_table(name, rows) for name, rows in chunk.rows.items() if rows}
        is_new = self._logs.append(batch, source_id=self._source_id, from_seq=from_seq, to_seq=to_seq)
        stored = len(chunk.rows["requests"]) if is_new else 0
        self._stored += stored
        self._duplicates += n - stored
