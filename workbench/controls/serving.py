"""The seam of the serving modes: what stands behind an assignment and answers a call.

`hosted` runs the bundle here. `proxied` and `external` will be further implementations of `Serving`; until then their apps are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from workbench.controls.guarding import Guards, Unguarded
from workbench.controls.hosting import HostedBundle
from workbench.controls.model import Call
from workbench.controls.providers import ProviderFactory, Providers
from workbench.controls.tools import OpenedWhenUsed, ToolContext, ToolsFactory, tools_behind
from workbench.controls.turn import Step, Turn, said
from workbench.controls.underway import Underway
from workbench.spec.app import AppSpec
from workbench.versions.model import Bundle

HOSTED = "hosted"
"""The mode in which the workbench runs the bundle."""


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

    def offered(self, call: Call) -> Sequence[str] | None:
        """The names of the tools that the request itself offers; None where the bundle's tools count."""

    async def answer(self, underway: Underway) -> Turn:
        """The turn that answers the call in time; its steps are added as they happen."""


class Hosted:
    """A bundle that runs in this process.

    Args:
        hosted: the loaded bundle.
        provider: makes the provider of its model.
        tools: opens the app's tools.
    """

    def __init__(self, hosted: HostedBundle, *, provider: ProviderFactory, tools: ToolsFactory) -> None:
        self._hosted = hosted
        self._provider = provider
        self._tools = tools
        model = hosted.content.part("model")
        self.bundle_name: str | None = hosted.bundle.name
        self.provider: str | None = model["provider"]
        self.model: str | None = model["name"]

    @property
    def guards(self) -> Guards:
        return self._hosted.guards

    def offered(self, call: Call) -> Sequence[str] | None:
        del call
        return None

    async def answer(self, underway: Underway) -> Turn:
        call, clock = underway.call, underway.clock
        context = ToolContext(unit=call.unit, session_id=call.session_id, metadata=call.metadata, clock=clock)
        return await self._hosted.answer(
            call.messages,
            unit=call.unit or call.request_id,
            provider=self._provider(clock),
            tools=OpenedWhenUsed(self._tools, context),
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
    guards: Guards = Unguarded()

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


def serving_mode(spec: AppSpec | None) -> str:
    """How the app is served: `hosted`, `proxied` or `external`; an app that declares nothing is hosted."""
    return spec.serving if spec else HOSTED


def open_hosted(bundle: Bundle, files: Mapping[str, bytes], spec: AppSpec | None, providers: Providers) -> Hosted:
    """The bundle, ready to answer.

    Raises:
        IntegrityError: a file is not what was hashed.
        UsageError: its code cannot be run, its provider is not known, or its tools have nothing behind them.
    """
    hosted = HostedBundle(bundle, files)
    provider = providers.named(hosted.content.part("model")["provider"])
    return Hosted(hosted, provider=provider, tools=tools_behind(hosted.bundle.bundle_id, hosted.content.side_effects, spec))
