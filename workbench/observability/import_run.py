"""One file on its way into the lake: chunk by chunk, each chunk one transaction that also says how far the file is read."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import ConflictError, RecordRefused
from workbench.ledger.authority import Author, Authority
from workbench.observability import import_chunk
from workbench.observability.import_bundles import UNKNOWN_BUNDLE, BundleRegistry, NamedBundles
from workbench.observability.import_chunk import Chunk, with_bundles, without
from workbench.observability.import_report import FileReport, Refusals, stored_already
from workbench.observability.import_stretch import STRETCH_RECORDS, Preparing, Stretch
from workbench.observability.import_workers import stretches_of
from workbench.observability.importers.repeats import Repeat, Repeats
from workbench.observability.importers.source import ExternalBundle, Refused, Source
from workbench.observability.logs import Known
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table

_AHEAD = timedelta(days=1)
"""How far a time may lie in the future of the clock: clocks differ, by less than this."""
_NO_REQUESTS = arrow_table("requests", [{"seq": 0}]).slice(0, 0)
_CONFLICT = "its request id stood on another record of this file; needed: one record per request"

Progress = Callable[[str, int, int], None]
"""(file, done, total): bytes for line formats, records otherwise."""


class LogStore(Protocol):
    """What importing needs of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int, as_of: int | None = None) -> bool: ...

    def mark(self, source_id: str) -> int: ...

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> Known: ...

    def given_bundles(self, requests: pa.Table) -> pa.Table: ...

    def new_rows(self, table: str, rows: pa.Table) -> pa.Table: ...


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


class Stored(NamedTuple):
    """What became of a chunk's requests."""

    new: int
    known: int
    """In the lake already, by another file or another process that imports this one."""
    completed: int
    """Those of the known ones that had no bundle and have this import's now."""
    unnamed: int
    """Those of the new ones that no bundle is known of."""
    scores: int
    """Scores of known ones that were not there."""
    apps: frozenset[str]


class FileRun:
    """One file on its way into the lake.

    Args:
        begin: called before rows of the run are stored; the first time that it is called it says so in the audit.
        n_workers: processes that read and seal the file; 0 for this one.
    """

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
        begin: Callable[[], None],
        n_workers: int,
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
        self._begin = begin
        self._n_workers = n_workers
        settings = dict(source.settings) | ({"bundle": bundle} if bundle else {})
        identity = orjson.dumps([format_, source.digest, settings], option=orjson.OPT_SORT_KEYS)
        self._file_id = self._source_id = "import:" + hashlib.sha256(identity).hexdigest()
        self._read = self._stored = self._duplicates = self._completed = self._unnamed = self._earlier = self._refused_earlier = 0
        self._scores = 0
        self._refused: dict[str, Refusals] = {}
        self._described: dict[str | None, str] = {}
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
            completed=self._completed,
            earlier=self._earlier,
            refused_earlier=self._refused_earlier,
            refused=dict(self._refused),
            bundles=tuple(dict.fromkeys(self._described.values())),
            notes=(*self._source.notes, *self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        if self._earlier and not self._read:
            yield stored_already(self._refused_earlier)
        if self._unnamed:
            yield f"{_requests(self._unnamed, 'names', 'name')} no bundle: a review of a bundle does not see them; import with --bundle"
        if self._completed:
            get = "gets this one, as a new revision" if self._completed == 1 else "get this one, as a new revision each"
            yield f"{_requests(self._completed, 'that was', 'that were')} there without a bundle {get}"
        if self._scores:
            are = "score is" if self._scores == 1 else "scores are"
            yield f"{self._scores:,} {are} new, of requests that were there"
        if self._default_bundle and self._duplicates:
            yield "requests that were there with a bundle keep it: an import changes no stored request"

    def _current_id(self) -> str:
        """What the log knows this file by. A file with records of unknown bundles is another one when bundles were registered since."""
        before = self._logs.mark(f"{self._file_id}:{UNKNOWN_BUNDLE}")
        is_same = not before or before == self._named.n_registered + 1
        return self._file_id if is_same else f"{self._file_id}:{self._named.n_registered}"

    def _read_chunks(self, mark: int) -> int:
        """Store what stands behind the mark, one chunk being stored while the next is read; the number of the last record."""
        how = Preparing(self._sealer, self._latest, mark, min(import_chunk.CHUNK_ROWS, STRETCH_RECORDS))
        last, read_to = 0, mark
        done: list[Stored] = []

        def store(chunk: Chunk, from_seq: int, to_seq: int) -> None:
            done.append(self._store(chunk, from_seq=from_seq, to_seq=to_seq))

        try:
            with (
                _collector_paused(),
                ThreadPoolExecutor(max_workers=1, thread_name_prefix="import") as storing,
                stretches_of(self._source, how, n_workers=self._n_workers) as stretches,
            ):
                storing.submit(int).result()  # a thread that Ctrl-C meets while it starts is one that nobody waits for
                under_way: Future[None] | None = None
                for chunk, last in self._chunks(stretches, mark):
                    if under_way is not None:
                        under_way.result()
                    if last > read_to:
                        under_way = storing.submit(store, chunk, read_to + 1, last)
                        read_to = last
                if under_way is not None:
                    under_way.result()
        finally:
            for stored in done:  # wherever the run breaks off, what is stored counts
                self._count(stored)
        return last

    def _chunks(self, stretches: Iterable[Stretch], mark: int) -> Iterator[tuple[Chunk, int]]:
        """What is to be stored, each chunk with the number of the last record that it covers."""
        chunk, repeats, last = Chunk(), Repeats(), 0
        for stretch in stretches:
            last = stretch.last
            self._take(stretch, chunk, repeats, mark)
            self._progress(str(self._source.path), stretch.done, self._source.total)
            if chunk.is_full:
                yield chunk, last
                chunk = Chunk()
                repeats.compact()
        if last:
            yield chunk, last

    def _count(self, stored: Stored) -> None:
        self._stored += stored.new
        self._duplicates += stored.known
        self._completed += stored.completed
        self._unnamed += stored.unnamed
        self._scores += stored.scores
        self.apps |= stored.apps

    def _take(self, stretch: Stretch, chunk: Chunk, repeats: Repeats, mark: int) -> None:
        """Put the rows of a stretch into the chunk, under their bundles, and count the records that stay out."""
        self._read += stretch.n_behind
        self._earlier += stretch.n - stretch.n_behind
        repeated = _repeated(stretch, repeats, mark)
        self._duplicates += sum(conflict is None for conflict in repeated.values())
        refused = [*stretch.unread, *(unfit for at, unfit in stretch.unfit.items() if at not in repeated), *filter(None, repeated.values())]
        tables = without(stretch.tables, repeated.keys())
        if "requests" in tables and tables["requests"].num_rows:
            for app in pc.unique(tables["requests"]["app"]).to_pylist():
                self._permitted.need(app)
            bundles, unnamed = self._bundles_of(tables["requests"], stretch)
            chunk.has_unknown_bundle |= any(one.reason == UNKNOWN_BUNDLE for one in unnamed)
            refused += unnamed
            tables = without(with_bundles(tables, bundles), [one.at for one in unnamed])
        chunk.add(tables, characters=stretch.characters)
        for one in sorted(refused, key=lambda one: one.at):
            self._refuse(one)

    def _refuse(self, refused: Refused) -> None:
        line = refused.line or refused.at
        known = self._refused.get(refused.reason) or Refusals(count=0, example=f"{self._source.path.name}:{line}: {refused.sentence}")
        self._refused[refused.reason] = known.with_one_at(line)

    def _bundles_of(self, requests: pa.Table, stretch: Stretch) -> tuple[list[str | None], list[Refused]]:
        """The full id of each request's bundle, and the records that name one that nobody knows."""
        if self._source.bundle is not None:
            return [self._described_id(None, self._source.bundle)] * requests.num_rows, []
        if self._default_bundle is None and requests["bundle"].null_count == requests.num_rows:
            return [None] * requests.num_rows, []
        bundles: list[str | None] = []
        unnamed: list[Refused] = []
        lines = dict(zip(stretch.ats, stretch.lines, strict=True))
        said = (requests[name].to_pylist() for name in ("seq", "app", "bundle"))
        for at, app, reference in zip(*said, strict=True):
            named = reference or self._default_bundle
            try:
                if reference in self._source.bundles:
                    bundles.append(self._described_id(reference, self._source.bundles[reference]))
                    continue
                bundles.append(None if named is None else self._named.bundle_id(named, app))
            except RecordRefused as refusal:
                bundles.append(None)
                unnamed.append(Refused(at, 0, refusal.reason, str(refusal), lines[at]))
        return bundles, unnamed

    def _described_id(self, name: str | None, described: ExternalBundle) -> str:
        """A bundle that the file describes; it is registered when the first of its rows is about to be stored."""
        known = self._described.get(name)
        if known is None:
            registered = self._versions.register_external(described.spec, described.files, actor=self._permitted.author)
            known = self._described[name] = registered.bundle.bundle_id
        return known

    def _store(self, chunk: Chunk, *, from_seq: int, to_seq: int) -> Stored:
        """One transaction: the rows that the lake does not hold yet, those that complete what it holds, and how far the file is read.

        It is begun anew when another import brought some of its requests meanwhile; then these are known.
        """
        while True:
            with suppress(ConflictError):
                return self._store_as_known_now(chunk, from_seq=from_seq, to_seq=to_seq)

    def _store_as_known_now(self, chunk: Chunk, *, from_seq: int, to_seq: int) -> Stored:
        tables = chunk.tables()
        requests = tables.get("requests", _NO_REQUESTS)
        keys = list(zip(requests["app"].to_pylist(), requests["request_id"].to_pylist(), strict=True))
        known, as_of = self._logs.known_requests(keys)
        revisions: pa.Table = _NO_REQUESTS
        further: dict[str, pa.Table] = {}
        if known:
            is_known = pa.array([key in known for key in keys])
            there, requests = requests.filter(is_known), requests.filter(pc.invert(is_known))
            for name in self._source.adds & tables.keys():
                further[name] = self._logs.new_rows(name, tables[name].filter(pc.is_in(tables[name]["seq"], there["seq"])))
            tables = without(tables, frozenset(there["seq"].to_pylist()))
            revisions = self._logs.given_bundles(there.filter(pc.is_valid(there["bundle"])))
        if requests.num_rows or revisions.num_rows:
            tables = {**tables, "requests": pa.concat_tables([requests, revisions.select(requests.column_names).cast(requests.schema)])}
            self._begin()
        if any(rows.num_rows for rows in further.values()):
            tables = {**tables, **{name: pa.concat_tables([tables[name], rows]) for name, rows in further.items()}}
            self._begin()
        if chunk.has_unknown_bundle:
            self._logs.append({}, source_id=f"{self._file_id}:{UNKNOWN_BUNDLE}", from_seq=1, to_seq=self._named.n_registered + 1)
        batch = {name: table for name, table in tables.items() if table.num_rows}
        is_new = self._logs.append(batch, source_id=self._source_id, from_seq=from_seq, to_seq=to_seq, as_of=as_of)
        new, completed, unnamed = (requests.num_rows, revisions.num_rows, requests["bundle"].null_count) if is_new else (0, 0, 0)
        apps, scores = frozenset(app for app, _ in keys), further["scores"].num_rows if is_new and "scores" in further else 0
        return Stored(new=new, known=len(keys) - new - completed, completed=completed, unnamed=unnamed, scores=scores, apps=apps)


def _repeated(stretch: Stretch, repeats: Repeats, mark: int) -> dict[int, Refused | None]:
    """The records behind the mark whose id stood on an earlier one, by number; None for the same record again."""
    places = repeats.judge(stretch.ids, stretch.contents)
    found = ((stretch.ats[place], stretch.lines[place], repeat) for place, repeat in places.items())
    return {
        at: None if repeat is Repeat.SAME else Refused(at, 0, "conflicting_id", _CONFLICT, line) for at, line, repeat in found if at > mark
    }


def _requests(n: int, one: str, many: str) -> str:
    return f"1 request {one}" if n == 1 else f"{n:,} requests {many}"


@contextmanager
def _collector_paused() -> Iterator[None]:
    """The cyclic garbage collector stands still: rows hold no cycles, and it would walk through all of a stretch again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
