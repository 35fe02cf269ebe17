"""Run files of tau2-bench: simulated conversations of a tool-calling agent. One simulation is one request.

What is read of a run file (`{"info": …, "simulations": […]}`):

- the app is `info.environment_info.domain_name`, the workflow the bracketed start of the task id (`[mobile_data_issue]…`) or else the
  domain, the unit the task id: two runs of the same tasks pair by unit;
- latency is `duration` (s), or else `end_time - start_time`; times carry no zone and are read in the zone given, else as UTC;
- `user_stop` and `agent_stop` are `ok`, `max_steps` is `truncated`, `too_many_errors` is `error`, any other ending is `unknown`;
- tool calls and their errors are the agent's own (`requestor: assistant`); the simulated user's tools are part of the environment;
- tokens are summed over the agent's messages that carry `usage`; none at all is missing, not 0;
- `agent_cost` of 0 although tokens were used means that the model has no price: cost is missing, not free;
- `reward_info.reward` becomes the scores `reward` and `success` (1.0 from a reward of 1 on).

The agent becomes a bundle known only from this log: model, its arguments, policy text, tools and limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from pydantic import ValidationError

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import fields, files, loose
from workbench.observability.importers.identity import hashed, provider_of, version_of
from workbench.observability.importers.source import ExternalBundle, Imported, ImportOptions, Refused, Row, Rows, Source
from workbench.spec.bundle import BundleSpec, Model, Orchestration, Tool

_STATUS = {"user_stop": "ok", "agent_stop": "ok", "max_steps": "truncated", "too_many_errors": "error"}
_BRACKETED = re.compile(r"\[([^\[\]]+)\]")
_APP = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NO_ZONE = "times carry no zone and were read as UTC; say --zone if the runs were made elsewhere"


class Tau2:
    """The importer of tau2 run files."""

    name = "tau2"
    summary = "run files of tau2-bench (one JSON document with `simulations`)"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The run file as a source.

        Raises:
            UsageError: when it is not a tau2 run file, or its domain is no usable app name and none was given.
        """
        run = _loaded(path)
        info = run["info"]
        app = options.app or str(loose.mapping(info, "environment_info").get("domain_name") or "")
        if not _APP.fullmatch(app):
            needed = "lower-case letters, digits, _ and -"
            raise UsageError(str(path), seen=f"the domain {app!r} is no app name", needed=needed, next_step="name the app with --app")
        settings = {"app": app, "zone": options.zone.key if options.zone else None}
        bundle = _bundle(info, app, subject=str(path))
        reading = _Reading(
            run_id=_run_id(run), app=app, provider=bundle.spec.model.provider, model=bundle.spec.model.name, zone=options.zone
        )
        simulations = run["simulations"]
        if not simulations:
            raise files.no_records(str(path), "`simulations` is empty")
        has_zone = options.zone is not None or any(_carries_zone(simulation) for simulation in simulations[:1])
        return Source(
            path=path,
            digest=files.sha256_of(path),
            settings=settings,
            total=len(simulations),
            records=partial(_records, simulations, reading.rows),
            app=app,
            bundle=bundle,
            notes=() if has_zone else (NO_ZONE,),
        )


def _loaded(path: Path) -> dict[str, Any]:
    head = files.checked_head(path, subject=str(path))
    hint = files.hint_at(head, wanted="tau2")
    try:
        run = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        seen = f"not one JSON document (line {error.lineno}, column {error.colno})"
        raise UsageError(str(path), seen=seen, needed="a tau2 run file", next_step=hint) from error
    if not isinstance(run, dict) or not isinstance(run.get("simulations"), list) or not isinstance(run.get("info"), dict):
        raise UsageError(str(path), seen="JSON without `info` and `simulations`", needed="a tau2 run file", next_step=hint)
    return run


def _run_id(run: Mapping[str, Any]) -> str:
    """What tells one run from another: when it started, and its whole set-up."""
    return hashed(orjson.dumps([run.get("timestamp"), run["info"]], option=orjson.OPT_SORT_KEYS).decode())


def _bundle(info: Mapping[str, Any], app: str, *, subject: str) -> ExternalBundle:
    agent, environment = loose.mapping(info, "agent_info"), loose.mapping(info, "environment_info")
    name = agent.get("llm")
    if not isinstance(name, str) or not name:
        raise UsageError(subject, seen="`info.agent_info.llm` is missing", needed="the agent's model name")
    policy = environment.get("policy")
    texts = {"policy.md": policy.encode()} if isinstance(policy, str) and policy else {}
    try:
        spec = BundleSpec(
            app=app,
            name=name,
            model=Model(provider=provider_of(name), name=name, version=version_of(name), params=dict(loose.mapping(agent, "llm_args"))),
            prompts=dict.fromkeys(("policy",) if texts else (), "policy.md"),
            orchestration=Orchestration(tools=_tools(environment.get("tool_defs")), limits=_limits(info)),
            external=("orchestration", "environment"),
        )
    except ValidationError as error:
        raise UsageError(
            subject, seen=f"`info` does not describe an agent ({error.error_count()} faults)", needed="a tau2 run file"
        ) from error
    return ExternalBundle(spec=spec, files=texts)


def _limits(info: Mapping[str, Any]) -> dict[str, int | float]:
    return {
        key: info[key] for key in ("max_steps", "max_errors") if isinstance(info.get(key), (int, float)) and not isinstance(info[key], bool)
    }


def _tools(definitions: Any) -> tuple[Tool, ...]:
    """The tools of `tool_defs`, which is absent, a list of OpenAI tool schemas, or a mapping of them by name."""
    entries = list(definitions.values()) if isinstance(definitions, dict) else definitions if isinstance(definitions, list) else []
    found = []
    for entry in entries:
        function = entry.get("function", entry) if isinstance(entry, dict) else {}
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            parameters = loose.mapping(function, "parameters")
            found.append(Tool(name=function["name"], description=str(function.get("description") or ""), parameters=dict(parameters)))
    return tuple(sorted(found, key=lambda tool: tool.name))


def _carries_zone(simulation: Any) -> bool:
    start = simulation.get("start_time") if isinstance(simulation, dict) else None
    try:
        return isinstance(start, str) and datetime.fromisoformat(start).tzinfo is not None
    except ValueError:
        return False


def _records(simulations: list[Any], rows: Callable[[Mapping[str, Any]], Rows]) -> Iterator[Imported | Refused]:
    for number, simulation in enumerate(simulations, start=1):
        try:
            if not isinstance(simulation, dict):
                fields.refuse("wrong_type", f"simulations[{number - 1}]", fields.type_name(simulation), "an object")
            content = hash(orjson.dumps(simulation, option=orjson.OPT_SORT_KEYS))
            yield Imported(number, number, content, rows(simulation))
        except RecordRefused as refusal:
            yield Refused(number, number, refusal.reason, str(refusal))


class _Reading:
    """Turns one simulation of one run into rows."""

    def __init__(self, *, run_id: str, app: str, provider: str, model: str, zone: ZoneInfo | None) -> None:
        self._run_id = run_id
        self._app = app
        self._provider = provider
        self._model = model
        self._zone = zone or ZoneInfo("UTC")

    def rows(self, simulation: Mapping[str, Any]) -> Rows:
        """One request, its spans and its scores.

        Raises:
            RecordRefused: when a field has a wrong type or contradicts another.
        """
        task_id, simulation_id = fields.text(simulation, "task_id"), fields.text(simulation, "id")
        if task_id is None:
            fields.refuse("missing_field", "task_id", "nothing", "the task's id")
        request_id = "tau2-" + hashed(self._run_id, task_id, fields.count(simulation, "trial") or 0, simulation_id)[:32]
        start = fields.moment(simulation.get("start_time"), "start_time", self._zone)
        end, latency_ms = self._end(simulation, start)
        messages = [message for message in fields.items(simulation, "messages") if isinstance(message, dict)]
        request = self._request(simulation, messages, request_id=request_id, task_id=task_id)
        request |= {"ts_start": start, "ts_end": end, "latency_ms": latency_ms, "session_id": simulation_id}
        spans = self._spans(request, messages)
        calls = [span for span in spans if span["kind"] == "tool"]
        request |= {"n_tool_calls": len(calls), "n_tool_errors": sum(span["status"] == "error" for span in calls)}
        return Rows(requests=[request], spans=spans, scores=_scores(simulation, request_id, end))

    def _end(self, simulation: Mapping[str, Any], start: datetime) -> tuple[datetime, float]:
        seconds = fields.number(simulation, "duration")
        if seconds is not None and seconds < 0:
            fields.refuse("negative_latency", "duration", f"{seconds:g} s", "0 or more")
        if simulation.get("end_time") is not None:
            end = fields.moment(simulation["end_time"], "end_time", self._zone)
            if end < start:
                fields.refuse(
                    "end_before_start", "end_time", f"{(start - end).total_seconds():g} s before start_time", "an end after the start"
                )
            return end, seconds * 1000 if seconds is not None else (end - start).total_seconds() * 1000
        if seconds is None:
            fields.refuse("missing_field", "end_time", "neither `end_time` nor `duration`", "one of them")
        return start + timedelta(seconds=seconds), seconds * 1000

    def _request(self, simulation: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], *, request_id: str, task_id: str) -> Row:
        ending = fields.text(simulation, "termination_reason")
        status = _STATUS.get(ending or "", "unknown")
        bracketed = _BRACKETED.match(task_id)
        input_tokens, output_tokens = _tokens(messages, "prompt_tokens"), _tokens(messages, "completion_tokens")
        cost = fields.cost(simulation, "agent_cost")
        spoken = _transcript(messages)
        answer = next((index for index in range(len(spoken) - 1, -1, -1) if spoken[index]["role"] == "assistant"), None)
        return {
            "request_id": request_id,
            "revision": 0,
            "is_final": True,
            "app": self._app,
            "workflow": bracketed[1] if bracketed else self._app,
            "unit": task_id,
            "arm": "none",
            "trace_id": hashed(request_id)[:32],
            "operation": "invoke_agent",
            "provider": self._provider,
            "model_requested": self._model,
            "model_served": self._model,
            "status": status,
            "error_type": None if status == "ok" else ending or "no_termination_reason",
            "finish_reason": ending,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost_usd": None if cost == 0 and (input_tokens or output_tokens) else cost,
            "input": spoken if answer is None else spoken[:answer],
            "output": None if answer is None else spoken[answer:],
            "source": "tau2",
        }

    def _spans(self, request: Row, messages: Sequence[Mapping[str, Any]]) -> list[Row]:
        """The conversation as one agent span, with a model span per generated message and a tool span per call."""
        root_id = hashed(request["request_id"], "agent")[:16]
        base = {key: request[key] for key in ("trace_id", "request_id", "app")}
        root = base | {"span_id": root_id, "kind": "agent", "name": "simulation", "ts_start": request["ts_start"]}
        spans = [root | {"duration_ms": request["latency_ms"], "status": request["status"]}]
        results = {message.get("id"): message for message in messages if message.get("role") == "tool"}
        before = request["ts_start"]
        for turn, message in enumerate(messages):
            at = self._time_of(message, before)
            if message.get("role") == "assistant":
                span_id = hashed(request["request_id"], turn)[:16]
                if message.get("usage") is not None:
                    spans.append(base | self._model_span(message, span_id, root_id, before, at))
                for index, call in enumerate(fields.items(message, "tool_calls")):
                    if isinstance(call, dict) and call.get("requestor", "assistant") == "assistant":
                        child = {"span_id": hashed(span_id, index)[:16], "parent_span_id": root_id}
                        spans.append(base | child | self._tool_span(call, results.get(call.get("id")), at))
            before = at
        return spans

    def _time_of(self, message: Mapping[str, Any], before: datetime) -> datetime:
        """When a message was complete; a message without a time stands where the one before it stood."""
        return fields.moment(message["timestamp"], "messages.timestamp", self._zone) if message.get("timestamp") is not None else before

    def _model_span(self, message: Mapping[str, Any], span_id: str, parent: str, start: datetime, end: datetime) -> Row:
        tokens = (
            {column: fields.count(message["usage"], key) for column, key in _TOKEN_COLUMNS} if isinstance(message["usage"], dict) else {}
        )
        cost = fields.cost(message, "cost")
        return {
            "span_id": span_id,
            "parent_span_id": parent,
            "kind": "model",
            "name": "chat",
            "ts_start": min(start, end),
            "duration_ms": max(0.0, (end - start).total_seconds() * 1000),
            "status": "ok",
            "provider": self._provider,
            "model": self._model,
            "cost_usd": None if cost == 0 and any(tokens.values()) else cost,
            **tokens,
        }

    def _tool_span(self, call: Mapping[str, Any], result: Mapping[str, Any] | None, at: datetime) -> Row:
        name = fields.text(call, "name") or "unnamed"
        end = self._time_of(result, at) if result else None
        return {
            "kind": "tool",
            "name": name,
            "ts_start": at,
            "duration_ms": max(0.0, (end - at).total_seconds() * 1000) if end else None,
            "status": "unknown" if result is None else "error" if result.get("error") else "ok",
            "tool_name": name,
            "tool_call_id": fields.text(call, "id"),
            "tool_arguments": call.get("arguments"),
            "tool_result": result.get("content") if result else None,
            "side_effect": "unknown",
        }


_TOKEN_COLUMNS = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))


def _tokens(messages: Sequence[Mapping[str, Any]], key: str) -> int | None:
    """The sum over the agent's messages; None when none of them says."""
    counts = [
        fields.count(message["usage"], key)
        for message in messages
        if message.get("role") == "assistant" and isinstance(message.get("usage"), dict)
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _transcript(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was said and called, without bookkeeping."""
    kept = ("role", "content", "tool_calls", "id", "requestor", "error")
    return [{key: message[key] for key in kept if message.get(key) is not None} | {"role": message.get("role")} for message in messages]


def _scores(simulation: Mapping[str, Any], request_id: str, at: datetime) -> list[Row]:
    reward = fields.number(fields.mapping(simulation, "reward_info"), "reward")
    if reward is None:
        return []
    base = {"request_id": request_id, "scorer_id": "tau2:reward", "source": "rule", "ts": at.astimezone(UTC)}
    values = {"reward": reward, "success": 1.0 if reward >= 1 else 0.0}
    return [base | {"score_id": f"{request_id}:{name}", "name": name, "value": value} for name, value in values.items()]
