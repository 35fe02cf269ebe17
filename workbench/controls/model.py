"""The nouns of serving: the route, what it decides for one call, the call, its answer, and how the controls are doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from workbench.controls.events import Choice

Arm = Literal["stable", "candidate", "shadow", "none"]
Operation = Literal["chat", "embeddings"]
"""What is asked for: an answer, or vectors."""
Priority = Literal["interactive", "batch", "shadow"]
"""Who waits for the answer: a person, a program, nobody. Under load the last are refused first."""
Message = Mapping[str, Any]
"""One message of a talk in OpenAI's form: `role`, `content`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which bundle serves which share of an app's units."""

    app: str
    stable: str | None
    """Bundle id; None before the first promotion."""
    candidate: str | None
    """Bundle id; None outside a canary."""
    share: float
    """Of units that the candidate serves, 0 to 1."""
    salt: str
    """Of the release; decides which units those are."""
    release_id: str | None
    without_stable: str
    """`fallback` or `off`: what a unit gets where there is no stable bundle."""
    route_version: int
    changed_at: datetime
    shadow: str | None = None
    """Id of the bundle that answers copies; None outside a shadow stage."""
    shadow_share: float = 0.0
    """Of units whose requests it gets, too."""
    drains: bool = False
    """Whether a talk ends on the bundle that it began on."""
    retiring: str | None = None
    """Id of the bundle that was stable until the last promotion: only talks that began on it may end on it."""


class Reason(StrEnum):
    """Why a call was assigned as it was."""

    BUCKET = "bucket"
    """The unit's bucket decided."""
    NO_UNIT = "no_unit"
    """Nobody was named, so stable serves, outside the comparison."""
    NO_CANDIDATE = "no_candidate"
    """There is no canary."""
    STALE_ROUTE = "stale_route"
    """The ledger was out of reach for too long: stable only."""
    NOT_LOADED = "candidate_not_loaded"
    """The candidate cannot be run here (yet): its units stay on stable."""
    SHADOW = "shadow"
    """It is a copy of a request that stable answered."""
    SESSION = "session"
    """The talk began under an earlier version of the route, and ends where it began."""
    NO_STABLE = "no_stable"
    """There is no stable bundle, and the candidate is not for this call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The bundle of one call, pinned from its start to its end.

    In a talk that ends where it began all but the reason is what its first call got: share and version are those that decided.
    """

    app: str
    bundle_id: str | None
    """None where the route has no bundle for the call."""
    arm: Arm
    share: float
    """The candidate's share when this was decided; 0 where the candidate was withheld."""
    route_version: int
    release_id: str | None
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the caller asks of the form of the answer. It has an effect for a proxied app; a hosted one's bundle decides by itself."""

    tools: tuple[Mapping[str, Any], ...] = ()
    """In OpenAI's form; only those that the bundle allows are passed on."""
    n: int = 1
    """Answers to one request."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """`tool_choice`, `response_format`, `stop`, `max_tokens`, …: as the dialect spells them."""
    is_streamed: bool = False
    """Whether the answer is passed on piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request for an answer, as it came in: nothing of it is redacted."""

    request_id: str
    app: str
    messages: tuple[Message, ...]
    """Oldest first."""
    unit: str | None
    """Whom the call is for; decides the arm, and is stored as its hash only."""
    session_id: str | None
    workflow: str | None
    metadata: Mapping[str, str]
    received_at: datetime
    deadline_s: float
    """Seconds from the start that the caller waits; not above 0 when it is past already."""
    source: str
    """The edge that the call came by, for example `gateway`."""
    asked: Asked = Asked()
    priority: Priority = "interactive"
    operation: Operation = "chat"
    retries: int = 0
    """How often the caller's own client tried before."""
    callback: str | None = None
    """Name of the app's callback to which a held answer is delivered."""
    shadow_of: str | None = None
    """Id of the request that this one is a copy of; None for one that somebody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the caller gets: the raw text, while storage holds a redacted copy."""

    request_id: str
    choices: tuple[Choice, ...]
    """At least one."""
    status: str
    """`ok`, `handed_off`, `blocked`, `truncated`, `timeout` or `error`; with the last two `content` is a fallback text."""
    bundle_id: str | None
    """None when no bundle served: the app's declared fallback."""
    bundle_name: str | None
    arm: Arm
    release_id: str | None
    attempts: int
    """The most that one question to the model took; 0 when the model was not asked."""
    is_fallback: bool
    model_served: str | None
    input_tokens: int | None
    output_tokens: int | None
    latency_ms: float
    blocked_rules: tuple[str, ...]
    """What a guard stopped."""
    violation_rules: tuple[str, ...]
    """What a guard found in what was released, flagged or redacted."""
    handoff_id: str | None
    """Of the item that a person decides, or the assistant's own case number."""

    @property
    def content(self) -> str:
        """The text of the first choice; empty where it only calls tools."""
        return self.choices[0].content or ""

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice."""
        return self.choices[0].finish_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known of a streamed answer when its first content may leave; the rest is in the log."""

    request_id: str
    bundle_id: str | None
    bundle_name: str | None
    arm: Arm
    release_id: str | None
    attempts: int
    is_fallback: bool
    model_served: str | None
    blocked_rules: tuple[str, ...]
    violation_rules: tuple[str, ...]
    handoff_id: str | None
    """Of the item that a person decides, where nothing left before that."""


class StreamBroken(Exception):
    """A stream that had begun cannot be finished: what was released is not the answer.

    Args:
        code: short and stable, for example `upstream_cut_off`.
        message: one sentence for the caller, without anything of the content.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors for texts, in the order of the texts."""

    request_id: str
    vectors: tuple[tuple[float, ...], ...]
    model: str
    input_tokens: int | None
    bundle_id: str | None
    arm: Arm
    blocked_rules: tuple[str, ...]
    """What a guard took from the texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlsStatus:
    """How the controls of this process are doing."""

    is_ready: bool
    reasons: tuple[str, ...]
    """Why they are not ready, one sentence each; empty when they are."""
    routes: tuple[Route, ...]
    """By app."""
    route_age_s: float | None
    """Since the ledger last told the routes; None before the first time."""
    bundles: tuple[str, ...]
    """Ids of the bundles that are loaded."""
    in_flight: int
    served: Mapping[str, int]
    """Answers that left, by arm."""
    no_unit: int
    """Of them, those for nobody in particular: served by stable, outside the comparison."""
    refused: Mapping[str, int]
    """Calls that were refused, by code."""
    alarms: tuple[str, ...]
    """What somebody has to look at, one sentence each."""
    shadows: Mapping[str, int] = field(default_factory=dict)
    """Copies for a shadow, by how they ended; `dropped` for those that were not made. They are among none of the others."""
    talks: int = 0
    """Of which the beginning is remembered."""
