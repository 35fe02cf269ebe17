"""Chat completion logs: one JSON object per line, in one of three shapes.

1. A pair: `{"request": {…}, "response": {…}, …}` with the provider's request and response bodies.
2. A flat record: the response itself (`model`, `choices`, `usage`, `created`), with `messages` and the rest beside it.
3. A line of an OpenAI Batch output file: `{"custom_id": …, "response": {"status_code", "body"}, "error": …}`.

Below, *line* is the outer object, *request* and *response* are the bodies (in a flat record both are the line). Where several
keys are named, the first that is present counts. Unknown keys are ignored. A key that is present has the right type or the line is refused.

| column | keys |
|---|---|
| `request_id` | line `request_id`, `id`, `custom_id`; response `id`; else a digest of the line |
| `ts_start` | line `timestamp`, `ts_start`, `start_time`, `created`; response `created`: ISO 8601 with a zone, or unix seconds |
| `ts_end` | line `ts_end`, `end_time`; else start + latency |
| `latency_ms` | line `latency_ms`, `duration_ms`; else end - start |
| `ttft_ms` | line `ttft_ms`, `time_to_first_token_ms` |
| `app` | line `app`, `metadata.app`; else the import's app |
| `workflow` | line `workflow`, `metadata.workflow`; else `unassigned` |
| `session_id` | line `session_id`, `metadata.session` |
| unit | line `unit`, `metadata.unit`; request `safety_identifier`, `user` |
| `bundle`, `arm`, `traffic_share`, `release_id`, `trace_id` | line, `metadata` |
| `provider` | line `provider` |
| `model_requested`, `model_served` | request `model`; response `model` |
| `status` | line `status` (a status, a usual synonym, an HTTP code); else from `error`, `response.status_code` and `finish_reason` |
| `error_type` | `error.code`, `error.type`, `error` when it is a short code |
| `finish_reason` | response `choices[].finish_reason`, of the first choice |
| `is_fallback`, `attempts`, `n_tool_errors`, `n_retrievals` | line |
| `n_tool_calls` | line; else the tool calls in `choices[].message.tool_calls` |
| tokens | response `usage.prompt_tokens` or `input_tokens`, `completion_tokens` or `output_tokens`; cached and reasoning (below) |
| `cost_usd` | line `cost_usd` |
| `input`, `output` | request `messages`, `input` or `prompt`; response `choices[].message` (or `text`), or `output` |
| scores | line `scores`: `{name: number, true, false, or {value, label, explanation, source}}`; line `feedback` as a user's score |

Cached and reasoning tokens come from `…_tokens_details`; they are parts of the totals and never added to them.
`metadata` is the line's or the request's. `finish_reason` `length` means `truncated`, `content_filter` means `blocked`. A request without
a bundle is stored under the import's, else without one. The tool calls that a response asks for become spans.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import completions, fields, files
from workbench.observability.importers.source import Block, Imported, ImportOptions, Refused, Row, Rows, Source

_START = ("timestamp", "ts_start", "start_time", "created")
_END = ("ts_end", "end_time")
_ARMS = ("stable", "candidate", "shadow", "none")
_SCORE_SOURCES = ("rule", "judge", "human", "user")
_THUMBS = {"up": 1.0, "positive": 1.0, "good": 1.0, "like": 1.0, "down": 0.0, "negative": 0.0, "bad": 0.0, "dislike": 0.0}
_LONGEST_EXPLANATION = 4000


class OpenAiJsonl:
    """The importer of chat completion logs."""

    name = "openai-jsonl"
    summary = "chat completion logs and OpenAI Batch output, one JSON object per line"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The log as a source.

        Raises:
            UsageError: when no line at its start is a JSON object.
        """
        head = files.checked_head(path, subject=str(path))
        _check_lines(head, path)
        settings = {"app": options.app, "zone": options.zone.key if options.zone else None}
        total = path.stat().st_size
        return Source(
            path=path,
            digest=files.sha256_of(path),
            settings=settings,
            total=total,
            records=partial(_records, path, options),
            blocks=partial(_blocks, path, options),
            app=options.app,
        )


def _check_lines(head: bytes, path: Path) -> None:
    """Some line in the head is an object, or the first line is longer than the head and starts like one."""
    if _is_array(head):
        step = f"turn it into lines: jq -c '.[]' {shlex.quote(str(path))} > lines.jsonl"
        raise UsageError(str(path), seen="one JSON array", needed="one JSON object per line", next_step=step)
    some = [line for line in map(bytes.strip, head.split(b"\n")) if line]
    is_one_long_line = len(some) == 1 and some[0][:1] == b"{" and path.stat().st_size > len(head)
    if not some or is_one_long_line or any(_is_object(line) for line in some):
        return
    kind = files.looks_like(head)
    seen = f"no line is a JSON object; the file looks like {kind}" if kind else "no line is a JSON object"
    raise UsageError(str(path), seen=seen, needed="one JSON object per line", next_step=files.hint_at(head, wanted="openai-jsonl"))


def _is_array(head: bytes) -> bool:
    """The file is one array, in one line or in many; not a list on a line of its own among other lines."""
    first, _, rest = head.lstrip().partition(b"\n")
    if first[:1] != b"[":
        return False
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return True
    return not rest.strip()


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _records(path: Path, options: ImportOptions) -> Iterator[Imported | Refused]:
    with path.open("rb") as file:
        yield from _read(files.lines_of(file), options.app, options.zone)


def _blocks(path: Path, options: ImportOptions) -> Iterator[Block]:
    with path.open("rb") as file:
        for lines in files.blocks_of(files.lines_of(file)):
            yield partial(_read, lines, options.app, options.zone)


def _read(lines: Iterable[files.Line], app: str | None, zone: ZoneInfo | None) -> Iterator[Imported | Refused]:
    for number, done, line in lines:
        try:
            record = files.object_of(line)
            yield Imported(number, done, hash(line), rows(record, line or b"", app=app, zone=zone))
        except RecordRefused as refusal:
            yield Refused(number, done, refusal.reason, str(refusal))


def rows(record: Mapping[str, Any], line: bytes, *, app: str | None, zone: ZoneInfo | None) -> Rows:
    """The request of one line, with the tool calls and scores it carries.

    Raises:
        RecordRefused: when a key that is read has a wrong type, or the record contradicts itself.
    """
    exchange = completions.exchange_of(record)
    meta = fields.mapping(record, "metadata") or fields.mapping(exchange.request, "metadata")
    start, end, latency_ms = _times(record, exchange.response, zone)
    request = _request(record, exchange, meta, app)
    request_id = _first(record, "request_id", "id", "custom_id") or _first(exchange.response, "id")
    request["request_id"] = request_id = request_id or "line-" + hashlib.sha256(line.strip()).hexdigest()[:32]
    request["ts_start"], request["ts_end"], request["latency_ms"] = start, end, latency_ms
    calls = completions.tool_calls(exchange.response)
    n_calls = fields.count(record, "n_tool_calls")
    request["n_tool_calls"] = n_calls if n_calls is not None else len(calls) if exchange.response else None
    spans = completions.tool_spans(request, calls) if calls else []
    scores = _scores(record, request_id, end or start) if "scores" in record or "feedback" in record else []
    return Rows(requests=[request], spans=spans, scores=scores)


def _first(record: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        if key in record:
            value = fields.text(record, key)
            if value is not None:
                return value
    return None


def _present(record: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of the keys that has a value."""
    for key in keys:
        if record.get(key) is not None:
            return key
    return None


def _times(record: Mapping[str, Any], response: Mapping[str, Any], zone: ZoneInfo | None) -> tuple[datetime, datetime | None, float | None]:
    start_key = _present(record, _START)
    value = record[start_key] if start_key else response.get("created")
    if value is None:
        fields.refuse("missing_field", "timestamp", "no start time", "`timestamp` (ISO 8601 with a zone) or `created` (unix seconds)")
    start = fields.moment(value, start_key or "response.created", zone)
    latency_ms = fields.milliseconds(record, "latency_ms")
    if latency_ms is None:
        latency_ms = fields.milliseconds(record, "duration_ms")
    end_key = _present(record, _END)
    if end_key is None:
        return start, None if latency_ms is None else _later(start, latency_ms), latency_ms
    end = fields.moment(record[end_key], end_key, zone)
    if end < start:
        fields.refuse("end_before_start", end_key, f"{(start - end).total_seconds():g} s before the start", "an end after the start")
    return start, end, latency_ms if latency_ms is not None else (end - start).total_seconds() * 1000


def _later(start: datetime, latency_ms: float) -> datetime:
    try:
        return start + timedelta(milliseconds=latency_ms)
    except OverflowError:
        fields.refuse("out_of_range", "latency_ms", f"{latency_ms:g} ms", "a duration")


def _request(record: Mapping[str, Any], exchange: completions.Exchange, meta: Mapping[str, Any], app: str | None) -> Row:
    request, response = exchange.request, exchange.response
    finish_reason = completions.finish_reason(response)
    status, error_type = completions.status(record.get("status"), exchange, finish_reason)
    app = _first(record, "app") or (_first(meta, "app") if meta else None) or app
    if app is None:
        fields.refuse("missing_app", "app", "no app in the record", "`app`", "or name the app of the file with --app")
    row: Row = {
        "revision": 0,
        "is_final": True,
        "app": app,
        "workflow": _first(record, "workflow") or "unassigned",
        "session_id": _first(record, "session_id"),
        "unit": _first(record, "unit") or (_first(meta, "unit") if meta else None) or _first(request, "safety_identifier", "user"),
        "arm": "none",
        "trace_id": None,
        "bundle": None,
        "operation": "chat",
        "model_requested": fields.text(request, "model"),
        "model_served": fields.text(response, "model"),
        "status": status,
        "error_type": error_type,
        "finish_reason": finish_reason,
        "input": completions.input_of(request),
        "output": completions.output_of(response),
        "source": OpenAiJsonl.name,
    }
    if meta:
        _fill_from_metadata(row, record, meta)
    for key, (column, read) in _OPTIONAL.items():
        if key in record:
            value = read(record, key)
            if value is not None:
                row[column] = value
    row.update(completions.tokens(response))
    return row


def _fill_from_metadata(row: Row, record: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """What the line itself does not say."""
    if record.get("workflow") is None:
        row["workflow"] = _first(meta, "workflow") or "unassigned"
    row["session_id"] = row["session_id"] or _first(meta, "session", "session_id")
    for key in ("bundle", "arm", "release_id", "trace_id"):
        value = _OPTIONAL[key][1](meta, key)
        if value is not None:
            row[key] = value


def _arm(record: Mapping[str, Any], key: str) -> str | None:
    value = fields.text(record, key)
    return value if value is None else _one_of(value, key, _ARMS)


_OPTIONAL: Mapping[str, tuple[str, Callable[[Mapping[str, Any], str], Any]]] = {
    **{key: (key, fields.text) for key in ("provider", "bundle", "release_id", "trace_id")},
    **{key: (key, fields.count) for key in ("attempts", "n_tool_errors", "n_retrievals")},
    "arm": ("arm", _arm),
    "cost_usd": ("cost_usd", fields.cost),
    "traffic_share": ("traffic_share", fields.share),
    "is_fallback": ("is_fallback", fields.flag),
    "time_to_first_token_ms": ("ttft_ms", fields.milliseconds),
    "ttft_ms": ("ttft_ms", fields.milliseconds),
}


def _one_of(value: str, field: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        fields.refuse("unknown_value", field, "another value", ", ".join(allowed))
    return value


def _scores(record: Mapping[str, Any], request_id: str, at: datetime) -> list[Row]:
    rows = []
    for name, value in fields.mapping(record, "scores").items():
        rows.append(_score(name, value, default_source="rule"))
    if record.get("feedback") is not None:
        rows.append(_score("feedback", record["feedback"], default_source="user"))
    base = {"request_id": request_id, "ts": at.astimezone(UTC)}
    return [base | {"score_id": f"{request_id}:{row['name']}", "scorer_id": f"log:{row['name']}"} | row for row in rows]


def _score(name: str, value: Any, *, default_source: str) -> Row:
    entry: Mapping[str, Any] = value if isinstance(value, Mapping) else {"value": value}
    number = entry.get("value", entry.get("score", entry.get("rating")))
    label = fields.text(entry, "label")
    if isinstance(number, str):
        label, number = label or number, _THUMBS.get(number.lower())
    elif isinstance(number, bool):
        number = float(number)
    explanation = next((entry[key] for key in ("explanation", "comment") if isinstance(entry.get(key), str)), None)
    if number is None and label is None and explanation is None:
        fields.refuse("missing_field", "scores", "a score without value and label", "a number, true, false or a label")
    return {
        "name": name[:200] or "unnamed",
        "value": fields.number({"scores": number}, "scores"),
        "label": label,
        "source": _one_of(fields.text(entry, "source") or default_source, "scores.source", _SCORE_SOURCES),
        "explanation": explanation[:_LONGEST_EXPLANATION] if explanation else None,
    }
