"""The targets that answer for a bundle's model, and how they are doing: one record per process, which all bundles share."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from workbench.controls.breaker import Breaker, Permit, State
from workbench.controls.budget import RetryBudget, Throttle
from workbench.controls.failures import HANDLING, Counts, FailureKind
from workbench.controls.providers import NotAsked, ProviderError, ProviderFactory
from workbench.controls.slots import Slots

MOST_AT_ONCE, MOST_WAITING = 256, 256
"""Requests at one target of one process, and waiting for it."""
_CHARACTERS_PER_TOKEN = 4
"""A rule of thumb, which rather counts too few: a target is passed over only where the request surely does not fit."""
_SAID = ("content", "text", "tool_calls", "function", "arguments")
"""Entries of a message that hold its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a request needs of a model."""

    tools: bool
    json_schema: bool
    tokens: int
    """A rough count of what is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a target can do."""

    tools: bool = True
    json_schema: bool = True
    context_tokens: int | None = None
    """None where nobody said it."""
    prefill: bool = False

    @property
    def are_whole(self) -> bool:
        """Whether nothing is known that the target cannot do."""
        return self.tools and self.json_schema and self.context_tokens is None

    def suit(self, needs: Needs) -> bool:
        """Whether the target can do what the request needs."""
        has_room = self.context_tokens is None or needs.tokens <= self.context_tokens
        return has_room and (self.tools or not needs.tools) and (self.json_schema or not needs.json_schema)


class TargetKey(NamedTuple):
    """What fails together."""

    provider: str
    model: str
    credential: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model at a provider, as a bundle asks it."""

    kind: Literal["primary", "sibling", "model"]
    provider: str
    model: str
    factory: ProviderFactory
    params: Mapping[str, Any] = field(default_factory=dict)
    """Of another model than the bundle's own; they replace those of the request."""
    capabilities: Capabilities = Capabilities()
    credential: str = ""
    """A name for the key with which it is asked, where a provider has several."""
    key: TargetKey = field(init=False, repr=False, compare=False)
    """Its place in the record of the process."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", TargetKey(self.provider, self.model, self.credential))

    @property
    def name(self) -> str:
        """For people and the log."""
        return f"{self.provider}/{self.model}"

    def request(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request as this target gets it."""
        return {**asked, "model": self.model, **self.params} if self.kind == "model" else asked

    def is_larger(self, than: Target, needs: Needs) -> bool:
        """Whether it is declared to hold more than a target that the request was too long for."""
        own = self.capabilities.context_tokens
        return own is not None and own > max(than.capabilities.context_tokens or 0, needs.tokens)


def needs_of(request: Mapping[str, Any]) -> Needs:
    """What the request needs of a model."""
    form = request.get("response_format")
    return Needs(
        tools=bool(request.get("tools")),
        json_schema=isinstance(form, Mapping) and form.get("type") == "json_schema",
        tokens=_characters(request.get("messages")) // _CHARACTERS_PER_TOKEN,
    )


def _characters(value: Any) -> int:
    """Characters of the text inside messages; pictures and numbers are not counted."""
    waiting, n = [value], 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            n += len(part)
        elif isinstance(part, Mapping):
            waiting.extend(part[name] for name in _SAID if name in part)
        elif isinstance(part, list | tuple):
            waiting.extend(part)
    return n


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """How a target is doing, for metrics and people."""

    provider: str
    model: str
    credential: str
    state: State
    is_rate_limited: bool
    closed_for_s: float
    """Seconds until it is asked again; 0 when it is."""
    in_flight: int
    waiting: int
    retries_left: float
    attempts: int
    """Since the start, those that were sent."""
    failures: Mapping[str, int]
    """Kind to how often, those that were not sent included."""


class Health:
    """How one target is doing. Threads share it.

    Args:
        key: which target.
        monotonic: time in seconds.
        most: requests at once.
        most_waiting: requests that wait.
    """

    def __init__(self, key: TargetKey, *, monotonic: Callable[[], float], most: int, most_waiting: int) -> None:
        self.key = key
        self.slots = Slots(most=most, most_waiting=most_waiting)
        self._monotonic = monotonic
        self._changing = threading.Lock()
        self._breaker = Breaker()
        self._budget = RetryBudget()
        self._throttle = Throttle()
        self._rate_limited_until_s = float("-inf")
        self._attempts = 0
        self._failures: Counter[FailureKind] = Counter()
        self._alarm: str | None = None

    def admit(self, *, is_lone: bool, is_retry: bool, chance: Callable[[str], float]) -> Permit:
        """The leave to ask once.

        Args:
            is_lone: whether there is no other target.
            is_retry: whether somebody asked the same question before, here or at another target; it then draws on the budget.
            chance: draws a random number in [0, 1) for a purpose, where one is needed.

        Raises:
            NotAsked: it is left alone now; the kind says why.
        """
        with self._changing:
            now_s = self._monotonic()
            limited_s = self._rate_limited_until_s - now_s
            if limited_s > 0:
                raise self._refusal(FailureKind.RATE_LIMITED, "it asked to be left alone", limited_s)
            permit = self._breaker.admit(now_s, is_lone=is_lone)
            if permit is None:
                raise self._refusal(FailureKind.BREAKER_OPEN, "it failed too often", self._breaker.closed_for_s(now_s) or 1.0)
            if not permit.is_probe and self._throttle.refuses(now_s, chance):
                raise self._refusal(FailureKind.THROTTLED, "it refuses most requests", 1.0)
            if not is_retry:
                self._budget.first(now_s)
            elif not self._budget.draw(now_s):
                self._breaker.withdraw(permit)
                raise self._refusal(FailureKind.THROTTLED, "the retries for it are used up", 1.0)
            self._attempts += 1
            return permit

    def settle(self, permit: Permit, fault: ProviderError | None, *, counts: Counts | None, fraction: float) -> None:
        """What came of an attempt.

        Args:
            permit: its leave.
            fault: None where it succeeded.
            counts: how the fault counts; None where it succeeded.
            fraction: a random number in [0, 1).
        """
        with self._changing:
            now_s = self._monotonic()
            self._breaker.settle(permit, now_s, counts, fraction=fraction)
            if permit.is_probe:
                self._throttle.clear()  # the breaker decided meanwhile; what was before says nothing
            elif counts is None or counts is Counts.NONE:
                self._throttle.accept(now_s)
            else:
                self._throttle.reject(now_s)
            if fault is None:
                self._alarm = None
                return
            self._failures[fault.kind] += 1
            if counts is Counts.RATE and fault.retry_after_s is not None:
                self._rate_limited_until_s = max(self._rate_limited_until_s, now_s + fault.retry_after_s)
            if HANDLING[fault.kind].alarm:
                self._alarm = f"{self.key.provider}/{self.key.model}: {_ALARMS[fault.kind]} ({fault.code})"

    def withdraw(self, permit: Permit) -> None:
        """The attempt ended for a reason that says nothing about the target."""
        with self._changing:
            self._breaker.withdraw(permit)
            if not permit.is_probe:
                self._throttle.accept(self._monotonic())

    @property
    def is_askable(self) -> bool:
        """Whether a request would be let through, as far as breaker and rate limit go."""
        with self._changing:
            now_s = self._monotonic()
            return self._rate_limited_until_s <= now_s and self._breaker.state(now_s) is not State.OPEN

    @property
    def has_retry(self) -> bool:
        """Whether the budget holds a further attempt."""
        with self._changing:
            return self._budget.left(self._monotonic()) >= 1.0

    @property
    def alarm(self) -> str | None:
        """What somebody has to do something about; None when nothing is."""
        return self._alarm

    def state(self) -> TargetState:
        """How it is doing now."""
        with self._changing:
            now_s = self._monotonic()
            limited_s = max(0.0, self._rate_limited_until_s - now_s)
            return TargetState(
                provider=self.key.provider,
                model=self.key.model,
                credential=self.key.credential,
                state=self._breaker.state(now_s),
                is_rate_limited=limited_s > 0,
                closed_for_s=max(limited_s, self._breaker.closed_for_s(now_s)),
                in_flight=self.slots.taken,
                waiting=self.slots.waiting,
                retries_left=self._budget.left(now_s),
                attempts=self._attempts,
                failures={str(kind): n for kind, n in self._failures.items()},
            )

    def _refusal(self, kind: FailureKind, why: str, retry_after_s: float) -> NotAsked:
        self._failures[kind] += 1
        return NotAsked(f"{self.key.provider}/{self.key.model}: {why}", kind=kind, retry_after_s=retry_after_s)


_ALARMS = {
    FailureKind.QUOTA: "what was paid for is used up",
    FailureKind.CREDENTIAL: "it does not accept the key",
    FailureKind.NO_MODEL: "it does not know the model, or the address is wrong",
}


class TargetHealth:
    """How the targets of a process are doing, whichever bundles ask them. Threads share it.

    Args:
        monotonic: time in seconds.
        most_at_once: requests at one target.
        most_waiting: requests that wait for one.
    """

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, most_at_once: int = MOST_AT_ONCE, most_waiting: int = MOST_WAITING
    ) -> None:
        self._monotonic = monotonic
        self._most_at_once = most_at_once
        self._most_waiting = most_waiting
        self._known: dict[TargetKey, Health] = {}
        self._changing = threading.Lock()

    def of(self, target: Target) -> Health:
        """The record of one target; the same for the same provider, model and credential."""
        found = self._known.get(target.key)
        if found is not None:
            return found
        with self._changing:
            return self._known.setdefault(
                target.key,
                Health(target.key, monotonic=self._monotonic, most=self._most_at_once, most_waiting=self._most_waiting),
            )

    def alarms(self) -> tuple[str, ...]:
        """What somebody has to do something about, one sentence each."""
        return tuple(health.alarm for _, health in sorted(self._known.copy().items()) if health.alarm is not None)

    def snapshot(self) -> tuple[TargetState, ...]:
        """How all of them are doing, by name."""
        return tuple(health.state() for _, health in sorted(self._known.copy().items()))
