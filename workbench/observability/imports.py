"""Recorded traffic brought into the log lake: idempotent, in chunks, nothing half-written.

A file is known by the digest of its format, content and options. Each chunk is one transaction that also stores how far the file
is read, so a run that was killed goes on behind its last chunk, and a file that is stored is skipped whole. Request ids that the lake
holds already, from any file, are counted as duplicates and not stored again; one that it holds without a bundle gets the bundle that
is known now, once, as a new revision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from workbench.errors import RecordRefused, UsageError
from workbench.ledger.authority import Author, Authority
from workbench.observability.dry_run import DryLogs, DryVersions
from workbench.observability.event_import import EventFile, files_of
from workbench.observability.feedback import KINDS
from workbench.observability.import_bundles import BundleRegistry, NamedBundles
from workbench.observability.import_report import FileReport, ImportReport, Refusals
from workbench.observability.import_run import FileRun, LogStore, Permitted, Progress
from workbench.observability.import_workers import workers_for
from workbench.observability.importers import fields
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.mapped_csv import zone_of
from workbench.observability.importers.source import ImportOptions, Joining, Source
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer

__all__ = ["FileReport", "ImportReport", "Imports", "Refusals"]


class Record(Protocol):
    """What importing tells the audit; `import_record.ImportRecord` is one."""

    def begin(self, author: Author, format_: str, files: Sequence[tuple[Path, str]]) -> None: ...

    def is_open(self, digests: Collection[str]) -> bool: ...

    def end(self, author: Author, report: ImportReport) -> None: ...


class Imports:
    """The verb of importing.

    Args:
        logs: where rows go.
        versions: registers bundles that only a file describes.
        redactor: takes out personal data and secrets before anything is written.
        unit_key: the workspace's key of `unit_hash`.
        authority: says whether the author may `log.import` into an app.
        author: who acts when a run names nobody.
        clock: what lies more than a day ahead of it is refused; the storage stamps the rows.
        record: told before a run stores its first row, and after its last, also when it broke off.
        outcomes_read: the outcomes that something of an app reads.
        settle: puts requests together of which spans came with several files.
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
        record: Record | None = None,
        outcomes_read: Callable[[str], Collection[str]] = lambda _app: (),
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self._logs = logs
        self._versions = versions
        self._sealer = Sealer(redactor, unit_key)
        self._authority = authority
        self._author = author
        self._clock = clock
        self._record = record
        self._outcomes_read = outcomes_read
        self._settle = settle

    def run(
        self,
        format: str,  # noqa: A002 - the word of the command line
        files: Sequence[Path],
        *,
        app: str | None = None,
        bundle: str | None = None,
        mapping: Path | None = None,
        zone: str | None = None,
        progress: Progress | None = None,
        actor: Author | None = None,
        is_dry_run: bool = False,
        workers: int | None = None,
    ) -> ImportReport:
        """Bring the files into the lake.

        Args:
            format: a key of `IMPORTERS`, or `scores` or `outcomes`: what happened after answers that the log has, or will have.
            app: the app of records that name none.
            bundle: the registered bundle of records that name none: its id, the start of its digest, or its name.
            mapping: mapping file of the format `csv`, or of a CSV file of scores or outcomes.
            zone: time zone of times that carry none, for example `Europe/Berlin`.
            is_dry_run: read, check and count as an import does, and store nothing: no row, no bundle, no audit entry.
            workers: processes that read a file, where it can be divided; by default one for each core for large files, 0 for none.

        Raises:
            UsageError: a file as a whole, or an option, cannot be used; nothing was stored.
            UnknownSubject: `bundle` names no registered one; nothing was stored.
            NotPermitted: the actor may not import into an app.
            StoreError: the lake cannot be written; what the report's audit entry counts is stored, and another run goes on there.
        """
        author = actor or self._author
        _check_app(app)
        if format in KINDS:
            _check_event_options(format, bundle=bundle)
            given, read = _given(format, files), self._outcomes_read
            chosen = tuple(files_of(format, given, app=app, mapping=mapping, zone=_zone(zone), outcomes_read=read))
            return self._run_events(format, chosen, str(app), author, progress=progress or _silent, is_dry_run=is_dry_run)
        options = ImportOptions(app=app, zone=_zone(zone), mapping=mapping)
        sources = _opened(format, files, options)
        permitted = Permitted(self._authority, author)
        for source in sources:
            permitted.need(source.settings.get("app"))
        logs, versions, record = self._logs, self._versions, self._record
        if is_dry_run:
            logs, versions, record = DryLogs(logs), DryVersions(versions, self._authority, self._clock, author), None
        named = NamedBundles(versions)
        if bundle is not None:
            _check_bundle_option(format, sources)
            named.check(bundle, app)
        recording = _Recording(record, author, format, [(source.path, source.digest) for source in sources])
        now = self._clock()
        runs = [
            FileRun(
                source,
                format_=format,
                logs=logs,
                versions=versions,
                sealer=self._sealer,
                permitted=permitted,
                named=named,
                bundle=bundle,
                now=now,
                progress=progress,
                begin=recording.begin,
                n_workers=workers_for(source) if workers is None else workers,
            )
            for source in sources
        ]
        is_whole = False
        try:
            for run in runs:
                run.go()
            if not is_dry_run and any("spans" in source.adds for source in sources):
                self._settle()
            is_whole = True
        finally:
            report = self._report(format, runs, is_dry_run=is_dry_run)
            recording.end(report, is_whole=is_whole)
        return report

    def _run_events(
        self, format_: str, files: Sequence[EventFile], app: str, author: Author, *, progress: Progress, is_dry_run: bool
    ) -> ImportReport:
        """Bring files of scores or outcomes into the lake."""
        Permitted(self._authority, author).need(app)
        logs = DryLogs(self._logs) if is_dry_run else self._logs
        recording = _Recording(None if is_dry_run else self._record, author, format_, [(file.path, file.digest) for file in files])
        is_whole = False
        try:
            for file in files:
                file.go(logs, self._sealer, now=self._clock(), progress=progress, begin=recording.begin)
            is_whole = True
        finally:
            report = ImportReport(format=format_, apps=(app,), files=tuple(file.report() for file in files), is_dry_run=is_dry_run)
            recording.end(report, is_whole=is_whole)
        return report

    def _report(self, format_: str, runs: Sequence[FileRun], *, is_dry_run: bool) -> ImportReport:
        apps = tuple(sorted(frozenset[str]().union(*(run.apps for run in runs))))
        return ImportReport(
            format=format_,
            apps=apps,
            files=tuple(run.report() for run in runs),
            apps_without_bundle=tuple(app for app in apps if not self._versions.list(app)),
            is_dry_run=is_dry_run,
        )


class _Recording:
    """What one run tells the audit: its beginning once, before it stores something, and its end when it began.

    The end is also told when that of an earlier run of the same file is missing.
    """

    def __init__(self, record: Record | None, author: Author, format_: str, files: Sequence[tuple[Path, str]]) -> None:
        self._record = record
        self._author = author
        self._format = format_
        self._files = files
        self._is_begun = False

    def begin(self) -> None:
        if self._record is not None and not self._is_begun:
            self._record.begin(self._author, self._format, self._files)
            self._is_begun = True

    def end(self, report: ImportReport, *, is_whole: bool) -> None:
        """Write the report; `is_whole` says that the run did not break off."""
        if self._record is not None and (self._is_begun or (is_whole and self._record.is_open([digest for _, digest in self._files]))):
            self._record.end(self._author, report)


def _check_app(name: str | None) -> None:
    try:
        if name is not None:
            fields.app_name(name)
    except RecordRefused as refusal:
        raise UsageError(f"--app {name!r}", seen=refusal.seen, needed=refusal.needed) from refusal


def _check_event_options(format_: str, *, bundle: str | None) -> None:
    if bundle is not None:
        raise UsageError("--bundle", seen=f"given for {format_}, which are joined to requests by name", next_step="leave it out")


def _silent(_file: str, _done: int, _total: int) -> None:
    return


def _given(format_: str, files: Sequence[Path]) -> Sequence[Path]:
    if not files:
        raise UsageError(f"import {format_}", seen="no files", needed="at least one")
    return [Path(path) for path in files]


def _check_bundle_option(format_: str, sources: Sequence[Source]) -> None:
    if any(source.bundle is not None or source.bundles for source in sources):
        seen = f"given for {format_}, whose files describe their bundle themselves"
        raise UsageError("--bundle", seen=seen, next_step="leave it out")


def _zone(name: str | None) -> ZoneInfo | None:
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
        raise UsageError(f"import format {format_!r}", seen="not known", needed=f"one of {', '.join(sorted((*IMPORTERS, *KINDS)))}")
    if options.mapping is not None and format_ != "csv":
        raise UsageError("--mapping", seen=f"given for {format_}", needed="the format csv", next_step="leave it out")
    paths = list(dict.fromkeys(_given(format_, files)))
    return [importer.open_together(paths, options)] if isinstance(importer, Joining) else [importer.open(path, options) for path in paths]
