"""`guards.yaml`: what an assistant may not say and do, and when a person decides. `policy.guards` of bundle.yaml names it.

A bundle without one has the defaults: the tools of `orchestration.tools` with their JSON Schemas are the only ones that may be called,
and secrets in an answer are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from workbench.spec.app import LONGEST_DUE
from workbench.spec.base import Duration, Name, Number, Share, Spec, Text, format_duration, parse_duration, twice
from workbench.spec.bundle import BundleSpec
from workbench.spec.document import Path
from workbench.spec.faults import suggestion
from workbench.spec.folding import folded
from workbench.spec.patterns import LONGEST_MATCH, fault_of
from workbench.spec.tool_schemas import schema_fault

StageName = Literal["input", "tool_call", "output"]
TextStage = Literal["input", "output"]
ActionName = Literal["allow", "flag", "redact", "handoff", "block"]
Order = Literal["allow", "flag", "handoff", "block"]
"""Where there is no stretch of text that could be replaced."""
Mode = Literal["hold", "release_and_flag"]
Operator = Literal["<=", "<", ">=", ">", "==", "!=", "in", "not_in", "matches", "contains"]
Detector = Literal["email", "phone", "card", "iban", "ip", "ssn"]
Scalar = str | bool | int | float

_COMPARING = ("<=", "<", ">=", ">")


def _pattern(text: str) -> str:
    fault = fault_of(text)
    if fault:
        raise ValueError(fault)
    return text


def _phrase(text: str) -> str:
    if not 0 < len(folded(text)) <= LONGEST_MATCH:
        raise ValueError(f"a phrase has letters or digits, at most {LONGEST_MATCH}; write a pattern for anything else")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
"""RE2's syntax; letters match in either case."""
Phrase = Annotated[Text, AfterValidator(_phrase)]
"""Whole words, in whatever case, width and separators they are written."""


class Guard(Spec):
    """What every guard that looks into texts says of its own failure."""

    timeout: Duration = Field(default=parse_duration("2s"), json_schema_extra={"default": "2s"})
    """How long it may take."""
    on_error: Literal["block", "handoff", "allow"] = "block"
    """What happens when it fails or takes longer."""


class Predicate(Spec):
    """What has to hold for one argument of a tool call. An argument that is not there does not fulfil it."""

    id: Name
    """The rule's name in logs and metrics."""
    field: Text
    """The argument; dots lead into objects, as in `order.total`."""
    op: Operator
    """`matches`: the pattern fits the whole text. `contains`: the text or list holds the value."""
    value: Scalar | tuple[Scalar, ...] | None = None
    threshold: Text | None = None
    """A name of `policy.thresholds` in bundle.yaml, in place of a value."""
    action: Order = "block"
    sentence: str = ""
    """What the model is told when it does not hold."""

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if (self.value is None) == (self.threshold is None):
            raise ValueError("give either value or threshold")
        is_list = isinstance(self.value, tuple)
        if is_list != (self.op in ("in", "not_in")):
            raise ValueError(f"{self.op} compares with {'one value' if is_list else 'a list of values'}")
        if self.op in _COMPARING and self.threshold is None and (isinstance(self.value, bool) or not isinstance(self.value, int | float)):
            raise ValueError(f"{self.op} compares with a number")
        if self.op == "matches":
            if not isinstance(self.value, str):
                raise ValueError("matches compares with a pattern")
            _pattern(self.value)
        return self


class ToolGuard(Spec):
    """How one tool may be called. What cannot be judged is not called."""

    allow: bool = True
    """False takes away a tool that the bundle declares."""
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments; by default the one of `orchestration.tools`."""
    arguments: tuple[Predicate, ...] = ()
    most_per_request: Annotated[int, Field(ge=1)] | None = None
    needs_approval: bool = False
    """Whether a person has to say yes before it runs."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        _unique([predicate.id for predicate in self.arguments], "predicate ids")
        fault = schema_fault(self.parameters) if self.parameters is not None else None
        if fault:
            raise ValueError(f"parameters is not a JSON Schema: {fault}")
        return self


class _TextGuard(Guard):
    """A guard that looks at texts."""

    stages: Annotated[tuple[StageName, ...], Field(min_length=1)]
    """`input`: what the model is told; `tool_call`: the arguments; `output`: what the caller is told."""
    action: ActionName = "block"

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.action == "redact" and "tool_call" in self.stages:
            raise ValueError("the arguments of a tool call cannot be redacted; choose flag, handoff or block, or leave out tool_call")
        return self


class PersonalData(_TextGuard):
    """Personal data that a text must not hold. Whatever is done here, it is stored redacted."""

    detectors: Annotated[tuple[Detector, ...], Field(min_length=1)] = ("email", "phone", "card", "iban", "ip", "ssn")


class Secrets(_TextGuard):
    """Keys, tokens and passwords that a text must not hold."""

    stages: Annotated[tuple[StageName, ...], Field(min_length=1)] = ("output",)
    action: ActionName = "redact"


class Topic(_TextGuard):
    """Something not to be spoken of, known by its words."""

    id: Name
    phrases: tuple[Phrase, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    sentence: str = ""
    """What the model or the caller is told."""

    @model_validator(mode="after")
    def _knows_something(self) -> Self:
        if not self.phrases and not self.patterns:
            raise ValueError("a topic has phrases or patterns")
        return self


class PromptSize(Spec):
    """How much may be asked at once."""

    most_characters: Annotated[int, Field(ge=1)] | None = None
    most_messages: Annotated[int, Field(ge=1)] | None = None
    action: Order = "block"


class Judge(Guard):
    """A model that reads a text and answers with one label."""

    id: Name
    stages: Annotated[tuple[TextStage, ...], Field(min_length=1)]
    provider: Text
    model: Text
    prompt: Name
    """A name of the bundle's `prompts`; it tells the labels to the judge."""
    labels: Annotated[dict[Text, Order], Field(min_length=1)]
    """What each label orders. Any other answer is a failure of the judge."""
    unsure: Text | None = None
    """The label with which the judge says that it does not know: a person decides."""
    timeout: Duration = Field(default=parse_duration("10s"), json_schema_extra={"default": "10s"})
    """How long it may take."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = (*self.labels, *([self.unsure] if self.unsure else ()))
        _unique([folded(label) for label in labels], "labels, without case and separators,")
        return self


class Presidio(Guard):
    """Microsoft's Presidio, for names and places; needs the extra `presidio` where the bundle is served."""

    stages: Annotated[tuple[TextStage, ...], Field(min_length=1)]
    entities: Annotated[tuple[Text, ...], Field(min_length=1)] = ("PERSON", "LOCATION")
    language: Text = "en"
    least_score: Share = 0.5
    action: ActionName = "redact"
    timeout: Duration = Field(default=parse_duration("10s"), json_schema_extra={"default": "10s"})
    """How long it may take."""


class ScoreBelow(Spec):
    """Fires where no search result is at least this good."""

    below: Number
    mode: Mode = "release_and_flag"


class LogprobBelow(Spec):
    """Fires where a token of the answer was less likely than this."""

    below: Annotated[float, Field(lt=0)]
    """Natural logarithm."""
    mode: Mode = "release_and_flag"


class AskedForPerson(Spec):
    """Fires where the user's last message says one of these."""

    phrases: Annotated[tuple[Phrase, ...], Field(min_length=1)]
    mode: Mode = "hold"


class SessionFailures(Spec):
    """Fires where so much failed in a session before."""

    at_least: Annotated[int, Field(ge=1)]
    mode: Mode = "hold"


class Handoff(Spec):
    """Which signals bring a person in, and how: `hold` keeps the answer back until somebody decided."""

    holding_text: Text | None = None
    """What the caller gets meanwhile; by default what app.yaml says."""
    sla: Duration | None = None
    """Until when somebody has to have decided, at most 72h; by default what app.yaml says. Silence is never a yes."""
    needs_approval: Mode = "hold"
    """A tool that needs approval was called."""
    unsure: Mode = "hold"
    """A guard does not know, or asks for a person."""
    missing_citations: Mode | None = None
    """The answer cites nothing."""
    retrieval_score: ScoreBelow | None = None
    token_logprob: LogprobBelow | None = None
    asked_for_person: AskedForPerson | None = None
    session_failures: SessionFailures | None = None

    @model_validator(mode="after")
    def _due_in_time(self) -> Self:
        if self.sla is not None and self.sla > LONGEST_DUE:
            raise ValueError(f"sla: got {format_duration(self.sla)}; the text of a waiting item is kept for at most 72h")
        return self


class GuardsSpec(Spec):
    """What an assistant may not say and do, and when a person decides."""

    streaming: Literal["hold_all", "window", "after"] = "window"
    """When a streamed answer leaves: checked as a whole; checked piece by piece; or at once and checked afterwards (risk tier low only)."""
    instructions: Literal["trusted", "guarded"] = "trusted"
    """Whether messages of the roles `system` and `developer` that a request brings are looked at as the rest is: `guarded` where the
    calling application puts into them what other people wrote, such as documents that were looked up."""
    tools: dict[Text, ToolGuard] = Field(default_factory=dict)
    """By the name under which the bundle declares the tool; a tool that it does not declare is never allowed."""
    personal_data: tuple[PersonalData, ...] = ()
    secrets: tuple[Secrets, ...] = (Secrets(),)
    topics: tuple[Topic, ...] = ()
    prompt_size: PromptSize | None = None
    judges: tuple[Judge, ...] = ()
    presidio: Presidio | None = None
    handoff: Handoff = Handoff()
    refusal: Text = "We cannot answer this here."
    """What the caller gets in place of what was blocked."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        _unique([*(topic.id for topic in self.topics), *(judge.id for judge in self.judges)], "ids of topics and judges")
        slow = [*(judge.stages for judge in self.judges), *([self.presidio.stages] if self.presidio else ())]
        if self.streaming != "hold_all" and any("output" in stages for stages in slow):
            raise ValueError("judges and presidio look at whole answers: set streaming to hold_all, or let them look at the input only")
        return self


def disagreements(guards: GuardsSpec, bundle: BundleSpec) -> Iterator[tuple[Path, str]]:
    """Where the guards name what the bundle does not have: the path in guards.yaml, and a sentence."""
    declared = [tool.name for tool in bundle.orchestration.tools]
    thresholds = bundle.policy.thresholds if bundle.policy else {}
    for name, tool in guards.tools.items():
        if name not in declared:
            yield ("tools", name), f"orchestration.tools of bundle.yaml declares no such tool{suggestion(name, declared)}"
        for i, predicate in enumerate(tool.arguments):
            if predicate.threshold is not None and predicate.threshold not in thresholds:
                path = ("tools", name, "arguments", i, "threshold")
                yield path, f"policy.thresholds of bundle.yaml has no {predicate.threshold}{suggestion(predicate.threshold, thresholds)}"
    for i, judge in enumerate(guards.judges):
        if judge.prompt not in bundle.prompts:
            yield (
                ("judges", i, "prompt"),
                f"prompts of bundle.yaml has no {judge.prompt}{suggestion(judge.prompt, bundle.prompts)}",
            )


def _unique(names: list[str], what: str) -> None:
    repeated = twice(names)
    if repeated:
        raise ValueError(f"{what} must be unique; {', '.join(repeated)} appears more than once")
