"""Files of scores and outcomes brought into the log: idempotent, in chunks, nothing half-written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson

from workbench.errors import RecordRefused, UsageError
from workbench.observability.feedback import KINDS
from workbench.observability.import_report import FileReport, Refusals, stored_already
from workbench.observability.import_run import LogStore, Progress
from workbench.observability.importers import event_files, fields
from workbench.observability.importers.source import Row
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table
from workbench.observability.unmatched import Unmatched

_CHUNK = 20_000


class EventFile:
    """One file of events, brought into the log in chunks behind its mark; a file that is stored is skipped.

    Args:
        kind: `scores` or `outcomes`.
        path: a CSV file with a header, or JSON lines.
        app: whose events they are.
        mapping: which column is which field, for CSV.
        zone: of times that carry none.
        read: the outcomes that something of the app reads.
    """

    def __init__(
        self, kind: str, path: Path, *, app: str, mapping: event_files.EventMapping, zone: ZoneInfo | None, read: Collection[str]
    ) -> None:
        self._kind = KINDS[kind]
        self._path = path
        self._app = app
        self._mapping = mapping
        self._zone = zone or mapping.tzinfo
        self._source = event_files.opened(path, mapping, known=self._kind.fields)
        about = [kind, self._source.digest, app, mapping.model_dump(mode="json"), self._zone.key if self._zone else None]
        self._id = f"{kind}:" + hashlib.sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).hexdigest()
        self._read = self._stored = self._earlier = self._refused_earlier = 0
        self._refused: dict[str, Refusals] = {}
        self._unmatched = Unmatched(app, kind.removesuffix("s"), read)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hex."""
        return self._source.digest

    @property
    def path(self) -> Path:
        return self._path

    def go(self, logs: LogStore, sealer: Sealer, *, now: datetime, progress: Progress, begin: Callable[[], None]) -> None:
        """Read the file behind its mark, and store what is in it.

        Args:
            logs: where rows go.
            sealer: takes personal data out of them and replaces units by their hash.
            now: what lies more than a day ahead of it is refused.
            progress: told how far the file is read.
            begin: called before something is stored.
        """
        mark = logs.mark(self._id)
        rows: list[Row] = []
        first, last, done = mark + 1, mark, 0
        for record in self._source.records():
            if record.number <= mark:
                self._earlier += 1
                continue
            last, done = record.number, record.done
            self._read += 1
            row = self._row(record, sealer, now)
            if row is not None:
                self._unmatched.see(row, f"{self._path.name}:{record.line}", logs)
                rows.append(row)
            if len(rows) >= _CHUNK:
                begin()
                self._store(logs, rows, first, last)
                rows, first = [], last + 1
                progress(str(self._path), done, self._source.total)
        if last >= first:
            begin()
            self._store(logs, rows, first, last)
        self._unmatched.ask(logs)
        self._remember_refused(logs)
        progress(str(self._path), self._source.total, self._source.total)

    def report(self) -> FileReport:
        """What became of it."""
        notes = (stored_already(self._refused_earlier),) if self._earlier and not self._read else tuple(self._unmatched.notes())
        return FileReport(
            file=str(self._path),
            digest=self.digest,
            read=self._read,
            stored=self._stored,
            duplicates=0,
            earlier=self._earlier,
            refused_earlier=self._refused_earlier,
            refused=dict(self._refused),
            unread=self._unmatched.n_unread,
            notes=notes,
        )

    def _row(self, record: event_files.Record, sealer: Sealer, now: datetime) -> Row | None:
        try:
            event = record.event()
            own_id = f"{self._source.digest[:16]}-{record.number}"
            told = self._kind.told(event, app=self._app, own_id=own_id, now=now, zone=self._zone, source=self._default_source)
        except RecordRefused as fault:
            refusal = fields.of_column(fault, self._source.columns.get(fault.subject))
            known = self._refused.get(refusal.reason) or Refusals(count=0, example=f"{self._path.name}:{record.line}: {refusal}")
            self._refused[refusal.reason] = known.with_one_at(record.line)
            return None
        sealer.event(self._kind.table, told.row)
        return {**told.row, "seq": record.number}

    def _remember_refused(self, logs: LogStore) -> None:
        """Say how many records were refused where one run read the whole file, so that the next one knows."""
        refused_id = f"{self._id}:refused"
        if self._earlier and not self._read:
            self._refused_earlier = logs.mark(refused_id)
        elif self._refused and not self._earlier:
            logs.append({}, source_id=refused_id, from_seq=1, to_seq=sum(refusals.count for refusals in self._refused.values()))

    @property
    def _default_source(self) -> str:
        return "rule" if self._kind.table == "scores" else "file"

    def _store(self, logs: LogStore, rows: Sequence[Row], first: int, last: int) -> None:
        batch = {self._kind.table: arrow_table(self._kind.table, rows)} if rows else {}
        if logs.append(batch, source_id=self._id, from_seq=first, to_seq=last):
            self._stored += len(rows)


def files_of(
    kind: str,
    paths: Sequence[Path],
    *,
    app: str | None,
    mapping: Path | None,
    zone: ZoneInfo | None,
    outcomes_read: Callable[[str], Collection[str]],
) -> Iterator[EventFile]:
    """The files, each checked as a whole.

    Args:
        kind: as of `EventFile`, as the others.
        paths: of the files.
        app: whose events they are.
        mapping: the mapping's file.
        zone: of times that carry none.
        outcomes_read: the outcomes that something of an app reads.

    Raises:
        UsageError: no app is named, or a file cannot be used.
    """
    if app is None:
        raise UsageError(f"import {kind}", seen="no app", needed="the app whose events these are", next_step="name it with --app")
    columns, read = event_files.mapping_of(mapping), outcomes_read(app)
    for path in dict.fromkeys(paths):
        yield EventFile(kind, path, app=app, mapping=columns, zone=zone, read=read)
