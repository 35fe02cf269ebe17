"""The seam of the serving modes: what stands behind an assignment and answers a call.

`hosted` runs the bundle here, `proxied` asks its model for an assistant that runs elsewhere. An `external` app only asks which bundle
serves a unit, so nothing here answers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

from workbench.controls.asking import ModelCaller
from workbench.controls.chain import chain_of, embedding_chain_of
from workbench.controls.content import BundleContent
from workbench.controls.embedding import Embedding
from workbench.controls.guards.engine import Guards
from workbench.controls.guards.rules import guards_of
from workbench.controls.guards.tool_calls import ToolPolicy
from workbench.controls.hosting import HostedBundle
from workbench.controls.lastgood import LastGoodAnswers
from workbench.controls.model import Call
from workbench.controls.providers import Providers
from workbench.controls.proxied import Proxied
from workbench.controls.targets import TargetHealth
from workbench.controls.tools import OpenedWhenUsed, ReadOnly, ToolContext, Tools, ToolsFactory, tools_behind
from workbench.controls.turn import Step, Turn, said
from workbench.controls.underway import Underway
from workbench.spec.app import AppSpec
from workbench.versions.model import Bundle

ServingMode = Literal["hosted", "proxied", "external"]
HOSTED: ServingMode = "hosted"
PROXIED: ServingMode = "proxied"
"""The modes in which calls are answered here."""


class Serving(Protocol):
    """Something that answers calls."""

    @property
    def bundle_name(self) -> str | None:
        """The name of the bundle that answers; None where none does."""

    @property
    def provider(self) -> str | None:
        """Whose model is asked."""

    @property
    def model(self) -> str | None:
        """The model that is asked for."""

    @property
    def guards(self) -> Guards:
        """What it may be asked, what its tools may be told, and what it may say."""

    @property
    def embedding(self) -> Embedding | None:
        """What answers a question for vectors, made anew for each; None where the bundle names no model for that."""

    def offered(self, call: Call) -> Sequence[str] | None:
        """The names of the tools that the request itself offers; None where the bundle's tools count."""

    async def answer(self, underway: Underway) -> Turn:
        """The turn that answers the call in time; its steps are added as they happen."""


class Hosted:
    """A bundle that runs in this process.

    Args:
        hosted: the loaded bundle.
        caller: asks its model.
        tools: opens the app's tools.
        embed: makes what answers a question for vectors.
    """

    def __init__(
        self, hosted: HostedBundle, *, caller: ModelCaller, tools: ToolsFactory, embed: Callable[[], Embedding] | None = None
    ) -> None:
        self._hosted = hosted
        self._embed = embed
        self._caller = caller
        self._tools = tools
        model = hosted.content.part("model")
        self.bundle_name: str | None = hosted.bundle.name
        self.provider: str | None = model["provider"]
        self.model: str | None = model["name"]

    @property
    def guards(self) -> Guards:
        return self._hosted.guards

    @property
    def embedding(self) -> Embedding | None:
        return self._embed() if self._embed else None

    def offered(self, call: Call) -> Sequence[str] | None:
        del call
        return None

    async def answer(self, underway: Underway) -> Turn:
        call, clock = underway.call, underway.clock
        context = ToolContext(unit=call.unit, session_id=call.session_id, metadata=call.metadata, clock=clock)
        tools: Tools = OpenedWhenUsed(self._tools, context)
        return await self._hosted.answer(
            call.messages,
            unit=call.unit or call.request_id,
            caller=self._caller,
            tools=tools if call.shadow_of is None else ReadOnly(tools, self._hosted.content.side_effects),
            clock=clock,
            limit_s=underway.left_s,
            steps=underway.steps,
            guard=underway.guard,
            say=underway.say,
        )


class Canned:
    """The app's declared fallback text, where no bundle serves.

    Args:
        text: what the caller gets.
    """

    bundle_name: str | None = None
    provider: str | None = None
    model: str | None = None
    embedding: Embedding | None = None
    guards = Guards(ToolPolicy(()), {})

    def __init__(self, text: str) -> None:
        self._text = text

    def offered(self, call: Call) -> Sequence[str] | None:
        del call
        return None

    async def answer(self, underway: Underway) -> Turn:
        clock, steps = underway.clock, underway.steps
        steps.append(Step(kind="fallback", name="canned", start_s=clock.now(), details={"action": "canned"}))
        return Turn(
            choices=said(self._text),
            status="error",
            is_fallback=True,
            error_type="nothing_to_serve",
            start_s=clock.now(),
            latency_s=0.0,
            steps=tuple(steps),
        )


def serving_mode(spec: AppSpec | None) -> ServingMode:
    """How the app is served: `hosted`, `proxied` or `external`; an app that declares nothing is hosted."""
    return spec.serving if spec else HOSTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What asking models takes: where they are, how they are doing, and what they said."""

    providers: Providers
    health: TargetHealth = field(default_factory=TargetHealth)
    last_good: LastGoodAnswers = field(default_factory=LastGoodAnswers)

    def caller(self, content: BundleContent) -> ModelCaller:
        """What asks the model of this bundle.

        Raises:
            UsageError: a provider that its chain names is not known.
        """
        chain = chain_of(content.part("model"), content.part("controls"), self.providers)
        return ModelCaller(chain, self.health, bundle_id=content.bundle.bundle_id, last_good=self.last_good)

    def embed(self, content: BundleContent, guards: Guards) -> Callable[[], Embedding] | None:
        """What makes the answers to questions for vectors; None where the bundle names no model for that.

        Raises:
            UsageError: its provider is not known.
        """
        named = content.part("retrieval").get("embedding")
        if not named:
            return None
        caller = ModelCaller(embedding_chain_of(named, content.part("controls"), self.providers), self.health)
        return partial(
            Embedding,
            bundle_name=content.bundle.name,
            provider=named["provider"],
            model=named["name"],
            caller=caller,
            guards=guards,
        )

    def guards(self, content: BundleContent, spec: AppSpec | None) -> Guards:
        """The guards of this bundle's policy.

        Raises:
            UsageError: they cannot be enforced here.
            SpecError: this version cannot read them.
        """
        subject = f"bundle {content.bundle.bundle_id}"
        tier = spec.risk_tier if spec else None
        return guards_of(content, provider=self.providers.named, risk_tier=tier, subject=subject)


def open_serving(bundle: Bundle, files: Mapping[str, bytes], spec: AppSpec | None, models: Models) -> Serving:
    """The bundle, ready to answer in the way that its app declares.

    Raises:
        IntegrityError: a file is not what was hashed.
        UsageError: its code cannot be run, a provider is not known, or its tools have nothing behind them.
    """
    content = BundleContent(bundle, files)
    caller, guards = models.caller(content), models.guards(content, spec)
    embed = models.embed(content, guards)
    if serving_mode(spec) == PROXIED:
        return Proxied(content, caller, guards, embed=embed)
    hosted = HostedBundle(bundle, files, guards=guards)
    tools = tools_behind(hosted.bundle.bundle_id, hosted.content.side_effects, spec)
    return Hosted(hosted, caller=caller, tools=tools, embed=embed)
