"""One result of promptfoo as log rows. Pure.

Below, *row* is the result, *response* its `response` (or `providerResponse`).

| column | from |
|---|---|
| `request_id` | row `id`; else a digest of run, indices, provider, prompt and variables; in lines that name no run, of the line |
| `ts_start` | the run's: rows carry no time |
| `latency_ms` | row `latencyMs`, else response `latencyMs` |
| unit | digest of the test's `vars` without `sessionId` and names that begin with `_`, so that providers and repeats pair; else `testIdx` |
| `workflow` | `testCase.metadata.workflow`, else `config.description`, else `unassigned` |
| `session_id` | `metadata.sessionId`, `vars.sessionId` |
| `status` | see below |
| `error_type` | HTTP status or code of the error; messages are left out, since they quote |
| tokens | response `tokenUsage` (`completionDetails` are parts of it), else the row's; never `assertions`, which are the judges' |
| `cost_usd` | row `cost`, else response `cost`; 0 although tokens were used means that nobody knows the price |
| `input`, `output` | `prompt.raw`, as JSON where it is; response `output` |

Status: `failureReason` 2 is an error, and so is, in a row without a reason, an `error` of the response or one without any grading:
promptfoo writes the reason of a failed assertion in the same place. Else `finishReason` decides.

An answer from promptfoo's own cache (`cached`) used no tokens, cost nothing and took none of the model's time: these are left empty.

Scores: `success` (row `success`), `score`, and `quality` where all scores of the file lie between 0 and 1 and the test did not break;
`namedScores`; and each assertion of `gradingResult.componentResults`, also of the sets in it, by its `metric` or else its type: of a judge
where a model grades (`llm-rubric`, `factuality`, …), of a person for `human`, else of a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from workbench.observability.importers import completions, fields, loose
from workbench.observability.importers.identity import hashed
from workbench.observability.importers.promptfoo_bundles import Pair, named, pair_of
from workbench.observability.importers.source import Row, Rows

_ERROR = 2
_JUDGES = frozenset(
    ("llm-rubric", "factuality", "g-eval", "answer-relevance", "conversation-relevance", "select-best", "search-rubric", "agent-rubric")
) | frozenset(("pi", "moderation", "classifier"))
_JUDGING = ("context-", "model-graded-", "promptfoo:redteam:", "trajectory:goal")
_LONGEST_TEXT = 4000
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the rows of a file have in common."""

    app: str
    started: datetime
    run_id: str | None
    config: Mapping[str, Any]
    prompts: Sequence[Any]
    bundles: frozenset[str]
    """Names of the pairs that are a bundle."""
    is_share: bool
    """All scores of the file lie between 0 and 1."""


def rows(row: Mapping[str, Any], content: bytes, reading: Reading) -> Rows:
    """One request, with its model call and its scores.

    Raises:
        RecordRefused: when a field that is read has a wrong type.
    """
    response = response_of(row)
    if not response and not row.get("error") and "success" not in row:
        fields.refuse("missing_field", "response", "neither `response`, `error` nor `success`", "a result")
    pair = pair_of(row, reading.prompts)
    test, prompt = fields.count(row, "testIdx"), fields.count(row, "promptIdx")
    request_id = _request_id(row, pair, content, reading.run_id)
    is_cached = bool(response.get("cached"))
    latency_ms = None if is_cached else fields.milliseconds(row, "latencyMs")
    if latency_ms is None and not is_cached:
        latency_ms = fields.milliseconds(response, "latencyMs")
    start = reading.started
    status, error_type = _status(row, response)
    provider, model = named(pair.provider) if pair else (None, None)
    request: Row = {
        "request_id": request_id,
        "revision": 0,
        "is_final": True,
        "app": reading.app,
        "workflow": _workflow(row, reading.config),
        "unit": _unit(row, test, prompt, request_id),
        "arm": "none",
        "bundle": pair.name if pair and pair.name in reading.bundles else None,
        "ts_start": start,
        "ts_end": None if latency_ms is None else _later(start, latency_ms),
        "latency_ms": latency_ms,
        "session_id": fields.text(fields.mapping(row, "metadata"), "sessionId") or fields.text(_vars(row), "sessionId"),
        "trace_id": hashed(request_id)[:32],
        "operation": "chat",
        "provider": provider,
        "model_requested": model,
        "model_served": None,
        "status": status,
        "error_type": error_type,
        "finish_reason": fields.text(response, "finishReason"),
        "input": _input(row),
        "output": response.get("output"),
        "source": "promptfoo",
    }
    request |= {} if is_cached else _usage(row, response)
    output = response.get("output")
    calls = (
        [call for call in output if isinstance(call, dict) and isinstance(call.get("function"), dict)] if isinstance(output, list) else []
    )
    request |= {"n_tool_calls": len(calls) if output is not None else None}
    spans = [_model_span(request), *completions.tool_spans(request, calls)]
    return Rows(requests=[request], spans=spans, scores=list(_scores(row, request, reading.is_share)))


def _request_id(row: Mapping[str, Any], pair: Pair | None, content: bytes, run_id: str | None) -> str:
    named = fields.text(row, "id")
    if named is not None:
        return f"promptfoo-{named}"
    run_id = fields.text(row, "evalId") or run_id
    parts = (run_id, row.get("promptIdx"), row.get("testIdx"), pair.name if pair else None, _vars(row)) if run_id else (content.strip(),)
    return "promptfoo-" + hashed(*parts)[:32]


def _vars(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return fields.mapping(row, "vars") or fields.mapping(fields.mapping(row, "testCase"), "vars")


def _unit(row: Mapping[str, Any], test: int | None, prompt: int | None, request_id: str) -> str:
    """What two providers' answers to one test have in common."""
    values = {key: value for key, value in _vars(row).items() if key != "sessionId" and not key.startswith("_")}
    if values:
        return "vars:" + hashed(written(values))
    return request_id if test is None and prompt is None else f"test:{test}"


def _workflow(row: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    named = fields.text(fields.mapping(fields.mapping(row, "testCase"), "metadata"), "workflow") or loose.text(config.get("description"))
    return (named or "unassigned")[:_LONGEST_NAME]


def _later(start: datetime, latency_ms: float) -> datetime:
    try:
        return start + timedelta(milliseconds=latency_ms)
    except OverflowError:
        fields.refuse("out_of_range", "latencyMs", f"{latency_ms:g} ms", "a duration")


def response_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the provider answered; empty where it did not."""
    return loose.mapping(row, "response") or loose.mapping(row, "providerResponse")


def _status(row: Mapping[str, Any], response: Mapping[str, Any]) -> tuple[str, str | None]:
    reason = row.get("failureReason")
    broke = (
        reason == _ERROR if isinstance(reason, int) else bool(response.get("error") or (row.get("error") and not row.get("gradingResult")))
    )
    if not broke:
        finished = fields.text(response, "finishReason")
        return completions.status(None, completions.Exchange({}, {"output": "made"}, None, None), finished)
    http = loose.mapping(loose.mapping(response, "metadata"), "http").get("status")
    error = response.get("error") or row.get("error") or "error"
    http_status = http if isinstance(http, int) and not isinstance(http, bool) and 100 <= http < 600 else None  # noqa: PLR2004 - HTTP's range
    code = completions.error_code(error) or "error"
    code = f"http_{http_status}" if code == "error" and http_status else code
    return completions.status(None, completions.Exchange({}, {}, {"code": code}, http_status), None)


def _input(row: Mapping[str, Any]) -> Any:
    prompt = row.get("prompt")
    raw = prompt.get("raw") if isinstance(prompt, dict) else prompt
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
    return raw


def _usage(row: Mapping[str, Any], response: Mapping[str, Any]) -> Row:
    usage = fields.mapping(response, "tokenUsage") or fields.mapping(row, "tokenUsage")
    details = fields.mapping(usage, "completionDetails")
    tokens: Row = {
        "input_tokens": fields.count(usage, "prompt"),
        "output_tokens": fields.count(usage, "completion"),
        "reasoning_tokens": fields.count(details, "reasoning"),
        "cache_read_tokens": fields.count(details, "cacheReadInputTokens"),
        "cache_write_tokens": fields.count(details, "cacheCreationInputTokens"),
    }
    cost = fields.cost(row, "cost")
    cost = fields.cost(response, "cost") if cost is None else cost
    return tokens | {"cost_usd": None if cost == 0 and any(tokens.values()) else cost}


def _model_span(request: Row) -> Row:
    span: Row = {key: request[key] for key in ("trace_id", "request_id", "app", "bundle", "ts_start", "status", "error_type", "provider")}
    span |= {key: request.get(key) for key in ("input_tokens", "output_tokens", "reasoning_tokens", "cost_usd")}
    span |= {"span_id": hashed(request["request_id"], "model")[:16], "kind": "model", "name": "chat"}
    return span | {"duration_ms": request["latency_ms"], "model": request["model_requested"]}


def _scores(row: Mapping[str, Any], request: Row, is_share: bool) -> Iterator[Row]:
    at = (request["ts_end"] or request["ts_start"]).astimezone(UTC)
    found: dict[str, Row] = {}
    whole: Row = {"scorer_id": "promptfoo", "source": "rule"}
    graded = fields.mapping(row, "gradingResult")
    success, score = fields.flag(row, "success"), fields.number(row, "score")
    if success is not None:
        reason = graded.get("reason")
        found["success"] = whole | {"value": float(success), "explanation": reason[:_LONGEST_TEXT] if isinstance(reason, str) else None}
    if score is not None:
        found["score"] = whole | {"value": score}
        if is_share and 0 <= score <= 1 and request["status"] == "ok":
            found["quality"] = whole | {"value": score}
    for component in _components(graded):
        kind = str(loose.mapping(component, "assertion").get("type") or "assertion")
        name = (loose.text(loose.mapping(component, "assertion").get("metric")) or kind)[:_LONGEST_NAME]
        number = sum(known == name or known.startswith(f"{name} #") for known in found)
        found[f"{name} #{number + 1}" if number else name] = _assertion(component, kind)
    for name, value in fields.mapping(row, "namedScores").items():
        if name[:_LONGEST_NAME] not in found:
            found[name[:_LONGEST_NAME] or "unnamed"] = whole | {"value": fields.number({"namedScores": value}, "namedScores")}
    for name, values in found.items():
        yield {"request_id": request["request_id"], "score_id": f"{request['request_id']}:{name}", "name": name, "ts": at} | values


def _components(graded: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The single assertions, those of a set in its place."""
    waiting = [*reversed(fields.items(graded, "componentResults"))]
    found: list[Mapping[str, Any]] = []
    while waiting:
        component = waiting.pop()
        if isinstance(component, dict):
            inner = component.get("componentResults")
            if isinstance(inner, list) and inner:
                waiting += reversed(inner)
            else:
                found.append(component)
    return found


def _assertion(component: Mapping[str, Any], kind: str) -> Row:
    passed, score, reason = fields.flag(component, "pass"), fields.number(component, "score"), component.get("reason")
    plain = kind.removeprefix("not-")
    source = "human" if plain == "human" else "judge" if plain in _JUDGES or plain.startswith(_JUDGING) else "rule"
    return {
        "value": score if score is not None else None if passed is None else float(passed),
        "label": None if passed is None else "pass" if passed else "fail",
        "scorer_id": f"promptfoo:{kind[:_LONGEST_NAME]}",
        "source": source,
        "explanation": reason[:_LONGEST_TEXT] if isinstance(reason, str) and reason else None,
    }


def written(row: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a row.

    Raises:
        RecordRefused: when it is nested too deeply to be stored.
    """
    try:
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        fields.refuse("too_deep", "result", "nested too deeply to be stored", "at most 250 levels")
