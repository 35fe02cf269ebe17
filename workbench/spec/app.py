"""`app.yaml`: what the application is for, who answers for it, and what counts as success."""

from __future__ import annotations

import itertools
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from workbench.spec.base import Day, Duration, Name, Number, Spec, Text, format_duration, twice

Entry = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", examples=["shop.support:open_tools"])]
"""A callable in a module."""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _callback_url(url: str) -> str:
    """The URL, when answers may be sent to it.

    Raises:
        ValueError: it is not encrypted and leaves the machine, or is no address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    is_safe = host is not None and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))
    if not is_safe or port == 0 or parts.username or parts.password or parts.fragment or not url.isascii() or " " in url:
        raise ValueError("not a callback; write https://…, or http://127.0.0.1:PORT/…, without a user, a password or a #")
    return url


CallbackUrl = Annotated[Text, AfterValidator(_callback_url)]
"""Where decisions are told; a request can only name one that is declared."""
LONGEST_DUE = timedelta(hours=72)
"""No raw text is kept longer."""


class StatusRule(Spec):
    """A request succeeded when it ended `ok` without a fallback."""

    rule: Literal["status"]


class ScoreRule(Spec):
    """A request succeeded when its newest score of this name reaches the bar; unscored requests are undecided."""

    rule: Literal["score"]
    score: Text
    """Name of the score, for example `resolved`."""
    at_least: Number
    """The bar, in the score's own unit."""


class OutcomeRule(Spec):
    """A request succeeded when this business event followed it in time; undecided until the window is over."""

    rule: Literal["outcome"]
    outcome: Text
    """Name of the outcome event."""
    within: Duration
    """How long the event may take, from the request's start."""


SuccessRule = Annotated[StatusRule | ScoreRule | OutcomeRule, Field(discriminator="rule")]


class Workflow(Spec):
    """One thing that people come to do."""

    name: Name
    description: str = ""
    success: SuccessRule
    """When a request of this workflow counts as a success."""


_CURRENCY_LETTERS = 3


class Kpi(Spec):
    """A business result that the application exists to move."""

    name: Name
    description: str = ""
    outcome: Text
    """The business event that is measured, as it is named in `outcomes.kpi`."""
    aggregate: Literal["rate", "mean", "sum"] = "rate"
    """`rate`: share of sessions with the event; `mean`: mean value of the events; `sum`: their total."""
    direction: Literal["higher_is_better", "lower_is_better"] = "higher_is_better"
    unit: str = "share"
    """Unit of the value, for example `share`, `EUR`, `minutes`."""
    kind: Literal["outcome", "usage"] = "outcome"
    """`usage` counts activity (requests, users, clicks); it can accompany an outcome, never replace it."""
    within: Duration | None = None
    """How long an event still counts: of a `rate` after its session's first request, else after its own. For so long after its end a period
    is open."""
    per: Literal["day", "week", "month"] = "month"
    """Of a `sum`: the period that baseline and target are meant for."""
    baseline: Number | None = None
    """The value before the application, on the same definition."""
    target: Number | None = None
    target_date: Day | None = None
    """The day by which the target is to be reached."""
    owner: Name | None = None
    """The person who answers for reaching the target."""

    @property
    def currency(self) -> str | None:
        """The currency of its values, an ISO 4217 code; None where they are no money. Values of another one are none of it."""
        is_code = len(self.unit) == _CURRENCY_LETTERS and self.unit.isascii() and self.unit.isalpha() and self.unit.isupper()
        return self.unit if self.aggregate != "rate" and is_code else None

    @model_validator(mode="after")
    def _rates_are_shares(self) -> Self:
        for name, value in (("baseline", self.baseline), ("target", self.target)):
            if self.aggregate == "rate" and value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: got {value:g}; a rate is a share of sessions, from 0 to 1 (60 % is 0.6)")
        return self


class Risk(Spec):
    """Something that must not happen, and what stands against it."""

    name: Name
    description: Text
    control: Text
    """The policy rule, guard or procedure that prevents or detects it."""
    owner: Name | None = None


class EscalationStep(Spec):
    """Whom to call, by when."""

    to: Name
    """A person of people.yaml."""
    within: Duration
    """Time from the start of the incident to this step."""


class Fallback(Spec):
    """What a user gets when the assistant cannot answer."""

    kind: Literal["canned", "human", "off"]
    text: Text | None = None
    """The words of a `canned` answer."""

    @model_validator(mode="after")
    def _canned_has_text(self) -> Self:
        if self.kind == "canned" and not self.text:
            raise ValueError("a canned fallback needs its text")
        return self


class HandoffRule(Spec):
    """How people decide on answers that the assistant is not sure of."""

    due: Duration = Field(default=timedelta(hours=1), json_schema_extra={"default": "1h"})
    """By when somebody has to decide; after that nothing is delivered. At most 72h."""
    holding: Text = "A colleague will look at this. Please ask again in a while."
    """What the client gets meanwhile."""
    callbacks: dict[Name, CallbackUrl] = Field(default_factory=dict)
    """Name to the URL to which a decision is posted, signed."""

    @model_validator(mode="after")
    def _due_in_time(self) -> Self:
        if self.due > LONGEST_DUE:
            raise ValueError(f"due: got {format_duration(self.due)}; the text of a waiting item is kept for at most 72h")
        return self


class AppSpec(Spec):
    """The declaration of one application."""

    app: Name
    title: Text
    purpose: str = ""
    """Intended use, in one sentence that a stakeholder understands."""
    risk_tier: Literal["low", "medium", "high"]
    serving: Literal["hosted", "proxied", "external"] = "hosted"
    tools: Entry | None = None
    """`module:callable` of the installed code that opens the assistant's tools for one call; only for `serving: hosted`."""
    owner: Name | None = None
    """The accountable person, from people.yaml."""
    workflows: tuple[Workflow, ...] = ()
    kpis: tuple[Kpi, ...] = ()
    risks: tuple[Risk, ...] = ()
    escalation: tuple[EscalationStep, ...] = ()
    """In order: the first is called first."""
    fallback: Fallback | None = None
    handoff: HandoffRule | None = None
    kill_switch: Text | None = None
    """How the application is switched off, in words that work at night."""
    audit: Literal["required", "best_effort"] = "required"
    """What happens while records cannot be stored: `required` refuses calls, `best_effort` answers them and counts the gap."""

    @property
    def score_bars(self) -> dict[str, float]:
        """Name of each score that decides success to the bar below which it says failure; the highest where workflows differ."""
        bars: dict[str, float] = {}
        for workflow in self.workflows:
            if isinstance(workflow.success, ScoreRule):
                bars[workflow.success.score] = max(workflow.success.at_least, bars.get(workflow.success.score, workflow.success.at_least))
        return bars

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for label, names in (
            ("workflows", [w.name for w in self.workflows]),
            ("kpis", [k.name for k in self.kpis]),
            ("risks", [r.name for r in self.risks]),
        ):
            repeated = twice(names)
            if repeated:
                raise ValueError(f"{label}: {', '.join(repeated)} is declared more than once")
        return self

    @model_validator(mode="after")
    def _tools_run_here(self) -> Self:
        if self.tools is not None and self.serving != "hosted":
            raise ValueError(f"tools: with `serving: {self.serving}` your own code runs the tools; leave the line out")
        return self

    @model_validator(mode="after")
    def _escalation_goes_on(self) -> Self:
        for earlier, later in itertools.pairwise(self.escalation):
            if later.within < earlier.within:
                spans = (
                    f"{later.to} within {format_duration(later.within)} stands after {earlier.to} within {format_duration(earlier.within)}"
                )
                raise ValueError(f"escalation: {spans}; order the steps by time")
        return self

    @model_validator(mode="after")
    def _high_risk_keeps_its_audit(self) -> Self:
        if self.risk_tier == "high" and self.audit != "required":
            raise ValueError("audit: got best_effort; an application of risk tier high answers nothing that it cannot record (required)")
        return self
