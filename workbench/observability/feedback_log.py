"""Telling the log what happened after an answer, as it comes. Files of such events come by `event_import`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from workbench.errors import RecordRefused, UsageError, WorkbenchError
from workbench.ledger.authority import Author, Authority
from workbench.observability.feedback import KINDS, Kind, Told
from workbench.observability.logs import Known
from workbench.observability.sealing import Sealer
from workbench.observability.spool import wait_until_committed
from workbench.observability.unmatched import unread_note

MOST_AT_ONCE = 1000
"""Events in one telling; more of them are a file."""


class EventLog(Protocol):
    """What telling single events needs of the log; `logs.Logs` is one."""

    def submit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Future[None]: ...

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> Known: ...


class Accepted(NamedTuple):
    """Events on their way into the log."""

    ids: tuple[str, ...]
    """Of each event, as the log knows it."""
    committed: Future[None]
    """Done when they survive this process."""


class Feedback:
    """What happened after an answer, written.

    Args:
        logs: where events go.
        sealer: takes personal data out of them and replaces units by their hash.
        authority: says whether the author may `log.record` for an app.
        author: who acts when a verb names nobody.
        clock: the time of events that name none.
        outcomes_read: the outcomes that something of an app reads.
    """

    def __init__(
        self,
        logs: EventLog,
        *,
        sealer: Sealer,
        authority: Authority,
        author: Author,
        clock: Callable[[], datetime],
        outcomes_read: Callable[[str], Collection[str]] = lambda _app: (),
    ) -> None:
        self._logs = logs
        self._sealer = sealer
        self._authority = authority
        self._author = author
        self._clock = clock
        self._outcomes_read = outcomes_read

    def notes(self, app: str, *, request_id: str | None = None, kpi: str | None = None) -> tuple[str, ...]:
        """What of an event's names nothing here knows, one sentence each: a request that is not in the log, an outcome that nothing reads.

        The event is stored by then, so a log that cannot be read is a sentence, too.

        Args:
            app: whose event it is.
            request_id: of the request that it names.
            kpi: the name of an outcome.
        """
        notes = []
        try:
            if request_id is not None and not self._logs.known_requests([(app, request_id)]).requests:
                notes.append(f"no request {request_id} of {app} is in the log yet; it counts when that comes")
            if kpi is not None and kpi not in (read := self._outcomes_read(app)):
                notes.append(unread_note(app, kpi, read))
        except WorkbenchError as fault:
            notes.append(f"whether anything knows its names is not known: {fault}")
        return tuple(notes)

    def accept(self, kind: str, app: str, events: Sequence[Any]) -> Accepted:
        """The events queued, for an edge that knows by its key which app may tell them; all of them or none.

        Args:
            kind: `scores` or `outcomes`.
            app: whose they are.
            events: objects with the fields of `feedback`, at most `MOST_AT_ONCE`.

        Raises:
            RecordRefused: an event is none; its place and field are named, and nothing is stored.
            StoreError: the log takes no more.
        """
        if not 0 < len(events) <= MOST_AT_ONCE:
            raise RecordRefused("events", reason="bad_count", seen=f"{len(events)} events", needed=f"1 to {MOST_AT_ONCE}")
        now = self._clock()
        told = [_told(KINDS[kind], event, place, app=app, now=now) for place, event in enumerate(events)]
        for event in told:
            self._sealer.event(kind, event.row)
        committed = self._logs.submit({kind: [event.row for event in told]})
        return Accepted(tuple(event.event_id for event in told), committed)

    def score(self, app: str, request_id: str, name: str, *, actor: Author | None = None, **about: Any) -> str:
        """The id of a judgement of a request, which is in the log when this returns.

        Args:
            app: whose request it is.
            request_id: as the gateway's header `x-request-id` and the log name it.
            name: of the score, for example `helpful`.
            actor: who tells it; by default who acts here.
            about: `value` or `label`, and what else `feedback.SCORE_FIELDS` names.

        Raises:
            UsageError: something of it is malformed; nothing is stored.
            NotPermitted: the actor may not record for the app.
        """
        return self._record("scores", app, {"request_id": request_id, "name": name, **about}, actor)

    def outcome(self, app: str, kpi: str, *, actor: Author | None = None, **about: Any) -> str:
        """The id of a business event, which is in the log when this returns.

        Args:
            app: whose KPI it is.
            kpi: the event's name, as `outcome` of a KPI in app.yaml has it.
            actor: as of `score`.
            about: one of `request_id`, `session_id` and `unit`, and what else `feedback.OUTCOME_FIELDS` names.

        Raises:
            UsageError: something of it is malformed; nothing is stored.
            NotPermitted: the actor may not record for the app.
        """
        return self._record("outcomes", app, {"kpi": kpi, **about}, actor)

    def _record(self, kind: str, app: str, event: Mapping[str, Any], actor: Author | None) -> str:
        self._authority.require(actor or self._author, "log.record", app)
        try:
            accepted = self.accept(kind, app, [{name: value for name, value in event.items() if value is not None}])
        except RecordRefused as refusal:
            subject = refusal.subject.removeprefix("events[0].")
            raise UsageError(f"{kind[:-1]} of {app}: {subject}", seen=refusal.seen, needed=refusal.needed) from refusal
        wait_until_committed(accepted.committed)
        return accepted.ids[0]


def _told(kind: Kind, event: Any, place: int, *, app: str, now: datetime) -> Told:
    if not isinstance(event, Mapping):
        raise RecordRefused(f"events[{place}]", reason="wrong_type", seen="no object", needed=f"an object with {', '.join(kind.fields)}")
    try:
        return kind.told(event, app=app, own_id=f"ev_{secrets.token_hex(12)}", now=now)
    except RecordRefused as refusal:
        subject = f"events[{place}].{refusal.subject}"
        raise RecordRefused(subject, reason=refusal.reason, seen=refusal.seen, needed=refusal.needed) from None
