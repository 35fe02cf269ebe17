"""What a client sends, taken into the log: each span once, and what is known so far of the requests that they belong to.

A request is provisional here (revision 0): this process may not have all of its spans. `settling` puts it together from the log when its
trace has been quiet. So what is kept in memory is of use for the first look only, and may be forgotten at any time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from workbench.errors import RecordRefused, UsageError
from workbench.observability.otlp import aliases, decode
from workbench.observability.otlp.assembly import Assembled, Row, assemble
from workbench.observability.otlp.decode import Unread
from workbench.observability.otlp.facts import facts_of, is_ai
from workbench.observability.otlp.model import Facts, TraceSpan
from workbench.observability.otlp.rows import in_hour_of, request_row
from workbench.observability.otlp.sealing import row_of, sealed, sealed_resource
from workbench.observability.rows import encoded
from workbench.observability.sealing import Sealer

AHEAD = timedelta(days=1)
"""How far a span may begin in the future: clocks differ, by less than this."""
_MOST_KEPT_BYTES = 64 << 20
_MOST_WAITING = 2000
_KEPT_BYTES, _KEPT_TIMES = 2000, 4
"""Roughly what a span takes in memory: so much, and so many times what its attributes take as text."""
_LARGEST_WAITING_BYTES = 16 << 10
_MOST_SPANS_LOOKED_AT = 500
"""Of a trace that this process knows; a longer one is put together when it is quiet only, or each of its spans would cost more."""
_NO_AI = (
    "its trace has, so far, no span of a model, a tool, a retrieval or an agent; "
    "needed: spans in the names of OpenTelemetry GenAI, OpenInference or OpenLLMetry"
)


class Log(Protocol):
    """Where the rows go."""

    def record(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of the spans of one message."""

    n_accepted: int
    refused: tuple[Unread, ...] = ()

    @property
    def n_refused(self) -> int:
        return sum(unread.n for unread in self.refused)

    @property
    def sentence(self) -> str:
        """Why spans were refused; empty when none was."""
        return "; ".join(f"{unread.n} × {unread.reason}: {unread.sentence}" for unread in self.refused)


@dataclass(slots=True)
class _Trace:
    """What this process knows of a trace."""

    spans: dict[str, Facts] = field(default_factory=dict)
    size: int = 0
    begun: dict[str, datetime] = field(default_factory=dict)
    """Start of the first revision of each of its requests."""


class Receiver:
    """Takes messages in.

    Args:
        log: where the rows go; it returns when they are committed.
        sealer: takes out personal data and hashes units.
        clock: what lies more than a day ahead of it is refused.
    """

    def __init__(self, log: Log, sealer: Sealer, *, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._sealer = sealer
        self._clock = clock
        self._traces: OrderedDict[tuple[str, str], _Trace] = OrderedDict()
        self._size = 0
        self._waiting: OrderedDict[tuple[str, str, str], TraceSpan] = OrderedDict()
        """Spans that were refused because nothing told that their trace has to do with a model; that may come, here or elsewhere."""
        self._one_at_a_time = threading.Lock()

    def receive(self, body: bytes, *, is_json: bool, app: str, is_served_here: bool) -> Received:
        """Take in the spans of a message; when it returns they are committed.

        Args:
            body: the message, unpacked.
            is_json: whether it is OTLP's JSON, else protobuf.
            app: whose key it came with: the only app that it may write.
            is_served_here: whether the app's model calls go through a gateway, which has them on record.

        Raises:
            RecordRefused: it is no such message.
            StoreError: the log does not take it; nothing is stored.
        """
        read = decode.from_json if is_json else decode.from_protobuf
        with self._one_at_a_time:
            return self._receive(read, body, app=app, is_served_here=is_served_here)

    def claim(self, traces: Collection[tuple[str, str]], *, is_served_here: Callable[[str], bool]) -> int:
        """Take in what was refused of traces that turned out, at another gateway, to have to do with a model; the number of spans.

        Args:
            traces: by app and id.
            is_served_here: as of `receive`, for an app.

        Raises:
            StoreError: the log does not take it; it may be claimed again.
        """
        with self._one_at_a_time:
            found = [key for key in self._waiting if key[:2] in traces]
            by_app: dict[str, dict[str, list[Facts]]] = {}
            for key in found:
                app, trace_id, _ = key
                with suppress(RecordRefused):
                    facts = self._sealed(self._waiting[key], {}, is_served_here=is_served_here(app))
                    by_app.setdefault(app, {}).setdefault(trace_id, []).append(facts)
            n = sum(self._store(app, fresh, _Refusals(()), is_served_here=is_served_here(app)) for app, fresh in by_app.items())
            for key in found:
                del self._waiting[key]
            return n

    def _receive(self, read: Callable[..., decode.Batch], body: bytes, *, app: str, is_served_here: bool) -> Received:
        batch = read(body, latest_us=round((self._clock() + AHEAD).timestamp() * 1_000_000))
        refused = _Refusals(batch.unread)
        resources: dict[int, Mapping[str, Any]] = {}
        fresh: dict[str, list[Facts]] = {}
        for trace_id, spans in _by_trace(_of_app(batch.spans, app, refused)).items():
            known = self._traces.get((app, trace_id))
            for span in self._with_ai(app, spans, refused, is_known=known is not None):
                try:
                    facts = self._sealed(span, resources, is_served_here=is_served_here)
                except RecordRefused as refusal:
                    refused.add(refusal.reason, str(refusal))
                    continue
                fresh.setdefault(trace_id, []).append(facts)
        n = self._store(app, fresh, refused, is_served_here=is_served_here)
        return Received(n_accepted=n, refused=refused.all)

    def _sealed(self, span: TraceSpan, resources: dict[int, Mapping[str, Any]], *, is_served_here: bool) -> Facts:
        resource = resources.get(id(span.resource))
        if resource is None:
            resource = resources[id(span.resource)] = sealed_resource(span, self._sealer)
        return facts_of(sealed(span, self._sealer, is_served_here=is_served_here, resource=resource))

    def _with_ai(self, app: str, spans: Sequence[TraceSpan], refused: _Refusals, *, is_known: bool) -> list[TraceSpan]:
        """The spans, and those of the trace that were refused before; none where nothing tells that it has to do with a model."""
        keys = [(app, span.trace_id, span.span_id) for span in spans]
        if is_known or any(is_ai(span) for span in spans):
            before = [key for key in self._waiting if key[:2] == keys[0][:2] and key not in keys] if self._waiting else []
            return [*(self._waiting.pop(key) for key in before), *spans]
        for key, span in zip(keys, spans, strict=True):
            refused.add("no_ai", _NO_AI)
            if len(repr(span)) <= _LARGEST_WAITING_BYTES:
                self._waiting[key] = span
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        return []

    def _store(self, app: str, fresh: Mapping[str, Sequence[Facts]], refused: _Refusals, *, is_served_here: bool) -> int:
        """Commit what is new, with the requests as they are known now, and remember it; the number of spans, repeated ones too."""
        spans: list[Row] = []
        requests: list[Row] = []
        after: dict[str, tuple[_Trace, list[tuple[Facts, int]]]] = {}
        n = 0
        for trace_id, found in fresh.items():  # whose request a span is a part of is known as far as it is now; `settling` puts it right
            trace = self._traces.get((app, trace_id)) or _Trace()
            known = trace.spans
            new = [facts for facts in found if not _is_repeated(known.get(facts.span_id), facts)]
            assembled = assemble([*known.values(), *new], app=app) if len(known) <= _MOST_SPANS_LOOKED_AT else ()
            named = {facts.span_id: one.audited or one.request_id for one in assembled for facts in one.spans}
            rows = [row_of(facts, app=app, request_id=named.get(facts.span_id, trace_id)) for facts in new]
            fit = [(facts, row) for facts, row in zip(new, rows, strict=True) if _fits("spans", row, refused)]
            n += len(found) - len(new) + len(fit)
            spans += [row for _, row in fit]
            after[trace_id] = trace, [(facts, _KEPT_BYTES + _KEPT_TIMES * len(row["attributes"])) for facts, row in fit]
            provisional = [request_row(one, revision=0, is_final=False) for one in assembled if fit and _is_shown(one, is_served_here)]
            for row in provisional:
                row["ts_start"] = in_hour_of(trace.begun.setdefault(row["request_id"], row["ts_start"]), row["ts_start"])
            requests += [row for row in provisional if _fits("requests", row, None)]
        if spans:
            self._log.record({"spans": spans, "requests": requests})
        for trace_id, (trace, kept) in after.items():
            self._remember((app, trace_id), trace, kept)
        return n

    def _remember(self, key: tuple[str, str], trace: _Trace, found: Iterable[tuple[Facts, int]]) -> None:
        self._traces.pop(key, None)
        self._size -= trace.size
        for facts, size in found:
            trace.spans[facts.span_id] = facts
            trace.size += size
        self._traces[key] = trace
        self._size += trace.size
        while self._size > _MOST_KEPT_BYTES and self._traces:
            _, forgotten = self._traces.popitem(last=False)
            self._size -= forgotten.size


class _Refusals:
    """Why spans of a message were refused."""

    def __init__(self, unread: Iterable[Unread]) -> None:
        self._found = {one.reason: one for one in unread}

    def add(self, reason: str, sentence: str) -> None:
        known = self._found.get(reason)
        self._found[reason] = Unread(reason, known.sentence if known else sentence, known.n + 1 if known else 1)

    @property
    def all(self) -> tuple[Unread, ...]:
        return tuple(self._found.values())


def _of_app(spans: Iterable[TraceSpan], app: str, refused: _Refusals) -> Iterable[TraceSpan]:
    """Those that do not say that they are another app's."""
    for span in spans:
        named = span.attributes.get(aliases.APP, span.resource.get(aliases.APP))
        if named in (None, app):
            yield span
        else:
            refused.add("other_app", f"{aliases.APP} names another app than {app}, which the API key opens")


def _by_trace(spans: Iterable[TraceSpan]) -> dict[str, list[TraceSpan]]:
    found: dict[str, list[TraceSpan]] = {}
    for span in spans:
        found.setdefault(span.trace_id, []).append(span)
    return found


def _is_repeated(known: Facts | None, facts: Facts) -> bool:
    return known is not None and known.span == facts.span


def _is_shown(request: Assembled, is_served_here: bool) -> bool:
    """Whether it is a request beside those that the gateway has on record; where it may still turn out as one of them, not yet."""
    return request.audited is None and (not is_served_here or any(facts.kind == "model" for facts in request.spans))


def _fits(table: str, row: Row, refused: _Refusals | None) -> bool:
    """Whether the log takes the row."""
    try:
        encoded(table, row)
    except UsageError as fault:
        if refused is not None:
            refused.add("unfit", f"{fault.subject} needs {fault.needed or 'another value'}")
        return False
    return True
