"""What the gateway stands on, as far as it needs it. `server` puts the real parts in; tests put others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, Unpack

from workbench.controls.admission import About
from workbench.controls.events import Finished, TextPart, ToolPart
from workbench.controls.model import Answer, Assignment, ControlsStatus, Embedded, Head
from workbench.evaluation.model import ScoringStatus
from workbench.gateway.carrying import CarryingStatus
from workbench.gateway.feedback import Tell
from workbench.gateway.upkeep import UpkeepStatus
from workbench.observability.logs import FlushStatus
from workbench.observability.otlp.receiving import Received
from workbench.ownership.keys import ApiKey

Serving = Literal["hosted", "proxied", "external"]


class Handle(Protocol):
    """The answer to a talk, whole."""

    async def __call__(
        self,
        app: str,
        messages: Sequence[Mapping[str, Any]],
        /,
        **about: Unpack[About],
    ) -> Answer: ...


class AnswerStream(Protocol):
    """An answer on its way: guarded, so what comes may leave. The END record is committed before the last `Finished` comes."""

    @property
    def head(self) -> Head:
        """What is known when the first content may leave."""

    @property
    def answer(self) -> Answer:
        """All that is known, after the last event."""

    def __aiter__(self) -> AsyncIterator[TextPart | ToolPart | Finished]:
        """The events; may raise StreamBroken amid them."""


class Stream(Protocol):
    """The answer to a talk, piece by piece.

    Entering waits until START is written and the first content may leave; RequestRefused comes from there. Leaving early ends the
    model's work, and leaves an END that says so.
    """

    def __call__(
        self,
        app: str,
        messages: Sequence[Mapping[str, Any]],
        /,
        **about: Unpack[About],
    ) -> AbstractAsyncContextManager[AnswerStream]: ...


class Embed(Protocol):
    """Vectors for texts."""

    async def __call__(
        self,
        app: str,
        texts: Sequence[str],
        /,
        **about: Unpack[About],
    ) -> Embedded: ...


class TakeTraces(Protocol):
    """Commits the spans of an `ExportTraceServiceRequest`."""

    def __call__(self, body: bytes, *, is_json: bool, app: str) -> Received: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """What the gateway stands on."""

    handle: Handle
    stream: Stream
    embed: Embed
    assign: Callable[[str, str, str | None], Assignment]
    """What the app's route gives a unit now; reads memory only."""
    bundle_name: Callable[[str], str]
    """Of a bundle, by its id; may take its time, and raise where the ledger is out of reach."""
    serving: Callable[[str], Serving]
    """How an app is served."""
    request: Callable[[str, str], Mapping[str, Any] | None]
    """What the log knows of an app's request, by its id; may take its time."""
    handoff: Callable[[str, str], Mapping[str, Any] | None]
    """How an app's held answer stands, by its id; may take its time."""
    tell: Tell
    """Takes what happened after an answer into the log."""
    key_of: Callable[[str], ApiKey | None]
    """The key whose text this is."""
    take_traces: TakeTraces
    """Takes a message of spans into an app's log; may take its time, and raises RecordRefused or StoreError."""
    apps: Callable[[], Collection[str]]
    """The apps that are served here."""
    hindrances: Callable[[], Sequence[str]]
    """Why no traffic should come, one sentence each."""
    status: Callable[[], ControlsStatus]
    flush: Callable[[], FlushStatus]
    """How the log's way to the lake is."""
    spool_pressure: Callable[[], float]
    """How full the audit's room is, 0 to 1."""
    keys_age_s: Callable[[], float]
    """Seconds since the keys were last read."""
    clock: Callable[[], datetime]
    upkeep: Callable[[], UpkeepStatus] = UpkeepStatus
    """How the log's upkeep goes."""
    carrying: Callable[[], CarryingStatus] = CarryingStatus
    """How the controller of releases is."""
    scoring: Callable[[], ScoringStatus] = ScoringStatus
    """How the scoring of live answers goes."""
