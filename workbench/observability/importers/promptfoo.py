"""Results of promptfoo: what one provider answered to one prompt in one test is one request.

Read are the JSON output (`promptfoo eval --output results.json`: `results.results[]`; of other ages and exports also `results[]`, or either
within `data`) and the JSONL output (a result in each line). `promptfoo_rows` says what each result becomes.

The app is the import's, else `config.tags.app`, else `config.metadata.app`. Results carry no time of their own: all have that of their run,
`results.timestamp` or `createdAt`, else the time in `evalId`, else when the file was last written, with a note.

Each pair of provider and prompt is a bundle known only from this file: provider, model, their `config` of `config.providers` without
what may be secret, and the prompt's template (`results.prompts`; in JSONL the prompt's label). A result without a provider has no bundle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import fields, files, loose
from workbench.observability.importers.promptfoo_bundles import bundle_of, pair_of
from workbench.observability.importers.promptfoo_rows import Reading, response_of, rows, written
from workbench.observability.importers.source import ExternalBundle, Imported, ImportOptions, Refused, Source

_MADE_AT = re.compile(r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d")
_LONGEST_TIME = len("2026-01-01T00:00:00.000000+00:00")
_MS = 1000
_SURELY_MS = 1e11
_UTC = ZoneInfo("UTC")
_NO_TIME = "its results carry no time: all are dated by when the file was last written"

_Each = Callable[[], Iterator[tuple[int, int, bytes, Any]]]
"""(number, done, content, row) of each result; of a JSONL file the content is the line, still to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Results:
    """What the rows of a file have in common."""

    rows: _Each
    total: int
    started: datetime
    config: Mapping[str, Any]
    prompts: Sequence[Any]
    run_id: str | None
    notes: tuple[str, ...] = ()


class Promptfoo:
    """The importer of promptfoo results."""

    name = "promptfoo"
    summary = "results of promptfoo (JSON or JSONL); one answer to one test is one request"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The results as a source.

        Raises:
            UsageError: when the file holds none, or names no app and none was given.
        """
        results = _results(path)
        app = options.app or _app(results.config, subject=str(path))
        seen = _Seen(results, app)
        if not seen.n:
            raise files.no_records(str(path), "no results in it")
        reading = Reading(
            app=app,
            started=results.started,
            run_id=results.run_id,
            config=results.config,
            prompts=results.prompts,
            bundles=frozenset(seen.bundles),
            is_share=seen.is_share,
        )
        return Source(
            path=path,
            digest=files.sha256_of(path),
            settings={"app": app},
            total=results.total,
            records=partial(_records, results.rows, reading),
            app=app,
            bundles=seen.bundles,
            notes=(*results.notes, *seen.notes()),
        )


def _results(path: Path) -> _Results:
    head = files.checked_head(path, subject=str(path))
    try:
        first = orjson.loads(head.lstrip().split(b"\n", 1)[0])
    except orjson.JSONDecodeError:
        first = None
    is_lines = isinstance(first, dict) and "results" not in first and "data" not in first
    return _lines(path, first) if is_lines else _document(path)


def _document(path: Path) -> _Results:
    """The results of a JSON file: under `results.results`, or, of other ages and exports, under `results` or within `data`."""
    whole = files.document(path, wanted=Promptfoo.name, needed="results of promptfoo")
    whole = whole["data"] if isinstance(whole, dict) and isinstance(whole.get("data"), dict) else whole
    outer = whole if isinstance(whole, dict) else {}
    summary = loose.mapping(outer, "results") or outer
    rows = summary.get("results")
    if not isinstance(rows, list):
        hint = files.hint_at(files.checked_head(path, subject=str(path)), wanted=Promptfoo.name)
        raise UsageError(str(path), seen="JSON without `results.results`", needed="results of promptfoo", next_step=hint)
    named = (
        loose.text(outer.get("evalId"))
        or loose.text(outer.get("id"))
        or next((loose.text(row.get("evalId")) for row in rows[:1] if isinstance(row, dict)), None)
    )
    at = _moment(summary.get("timestamp")) or _moment(outer.get("createdAt")) or _moment(named)
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    prompts = summary.get("prompts") or outer.get("prompts")

    def each() -> Iterator[tuple[int, int, bytes, Any]]:
        for number, row in enumerate(rows, start=1):
            yield number, number, b"", row

    return _Results(
        rows=each,
        total=len(rows),
        started=at or written,
        config=loose.mapping(outer, "config"),
        prompts=prompts if isinstance(prompts, list) else (),
        run_id=named or (at.isoformat() if at else None),
        notes=() if at else (_NO_TIME,),
    )


def _lines(path: Path, first: Mapping[str, Any]) -> _Results:
    """The results of a JSONL file."""
    if not any(key in first for key in ("testIdx", "promptIdx", "gradingResult", "namedScores", "success")):
        hint = files.hint_at(files.checked_head(path, subject=str(path)), wanted=Promptfoo.name)
        raise UsageError(str(path), seen="lines that are no results", needed="results of promptfoo", next_step=hint)
    named = loose.text(first.get("evalId"))
    at = _moment(named)

    def each() -> Iterator[tuple[int, int, bytes, Any]]:
        with path.open("rb") as file:
            for number, done, line in files.lines_of(file):
                if line is None or line.strip():
                    yield number, done, line or b"", None

    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    notes = () if at else (_NO_TIME,)
    return _Results(rows=each, total=path.stat().st_size, started=at or written, config={}, prompts=(), run_id=named, notes=notes)


def _app(config: Mapping[str, Any], *, subject: str) -> str:
    app = loose.text(loose.mapping(config, "tags").get("app")) or loose.text(loose.mapping(config, "metadata").get("app"))
    if app is None:
        raise UsageError(subject, seen="names no app (`config.tags.app`)", needed="the app that was tested", next_step="name it with --app")
    try:
        return fields.app_name(app)
    except RecordRefused as refusal:
        raise UsageError(
            subject, seen="`config.tags.app` is no app name", needed=refusal.needed, next_step="name it with --app"
        ) from refusal


class _Seen:
    """What a first look at all rows tells: the bundles, and whether all scores are shares."""

    def __init__(self, results: _Results, app: str) -> None:
        self.n = self._n_cached = self._n_unnamed = 0
        self.is_share = True
        self.bundles: dict[str, ExternalBundle] = {}
        for _, _, line, row in results.rows():
            self.n += 1
            row = _parsed(line) if row is None else row  # noqa: PLW2901 - the same row, read
            if isinstance(row, dict):
                self._look(row, results, app)

    def notes(self) -> Iterator[str]:
        if self._n_cached:
            yield f"{self._n_cached:,} of {self.n:,} answers came from promptfoo's cache: they have no latency, tokens or cost"
        if self._n_unnamed:
            yield f"{self._n_unnamed:,} of {self.n:,} results name no provider that a bundle can be made of"

    def _look(self, row: Mapping[str, Any], results: _Results, app: str) -> None:
        score = row.get("score")
        if isinstance(score, (int, float)) and not isinstance(score, bool):
            self.is_share &= 0 <= score <= 1
        self._n_cached += bool(response_of(row).get("cached"))
        pair = pair_of(row, results.prompts)
        if pair is not None and pair.name not in self.bundles:
            described = bundle_of(pair, results.config, app)
            if described is not None:
                self.bundles[pair.name] = described
        self._n_unnamed += pair is None or pair.name not in self.bundles


def _records(each: _Each, reading: Reading) -> Iterator[Imported | Refused]:
    for number, done, line, row in each():
        try:
            found = files.object_of(line or None) if row is None else row
            if not isinstance(found, dict):
                fields.refuse("wrong_type", f"results[{number - 1}]", fields.type_name(found), "an object")
            content = line or written(found)
            yield Imported(number, done, hash(content), rows(found, content, reading))
        except RecordRefused as refusal:
            yield Refused(number, done, refusal.reason, str(refusal))


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _moment(value: Any) -> datetime | None:
    """The time of a field, or within an id; None when there is none."""
    if isinstance(value, str) and (found := _MADE_AT.search(value)):
        value = value if found[0] == value[: len(found[0])] and len(value) <= _LONGEST_TIME else found[0]
    try:
        value = value / _MS if isinstance(value, (int, float)) and not isinstance(value, bool) and value > _SURELY_MS else value
        return fields.moment(value, "timestamp", _UTC) if value else None
    except RecordRefused:
        return None
