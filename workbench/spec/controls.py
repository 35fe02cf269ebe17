"""`controls` of `bundle.yaml`: what stands around every model call, and what answers when the model does not."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workbench.spec.base import Duration, NotNegative, Spec, Text


class Capabilities(Spec):
    """What another model can do; what is not declared it cannot."""

    tools: bool = False
    json_schema: bool = False
    """Answers in the form of a given JSON Schema."""
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    """The longest request and answer together."""
    prefill: bool = False
    """Goes on with an answer that was begun."""


class SiblingLink(Spec):
    """The same model at another provider."""

    kind: Literal["sibling"]
    provider: Text


class ModelLink(Spec):
    """Another model."""

    kind: Literal["model"]
    provider: Text
    name: Text
    version: str | None = None
    """The exact, immutable version. Absent means that the provider may change it under you."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Instead of those of the bundle's model, where both have one."""
    capabilities: Capabilities = Capabilities()


class LastGoodLink(Spec):
    """The answer that the same request got before, where it called no tools."""

    kind: Literal["last_good"]
    max_age: Duration


class CannedLink(Spec):
    """A text that is always the same."""

    kind: Literal["canned"]
    text: str | None = None
    """What the user reads; absent means a plain apology."""


class HumanLink(Spec):
    """A person."""

    kind: Literal["human"]


Link = Annotated[SiblingLink | ModelLink | LastGoodLink | CannedLink | HumanLink, Field(discriminator="kind")]
"""No link names a bundle: a candidate that fails is never served by the stable one, or its failures would not be seen."""


class WaitLimits(Spec):
    """How long a target may take for each part of its answer, and how slow it may be."""

    connect: Duration | None = None
    """To reach it; 5 s where absent."""
    headers: Duration | None = None
    """Until it begins to answer, and of an answer that is not streamed, until it is there; 30 s where absent."""
    first_token: Duration | None = None
    """Until the first word of a stream; 30 s where absent."""
    gap: Duration | None = None
    """Between two pieces of a stream; 30 s where absent."""
    min_tokens_per_s: NotNegative | None = None
    """Over any 5 s of a stream of which nothing was passed on yet."""


class StreamRules(Spec):
    """How an answer is passed on piece by piece."""

    after_commit: Literal["terminate", "continue"] = "terminate"
    """What follows a failure after something was passed on: an error, or the rest of the answer from a target that goes on with what was
    begun. When an answer is passed on at all, `streaming` of guards.yaml says."""


class Controls(Spec):
    """What stands around every model call."""

    timeout: Duration | None = None
    retries: Annotated[int, Field(ge=0)] | None = None
    """Further attempts at the same target; more than 2 count as 2."""
    attempts: Annotated[int, Field(ge=1, le=4)] | None = None
    """At one question in all, whatever the targets; 4 where absent."""
    limits: WaitLimits | None = None
    stream: StreamRules | None = None
    fallback: tuple[Link, ...] = ()
    """What is asked when the model does not answer, in this order, and then what is said."""

    @model_validator(mode="after")
    def _asks_before_it_ends(self) -> Self:
        is_asked = [isinstance(link, SiblingLink | ModelLink) for link in self.fallback]
        if is_asked != sorted(is_asked, reverse=True):
            raise ValueError("a sibling or model after a last_good, canned or human link would never be asked; put it before them")
        return self
