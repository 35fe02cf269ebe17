"""Who is asked for a bundle's model, in which order, and what is said when nobody answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from workbench.controls.limits import Limits
from workbench.controls.providers import Providers
from workbench.controls.retries import RetryPolicy
from workbench.controls.targets import Capabilities, Target
from workbench.spec.controls import CannedLink, Controls, HumanLink, LastGoodLink, Link, ModelLink, SiblingLink, StreamRules, WaitLimits

_LINK: TypeAdapter[Link] = TypeAdapter(Link)
_LIMITS = (("connect_s", "connect"), ("headers_s", "headers"), ("first_token_s", "first_token"), ("gap_s", "gap"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is said when no target answered."""

    kind: Literal["last_good", "canned", "human"]
    text: str | None = None
    """Of `canned`; None for the plain apology."""
    max_age_s: float = 0.0
    """Of `last_good`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A bundle's way from question to answer."""

    targets: tuple[Target, ...]
    """At least one; the first is the bundle's own model."""
    endings: tuple[Ending, ...] = ()
    """In order; the first that can be given is."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)
    stream: StreamRules = field(default_factory=StreamRules)


def chain_of(model: Mapping[str, Any], controls: Mapping[str, Any], providers: Providers) -> Chain:
    """The chain of a bundle.

    Args:
        model: its part `model`, as registered.
        controls: its part `controls`; empty where it has none.
        providers: finds the providers that are named.

    Raises:
        UsageError: a provider is not known.
    """
    spec = _spec(controls)
    return Chain(
        targets=tuple(_targets(model, spec, providers)),
        endings=tuple(_endings(spec)),
        policy=RetryPolicy.of(retries=spec.retries, attempts=spec.attempts),
        limits=_limits(spec.limits),
        stream=spec.stream or StreamRules(),
    )


def embedding_chain_of(embedding: Mapping[str, Any], controls: Mapping[str, Any], providers: Providers) -> Chain:
    """The chain to the model that turns text into vectors: that one alone, for the vectors of another are of another space.

    Args:
        embedding: `embedding` of the bundle's part `retrieval`.
        controls: as of `chain_of`.
        providers: as of `chain_of`.

    Raises:
        UsageError: the provider is not known.
    """
    spec = _spec(controls)
    name = embedding["provider"]
    target = Target(kind="primary", provider=name, model=embedding["name"], factory=providers.named(name))
    return Chain(targets=(target,), policy=RetryPolicy.of(retries=spec.retries, attempts=spec.attempts), limits=_limits(spec.limits))


def _spec(controls: Mapping[str, Any]) -> Controls:
    """The part, read. Links that bundles of earlier days could hold, and that never did anything, still do nothing."""
    known = []
    for link in controls.get("fallback", ()):
        try:
            known.append(_LINK.validate_python(link))
        except ValidationError:
            continue
    return Controls.model_validate({**controls, "fallback": tuple(known)})


def _targets(model: Mapping[str, Any], spec: Controls, providers: Providers) -> Iterator[Target]:
    yield Target(kind="primary", provider=model["provider"], model=model["name"], factory=providers.named(model["provider"]))
    for link in spec.fallback:
        if isinstance(link, SiblingLink):
            yield Target(kind="sibling", provider=link.provider, model=model["name"], factory=providers.named(link.provider))
        elif isinstance(link, ModelLink):
            yield Target(
                kind="model",
                provider=link.provider,
                model=link.name,
                factory=providers.named(link.provider),
                params=link.params,
                capabilities=Capabilities(**link.capabilities.model_dump()),
            )


def _endings(spec: Controls) -> Iterator[Ending]:
    for link in spec.fallback:
        if isinstance(link, LastGoodLink):
            yield Ending(kind="last_good", max_age_s=link.max_age.total_seconds())
        elif isinstance(link, CannedLink):
            yield Ending(kind="canned", text=link.text)
        elif isinstance(link, HumanLink):
            yield Ending(kind="human")


def _limits(spec: WaitLimits | None) -> Limits:
    if spec is None:
        return Limits()
    spans = {ours: getattr(spec, theirs).total_seconds() for ours, theirs in _LIMITS if getattr(spec, theirs) is not None}
    return Limits(**spans, min_tokens_per_s=spec.min_tokens_per_s or 0.0)
