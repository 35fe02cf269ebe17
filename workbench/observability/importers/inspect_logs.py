"""Logs of Inspect, the evaluation framework: `.eval` archives and `.json` logs. One epoch of one sample is one request.

Read of a log, of either form and of format versions 1 and 2 (a log in which samples are cut into chunks, version 3, is refused with the
command that converts it):

- `eval`, `plan`, `results`, `stats`, `status`: from the document, or from `header.json` of the archive; the archive of a run that was
  killed has none, and `_journal/start.json` is read instead. `NaN` and `Infinity` are read as missing;
- samples: from `samples`, or from the archive's members `samples/…_epoch_….json`, deflated or compressed with zstd;
- the app is `--app`, else `eval.metadata.app`, else the task's own name; the workflow is the task.

`inspect_samples` says what each sample becomes. Which scorer is the main one, whether it is binary and whether it stays between 0 and 1
is decided for the whole log, so that a score of exactly 1 among fractions is no success. The main scorer is the first of `results.scores`,
else the first of `eval.scorers`, else the first that a sample has.

The model becomes a bundle known only from this log: `eval.model` (`provider/name`); its settings (`plan.config`,
`eval.model_generate_config`, and `eval.model_args` without what looks like a secret); the texts of the plan's steps as prompts; the plan
with the task's arguments as code; the tools that its steps name; and the limits of `eval.config`.

A log that holds fewer samples than it names, or whose run did not end well, is read as far as it goes, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import archives, fields, files, lenient_json, loose
from workbench.observability.importers.identity import as_name, exact, hashed, provider_of, settings_of, version_of
from workbench.observability.importers.inspect_samples import Run, number_of, rows
from workbench.observability.importers.source import ExternalBundle, Imported, ImportOptions, Refused, Source
from workbench.spec.bundle import BundleSpec, Model, Orchestration, Tool

_NEWEST_VERSION = 2
_MEMBER = re.compile(r"samples/.+_epoch_\d+\.json")
_CHUNKED = re.compile(r"samples/.+_epoch_\d+/sample\.json")
_JOURNALED = re.compile(r"_journal/summaries/\d+\.json")
_TEXTS = ("template", "prompt", "instructions", "system_message", "continue_message", "submit_prompt")
_LIMITS = ("message_limit", "max_messages", "token_limit", "time_limit", "working_limit", "cost_limit")
_RUNNING = frozenset(
    ("max_connections", "adaptive_connections", "max_retries", "timeout", "attempt_timeout", "batch", "cache", "max_tool_output")
)
"""Settings of `plan.config` that say how the log's run was carried out, not what the model answers."""
_CONVERT = "convert it: inspect log convert --to json --output-dir converted FILE"

Raw = Callable[[], tuple[Any, int]]
"""A sample as it stands in the log, and a hash of it.

Raises:
    RecordRefused: when it cannot be read.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """What is known of a log before its samples are read."""

    header: Mapping[str, Any]
    n_samples: int
    scores: Sequence[Mapping[str, Any]]
    """Those of each sample, as far as they can be known without reading it."""
    samples: Callable[[], Iterator[Raw]]


class Inspect:
    """The importer of Inspect logs."""

    name = "inspect"
    summary = "logs of Inspect (`.eval` or `.json`); one epoch of one sample is one request"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The log as a source.

        Raises:
            UsageError: when it is no Inspect log, holds no samples, is of a newer format, or its task is no app name and none was given.
        """
        log = _archived(path) if files.is_zip(files.first_bytes(path, subject=str(path))) else _document(path)
        _check(log, path)
        evaluated = loose.mapping(log.header, "eval")
        task = str(evaluated["task"])
        app = options.app or _app(evaluated, task, subject=str(path))
        bundle = _bundle(log.header, app, subject=str(path))
        main = _main_scorer(log)
        values = [number for scores in log.scores if (number := number_of(scores.get(main or ""))) is not None]
        run = Run(
            run_id=hashed(*(evaluated.get(key) for key in ("run_id", "task_id", "created")), task),
            app=app,
            task=task,
            provider=bundle.spec.model.provider,
            model=bundle.spec.model.name,
            started=loose.mapping(log.header, "stats").get("started_at") or evaluated.get("created"),
            zone=options.zone,
            main=main,
            is_binary=all(value in (0.0, 1.0) or letter for value, letter in values),
            is_share=all(0 <= value <= 1 for value, _ in values),
        )
        return Source(
            path=path,
            digest=files.sha256_of(path),
            settings={"app": app, "zone": options.zone.key if options.zone else None},
            total=log.n_samples,
            records=partial(_records, log.samples, run),
            app=app,
            bundle=bundle,
            adds=frozenset({"scores"}),
            notes=tuple(_notes(log)),
        )


def _document(path: Path) -> _Log:
    """The log of a `.json` file."""
    header = files.document(path, wanted=Inspect.name, needed="an Inspect log")
    if not isinstance(header, dict) or not isinstance(header.get("eval"), dict):
        hint = files.hint_at(files.checked_head(path, subject=str(path)), wanted=Inspect.name)
        raise UsageError(str(path), seen="JSON without `eval`", needed="an Inspect log", next_step=hint)
    samples = header.pop("samples", None)
    samples = samples if isinstance(samples, list) else []

    def raw(sample: Any) -> tuple[Any, int]:
        try:
            return sample, hash(orjson.dumps(sample, option=orjson.OPT_SORT_KEYS))
        except orjson.JSONEncodeError:
            fields.refuse("too_deep", "sample", "nested too deeply to be stored", "at most 250 levels")

    return _Log(
        header=header,
        n_samples=len(samples),
        scores=[_scores_of(sample) for sample in samples],
        samples=lambda: (partial(raw, sample) for sample in samples),
    )


def _archived(path: Path) -> _Log:
    """The log of an `.eval` archive."""
    subject = str(path)
    with archives.opened(path) as archive:
        names = archive.names
        if any(_CHUNKED.fullmatch(name) for name in names):
            raise UsageError(subject, seen="samples that are cut into chunks (log format 3)", needed="format 1 or 2", next_step=_CONVERT)
        start = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
        if start is None:
            raise UsageError(subject, seen="a zip archive without `header.json`", needed="an Inspect log")
        try:
            header = lenient_json.loads(archive.read(start))
        except (RecordRefused, orjson.JSONDecodeError) as error:
            raise UsageError(subject, seen=f"`{start}` cannot be read", needed="a whole Inspect log") from error
        summaries = ["summaries.json"] if "summaries.json" in names else [name for name in names if _JOURNALED.fullmatch(name)]
        scores = [_scores_of(summary) for name in summaries for summary in _summaries(archive, name)]
        members = [name for name in names if _MEMBER.fullmatch(name)]
        if len(scores) < len(members):
            scores = [_scores_of(_readable(archive, name)) for name in members]
    if not isinstance(header, dict) or not isinstance(header.get("eval"), dict):
        raise UsageError(subject, seen=f"`{start}` without `eval`", needed="an Inspect log")
    if start != "header.json":
        header = header | {"status": "started"}
    return _Log(header=header, n_samples=len(members), scores=scores, samples=partial(_members, path, members))


def _summaries(archive: archives.Archive, name: str) -> list[Any]:
    found = _readable(archive, name)
    return found if isinstance(found, list) else []


def _readable(archive: archives.Archive, name: str) -> Any:
    """What a member holds; None when it cannot be read, which its own record will say."""
    try:
        return lenient_json.loads(archive.read(name))
    except (RecordRefused, orjson.JSONDecodeError):
        return None


def _members(path: Path, names: Sequence[str]) -> Iterator[Raw]:
    with archives.opened(path) as archive:
        for name in names:
            yield partial(_member, archive, name)


def _member(archive: archives.Archive, name: str) -> tuple[Any, int]:
    content = archive.read(name)
    try:
        return lenient_json.loads(content), hash(content)
    except orjson.JSONDecodeError as error:
        raise RecordRefused("sample", reason="not_json", seen="its member of the archive is not JSON", needed="a whole log") from error


def _scores_of(sample: Any) -> Mapping[str, Any]:
    scores = sample.get("scores") if isinstance(sample, dict) else None
    return scores if isinstance(scores, dict) else {}


def _check(log: _Log, path: Path) -> None:
    version = log.header.get("version", _NEWEST_VERSION)
    if isinstance(version, int) and version > _NEWEST_VERSION:
        raise UsageError(str(path), seen=f"log format {version}", needed="format 1 or 2", next_step=_CONVERT)
    evaluated = log.header["eval"]
    for key in ("task", "model"):
        if not isinstance(evaluated.get(key), str) or not evaluated[key].strip():
            raise UsageError(str(path), seen=f"`eval.{key}` is missing", needed="an Inspect log")
    if not log.n_samples:
        raise files.no_records(str(path), f"no samples in it (status {log.header.get('status')!r:.40}; was it written without samples?)")


def _app(evaluated: Mapping[str, Any], task: str, *, subject: str) -> str:
    """The app that the log names.

    Raises:
        UsageError: when its name cannot be one.
    """
    app = str(loose.mapping(evaluated, "metadata").get("app") or task.rpartition("/")[2])
    try:
        return fields.app_name(app)
    except RecordRefused as refusal:
        seen = f"its task {app[:60]!r} is no app name"
        raise UsageError(subject, seen=seen, needed=refusal.needed, next_step="name the app with --app") from refusal


def _main_scorer(log: _Log) -> str | None:
    """The scorer that decides about success: the first that the log names and that its samples have."""
    named: list[Any] = [
        score.get(key) for score in loose.mappings(loose.mapping(log.header, "results"), "scores")[:1] for key in ("scorer", "name")
    ]
    named += [str(scorer.get("name") or "").rpartition("/")[2] for scorer in loose.mappings(log.header["eval"], "scorers")[:1]]
    used = dict.fromkeys(name for scores in log.scores for name in scores)
    known = [name for name in named if isinstance(name, str) and (name in used or not used)]
    return next(iter((*known, *used)), None)


def _notes(log: _Log) -> Iterator[str]:
    results, evaluated = loose.mapping(log.header, "results"), log.header["eval"]
    planned = results.get("total_samples")
    if not isinstance(planned, int):
        ids, epochs = loose.mapping(evaluated, "dataset").get("sample_ids"), loose.mapping(evaluated, "config").get("epochs") or 1
        planned = len(ids) * epochs if isinstance(ids, list) and isinstance(epochs, int) else None
    if planned is not None and planned > log.n_samples:
        yield f"the log holds {log.n_samples:,} of {planned:,} samples; the others left no record and are in no number"
    status = log.header.get("status")
    if status in ("started", "cancelled", "error"):
        yield f"the run did not end well (status {status})"


def _bundle(header: Mapping[str, Any], app: str, *, subject: str) -> ExternalBundle:
    evaluated, plan = loose.mapping(header, "eval"), loose.mapping(header, "plan")
    full_name = str(evaluated["model"]).strip()
    provider, name = provider_of(full_name), full_name.partition("/")[2] or full_name
    params = settings_of(loose.mapping(plan, "config"), but=_RUNNING) | settings_of(
        loose.mapping(evaluated, "model_generate_config"), but=_RUNNING
    )
    params |= settings_of(loose.mapping(evaluated, "model_args"))
    steps = [step for step in loose.mappings(plan, "steps") if isinstance(step, dict)]
    texts = _prompts(steps)
    code = exact({"steps": steps} | {key: evaluated[key] for key in ("task_args", "solver", "solver_args") if evaluated.get(key)})
    contents = {f"{name}.md": text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    if steps:
        contents["plan.json"] = orjson.dumps(code, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    limits = {key: value for key, value in loose.mapping(evaluated, "config").items() if key in _LIMITS and _is_number(value)}
    try:
        spec = BundleSpec(
            app=app,
            name=full_name,
            model=Model(provider=provider, name=name, version=version_of(name), params=params),
            prompts={name: f"{name}.md" for name in texts},
            orchestration=Orchestration(code=("plan.json",) if steps else (), tools=_tools(steps), limits=limits),
            external=("orchestration", "environment"),
        )
    except ValidationError as error:
        seen = f"`eval` and `plan` do not describe a model ({error.error_count()} faults)"
        raise UsageError(subject, seen=seen, needed="an Inspect log") from error
    return ExternalBundle(spec=spec, files=contents)


def _prompts(steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The texts of the plan's steps, named after the solver that has them."""
    found: dict[str, str] = {}
    for number, step in enumerate(steps, start=1):
        solver = as_name(str(step.get("solver") or "").rpartition("/")[2], otherwise="step")
        for key in _TEXTS:
            text = loose.mapping(step, "params").get(key)
            if isinstance(text, str) and text.strip():
                name = solver if key in ("template", solver) else f"{solver}_{key}"
                found[name if name not in found else f"{name}_{number}"] = text
    return found


def _tools(steps: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools that steps name, each once."""
    names = set()
    for step in steps:
        for tool in loose.mappings(loose.mapping(step, "params"), "tools"):
            name = tool.get("name") if isinstance(tool, dict) else None
            if isinstance(name, str) and name.strip():
                names.add(name.rpartition("/")[2].strip() or name)
    return tuple(Tool(name=name) for name in sorted(names))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < fields.MOST


def _records(samples: Callable[[], Iterator[Raw]], run: Run) -> Iterator[Imported | Refused]:
    for number, raw in enumerate(samples(), start=1):
        try:
            sample, content = raw()
            if not isinstance(sample, dict):
                fields.refuse("wrong_type", "sample", fields.type_name(sample), "an object")
            yield Imported(number, number, content, rows(sample, run))
        except RecordRefused as refusal:
            yield Refused(number, number, refusal.reason, str(refusal))
