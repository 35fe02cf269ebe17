"""Who answers for a model's name: a provider in this process, or one behind an OpenAI-compatible address."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeGuard

from workbench.controls import failures
from workbench.controls.addresses import Address, address_of, variable
from workbench.controls.clock import Clock
from workbench.controls.events import Event
from workbench.controls.failures import FailureKind
from workbench.controls.limits import Limits
from workbench.errors import UsageError

GROUP = "workbench.providers"
"""Entry points that bring a provider into the process: name to callable(clock) that gives a Provider."""


class ProviderError(Exception):
    """The provider did not answer. Its text and code hold neither the key nor anything of a body.

    Args:
        message: for the log.
        code: short and stable, for example `upstream_down`; it becomes the `error_type`.
        may_pass: whether another attempt at the same provider may help.
        retry_after_s: how long the provider asks to be left alone.
        kind: what is done about it, as `failures.HANDLING` says; where none is named it follows from the status, else from `may_pass`.
        status: the HTTP status that the provider answered.
        was_sent: False where the provider cannot have seen the request.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "provider_error",
        may_pass: bool = True,
        retry_after_s: float | None = None,
        kind: FailureKind | None = None,
        status: int | None = None,
        was_sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind or _kind(status, may_pass=may_pass)
        self.may_pass = may_pass and failures.may_pass(self.kind)
        self.retry_after_s = retry_after_s
        self.status = status
        self.was_sent = was_sent


class NotAsked(ProviderError):
    """The provider was not asked at all: what is known of it, or the load of this process, spoke against it."""

    def __init__(self, message: str, *, kind: FailureKind, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code or str(kind), kind=kind, retry_after_s=retry_after_s, was_sent=False)


def _kind(status: int | None, *, may_pass: bool) -> FailureKind:
    if status is not None:
        return failures.kind_of_status(status)
    return FailureKind.TRANSIENT if may_pass else FailureKind.BAD_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How one attempt is sent to a provider that is told."""

    left_s: float = math.inf
    """Until the caller's deadline; the provider is told."""
    idempotency_key: str | None = None
    """The same for all attempts at one question."""
    limits: Limits = field(default_factory=Limits)


class Provider(Protocol):
    """A model provider that speaks OpenAI's chat completions."""

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1) -> Mapping[str, Any]:
        """The chat completion. `attempt` counts from 1. May raise ProviderError."""


class StreamingProvider(Protocol):
    """A provider that also answers piece by piece, and is told how an attempt is sent."""

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Sending = ...) -> Mapping[str, Any]:
        """The chat completion. May raise ProviderError."""

    def stream(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Sending = ...) -> AsyncGenerator[Event]:
        """The answer's events; it ends only when the answer is complete. May raise ProviderError."""


class EmbeddingProvider(Protocol):
    """A provider that turns texts into vectors."""

    async def embed(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Sending = ...) -> Mapping[str, Any]:
        """The embeddings, in OpenAI's form. May raise ProviderError."""


def is_streaming(provider: Provider) -> TypeGuard[StreamingProvider]:
    """Whether it answers piece by piece, and is told how an attempt is sent."""
    return hasattr(provider, "stream")


def is_embedding(provider: object) -> TypeGuard[EmbeddingProvider]:
    """Whether it turns texts into vectors."""
    return hasattr(provider, "embed")


ProviderFactory = Callable[[Clock], Provider]
"""Makes the provider of one turn, whose waiting passes on the turn's clock."""


def installed_provider(name: str) -> ProviderFactory | None:
    """The provider of that name that an installed package brings; None when there is none."""
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    factory: ProviderFactory | None = found.load() if found else None
    return factory


class Providers:
    """Finds the provider that a bundle names. An address in the environment wins over what is installed.

    Args:
        environ: `WORKBENCH_PROVIDER_<NAME>_URL`, `…_KEY` and `…_KEY_FILE` are read from it.
        installed: finds a provider of this process.
    """

    def __init__(self, environ: Mapping[str, str], *, installed: Callable[[str], ProviderFactory | None] = installed_provider) -> None:
        self._environ = environ
        self._installed = installed
        self._known: dict[str, ProviderFactory] = {}

    def named(self, name: str) -> ProviderFactory:
        """The provider's factory; the same one for the same name.

        Raises:
            UsageError: nobody knows where it is, or what the environment says about it is wrong.
        """
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name: str) -> ProviderFactory:
        address = address_of(name, self._environ)
        factory = _over_http(address) if address else self._installed(name)
        if factory is None:
            raise UsageError(
                f"provider {name}",
                seen="it is neither installed nor has it an address",
                needed=f"the environment variable {variable(name, 'URL')}",
                next_step=f"set it to the provider's base URL, for example https://api.example.com/v1, and {variable(name, 'KEY_FILE')}",
            )
        return factory


def _over_http(address: Address) -> ProviderFactory:
    """The provider at an address; all turns share its connections."""
    from workbench.controls.upstream import Upstream  # noqa: PLC0415 - the HTTP client is imported where one is used

    upstream = Upstream(address)
    return lambda _clock: upstream
