"""One file on its way into the lake: chunk by chunk, each chunk one transaction that also says how far the file is read."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import orjson
import pyarrow as pa

from workbench.errors import RecordRefused
from workbench.ledger.authority import Author, Authority
from workbench.observability.import_bundles import UNKNOWN_BUNDLE, BundleRegistry, NamedBundles
from workbench.observability.import_report import FileReport, Refusals
from workbench.observability.importers import fields
from workbench.observability.importers.repeats import Repeat, Repeats
from workbench.observability.importers.source import Imported, Refused, Row, Rows, Source
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table

CHUNK_ROWS = 50_000
"""Requests in one transaction, at most."""
_CHUNK_SPANS = 200_000
_CHUNK_CHARACTERS = 64_000_000
_PROGRESS_EVERY = 1000
_AHEAD = timedelta(days=1)
"""How far a time may lie in the future of the clock: clocks differ, by less than this."""
_LONGEST_MS = 24 * 3600 * 1000
_LONGEST_WORKFLOW = 200

Progress = Callable[[str, int, int], None]
"""(file, done, total): bytes for line formats, records otherwise."""


class LogStore(Protocol):
    """What importing needs of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int) -> bool: ...

    def mark(self, source_id: str) -> int: ...

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]: ...


class Permitted:
    """The apps of a run; each is asked for once."""

    def __init__(self, authority: Authority, author: Author) -> None:
        self.author = author
        self._authority = authority
        self._apps: set[str] = set()

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
        self.has_unknown_bundle = False
        """A record was refused that can be stored once its bundle is registered."""

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
    unnamed: int
    """Those of the new ones that no bundle is known of."""
    apps: frozenset[str]


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
        named: NamedBundles,
        bundle: str | None,
        now: datetime,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._logs = logs
        self._versions = versions
        self._sealer = sealer
        self._permitted = permitted
        self._progress = progress or (lambda _file, _done, _total: None)
        self._named = named
        self._default_bundle = bundle
        self._latest = now + _AHEAD
        settings = dict(source.settings) | ({"bundle": bundle} if bundle else {})
        identity = orjson.dumps([format_, source.digest, settings], option=orjson.OPT_SORT_KEYS)
        self._file_id = self._source_id = "import:" + hashlib.sha256(identity).hexdigest()
        self._read = self._stored = self._duplicates = self._unnamed = self._earlier = self._refused_earlier = 0
        self._refused: dict[str, Refusals] = {}
        self._bundle: str | None = None
        self.apps: frozenset[str] = frozenset()
        """Apps whose requests are stored by this run or were there already."""

    def go(self) -> None:
        """Read the file behind its mark, chunk by chunk; at its end, mark it whole."""
        self._source_id = self._current_id()
        whole_id, refused_id = f"{self._source_id}:whole", f"{self._source_id}:refused"
        self._earlier = self._logs.mark(whole_id)
        if self._earlier:
            self._refused_earlier = self._logs.mark(refused_id)
            if self._source.app and self._earlier > self._refused_earlier:
                self.apps = frozenset((self._source.app,))
        else:
            with _collector_paused():
                last = self._read_chunks(self._logs.mark(self._source_id))
            if self._refused and not self._earlier:
                n_refused = sum(refusals.count for refusals in self._refused.values())
                self._logs.append({}, source_id=refused_id, from_seq=1, to_seq=n_refused)
            if last:
                self._logs.append({}, source_id=whole_id, from_seq=1, to_seq=last)
        self._progress(str(self._source.path), self._source.total, self._source.total)

    def report(self) -> FileReport:
        return FileReport(
            file=str(self._source.path),
            digest=self._source.digest,
            read=self._read,
            stored=self._stored,
            duplicates=self._duplicates,
            earlier=self._earlier,
            refused_earlier=self._refused_earlier,
            refused=dict(self._refused),
            bundles=(self._bundle,) if self._bundle else (),
            notes=(*self._source.notes, *self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        if self._earlier and not self._read:
            refused = f"{self._refused_earlier:,} of its records were refused then" if self._refused_earlier else ""
            yield f"this file is stored already; nothing was read; {refused or 'records refused then are not counted again'}"
        if self._unnamed:
            yield f"{_requests(self._unnamed)} no bundle: a review of a bundle does not see them; import with --bundle"
        if self._default_bundle and self._duplicates:
            yield "requests that were there already keep the bundle that they were stored with: an import changes no stored request"

    def _current_id(self) -> str:
        """What the log knows this file by. A file with records of unknown bundles is another one when bundles were registered since."""
        before = self._logs.mark(f"{self._file_id}:{UNKNOWN_BUNDLE}")
        is_same = not before or before == self._named.n_registered + 1
        return self._file_id if is_same else f"{self._file_id}:{self._named.n_registered}"

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
            self._unnamed += stored.unnamed
            self.apps |= stored.apps

    def _take(self, record: Imported | Refused, chunk: _Chunk, repeats: Repeats, *, is_earlier: bool) -> None:
        """Put a record into the chunk, or count why not."""
        if is_earlier:
            self._earlier += 1
        else:
            self._read += 1
        if isinstance(record, Refused):
            if not is_earlier:
                self._refuse(record, record.reason, record.sentence)
            return
        request = record.rows.requests[0]
        repeat = repeats.judge(request["request_id"], record.content)
        if is_earlier:
            return
        if repeat is Repeat.NEW:
            self._add(record, chunk)
        elif repeat is Repeat.SAME:
            self._duplicates += 1
        else:
            self._refuse(record, "conflicting_id", "its request id stood on another record of this file; needed: one record per request")

    def _refuse(self, record: Imported | Refused, reason: str, sentence: str) -> None:
        known = self._refused.get(reason)
        example = known.example if known else f"{self._source.path.name}:{record.line or record.at}: {sentence}"
        self._refused[reason] = Refusals(count=known.count + 1 if known else 1, example=example)

    def _add(self, record: Imported, chunk: _Chunk) -> None:
        """Put a new record into the chunk, checked, under its bundle and sealed, or count why not."""
        rows = record.rows
        request = rows.requests[0]
        try:
            _check(request, latest=self._latest)
            self._permitted.need(request["app"])
            named = self._named_bundle(request)
            characters = self._seal(rows)
        except RecordRefused as refusal:
            chunk.has_unknown_bundle |= refusal.reason == UNKNOWN_BUNDLE
            self._refuse(record, refusal.reason, str(refusal))
            return
        request["bundle"] = self._bundle_id() if self._source.bundle is not None else named
        for span in rows.spans:
            span["bundle"] = request["bundle"]
        for score in rows.scores:
            score["app"] = request["app"]
        chunk.add(rows, at=record.at, characters=characters)

    def _named_bundle(self, request: Row) -> str | None:
        """The full id of the bundle that the request, or else the caller, names."""
        reference = request.pop("bundle", None) or self._default_bundle
        return None if reference is None else self._named.bundle_id(str(reference), request["app"])

    def _seal(self, rows: Rows) -> int:
        """The characters of text that the rows keep, after they are sealed."""
        request, sealer = rows.requests[0], self._sealer
        unit = request.get("unit")
        characters = sealer.request(request) + sum(sealer.span(span, unit) for span in rows.spans)
        for score in rows.scores:
            sealer.score(score, unit)
        return characters

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
        requests = chunk.rows["requests"]
        batch = {name: arrow_table(name, rows) for name, rows in chunk.rows.items() if rows}
        if chunk.has_unknown_bundle:
            self._logs.append({}, source_id=f"{self._file_id}:{UNKNOWN_BUNDLE}", from_seq=1, to_seq=self._named.n_registered + 1)
        is_new = self._logs.append(batch, source_id=self._source_id, from_seq=from_seq, to_seq=to_seq)
        new = len(requests) if is_new else 0
        unnamed = sum(row.get("bundle") is None for row in requests) if is_new else 0
        return Stored(new=new, known=len(keys) - new, unnamed=unnamed, apps=frozenset(app for app, _ in keys))


def _check(request: Row, *, latest: datetime) -> None:
    """Return when the request can be true.

    Raises:
        RecordRefused: when its app is no app name, its workflow no name, it lies in the future or it took longer than a day.
    """
    fields.app_name(request["app"])
    workflow = request.get("workflow")
    if isinstance(workflow, str) and len(workflow) > _LONGEST_WORKFLOW:
        fields.refuse("too_long", "workflow", f"{len(workflow)} characters", f"a name of at most {_LONGEST_WORKFLOW}")
    start, end = request["ts_start"], request.get("ts_end")
    if start > latest or (end is not None and end > latest):
        fields.refuse("future_time", "ts_start" if start > latest else "ts_end", "more than a day in the future", "a time that has been")
    for name in ("latency_ms", "ttft_ms"):
        if (request.get(name) or 0) > _LONGEST_MS:
            fields.refuse("absurd_latency", name, f"{request[name]:g} ms", "at most 24 hours", "is the number in another unit?")


def _requests(n: int) -> str:
    return "1 request names" if n == 1 else f"{n:,} requests name"


@contextmanager
def _collector_paused() -> Iterator[None]:
    """The cyclic garbage collector stands still: rows hold no cycles, and it would walk through all of a chunk again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
