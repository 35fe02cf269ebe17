"""One file on its way into the lake: chunk by chunk, each chunk one transaction that also says how far the file is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import orjson
import pyarrow as pa

from workbench.errors import RecordRefused
from workbench.ledger.authority import Author, Authority
from workbench.observability.import_report import FileReport, Refusals
from workbench.observability.importers.repeats import Repeat, Repeats
from workbench.observability.importers.source import Imported, Refused, Row, Rows, Source
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table
from workbench.spec.bundle import BundleSpec
from workbench.versions.model import RegisteredBundle

CHUNK_ROWS = 50_000
"""Requests in one transaction, at most."""
_CHUNK_SPANS = 200_000
_CHUNK_CHARACTERS = 64_000_000
_PROGRESS_EVERY = 1000

Progress = Callable[[str, int, int], None]
"""(file, done, total): bytes for line formats, records otherwise."""


class LogStore(Protocol):
    """What importing needs of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int) -> bool: ...

    def mark(self, source_id: str) -> int: ...

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]: ...


class BundleRegistry(Protocol):
    """What importing needs of the versions; `versions.service.Versions` is one."""

    def register_external(self, spec: BundleSpec, files: Mapping[str, bytes], *, actor: Author | None = None) -> RegisteredBundle: ...


class Permitted:
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

    def add(self, rows: Rows, *, at: int, characters: int) -> None:
        """Take the sealed rows of the record with this number."""
        self.characters += characters
        for name, those in (("requests", rows.requests), ("spans", rows.spans), ("scores", rows.scores)):
            for row in those:
                row["seq"] = at
            self.rows[name] += those

    def drop(self, request_ids: set[str]) -> None:
        for name, rows in self.rows.items():
            self.rows[name] = [row for row in rows if row["request_id"] not in request_ids]


class Stored(NamedTuple):
    """What became of a chunk's requests."""

    new: int
    known: int
    """In the lake already, by another file or another process that imports this one."""


class FileRun:
    """One file on its way into the lake."""

    def __init__(
        self,
        source: Source,
        *,
        format_: str,
        logs: LogStore,
        versions: BundleRegistry,
        sealer: Sealer,
        permitted: Permitted,
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
        """Store what stands behind the mark, one chunk being stored while the next is read; the number of the last record."""
        chunk, repeats, last, read_to = _Chunk(), Repeats(), 0, mark
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="import") as storing:
            stored: Future[Stored] | None = None
            for record in self._source.records():
                last = record.at
                self._take(record, chunk, repeats, is_earlier=last <= mark)
                if last % _PROGRESS_EVERY == 0:
                    self._progress(str(self._source.path), record.done, self._source.total)
                if chunk.is_full:
                    self._count_stored(stored)
                    stored = storing.submit(self._store, chunk, from_seq=read_to + 1, to_seq=last)
                    chunk, read_to = _Chunk(), last
                    repeats.compact()
            self._count_stored(stored)
            if last > read_to:
                self._count_stored(storing.submit(self._store, chunk, from_seq=read_to + 1, to_seq=last))
        return last

    def _count_stored(self, storing: Future[Stored] | None) -> None:
        """Wait for a chunk's transaction and count it.

        Raises:
            StoreError: it could not be stored; the chunks before it are.
        """
        if storing is not None:
            stored = storing.result()
            self._stored += stored.new
            self._duplicates += stored.known

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
        try:
            characters = sealer.request(request) + sum(sealer.span(span, unit) for span in rows.spans)
            for score in rows.scores:
                sealer.score(score, unit)
        except RecordRefused as refusal:
            self._refuse(at, refusal.reason, str(refusal))
            return
        if self._source.bundle is not None:
            request["bundle"] = self._bundle_id()
        for span in rows.spans:
            span["bundle"] = request.get("bundle")
        for score in rows.scores:
            score["app"] = request["app"]
        chunk.add(rows, at=at, characters=characters)

    def _bundle_id(self) -> str:
        """The bundle that the file describes; it is registered when the first of its rows is about to be stored."""
        if self._bundle is None:
            described = self._source.bundle
            if described is None:
                raise AssertionError("only asked for a source with a bundle")
            self._bundle = self._versions.register_external(described.spec, described.files, actor=self._permitted.author).bundle.bundle_id
        return self._bundle

    def _store(self, chunk: _Chunk, *, from_seq: int, to_seq: int) -> Stored:
        """One transaction: the rows that the lake does not hold yet, and how far the file is read."""
        keys = [(row["app"], row["request_id"]) for row in chunk.rows["requests"]]
        known = self._logs.known_requests(keys)
        if known:
            chunk.drop({request_id for _, request_id in known})
        batch = {name: arrow_table(name, rows) for name, rows in chunk.rows.items() if rows}
        is_new = self._logs.append(batch, source_id=self._source_id, from_seq=from_seq, to_seq=to_seq)
        new = len(chunk.rows["requests"]) if is_new else 0
        return Stored(new=new, known=len(keys) - new)
