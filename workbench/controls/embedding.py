"""Vectors for texts: a call like any other, with its records and the guards of its input, whose answer is numbers."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.controls.asking import ModelCaller
from workbench.controls.guards.engine import Guards
from workbench.controls.model import Call
from workbench.controls.providers import ProviderError
from workbench.controls.question import Asking
from workbench.controls.refusals import no_vectors
from workbench.controls.turn import Turn, said
from workbench.controls.underway import Underway

_FLOAT32 = "<f"


class Embedding:
    """What answers one question for vectors.

    Args:
        bundle_name: of the bundle that decides the model.
        provider: of the model.
        model: the model.
        caller: asks it.
        guards: of the bundle; they look at the texts.
    """

    def __init__(self, *, bundle_name: str | None, provider: str, model: str, caller: ModelCaller, guards: Guards) -> None:
        self.bundle_name = bundle_name
        self.provider: str | None = provider
        self.model: str | None = model
        self.guards = guards
        self._caller = caller
        self.embedding = None
        self.vectors: tuple[tuple[float, ...], ...] = ()
        """In the order of the texts, once it has answered."""

    def offered(self, call: Call) -> Sequence[str] | None:
        del call
        return ()

    async def answer(self, underway: Underway) -> Turn:
        """The turn; what it is about is in `vectors`.

        Raises:
            RequestRefused: the model gave none: there is nothing to fall back on, as the vectors of another are of another space.
        """
        call, clock = underway.call, underway.clock
        start_s = clock.now()
        texts = [message["content"] for message in call.messages]
        asking = Asking(clock=clock, deadline_s=underway.deadline_s, steps=underway.steps, label=call.request_id)
        try:
            response = await self._caller.embed({"model": self.model, "input": texts}, asking)
        except ProviderError as fault:
            raise no_vectors(fault.code, retry_after_s=fault.retry_after_s) from fault
        self.vectors = _vectors(response, len(texts))
        if not self.vectors:
            raise no_vectors("upstream_garbage", retry_after_s=None)
        return Turn(choices=said(""), status="ok", start_s=start_s, latency_s=clock.now() - start_s, steps=tuple(underway.steps))


def _vectors(response: Mapping[str, Any], n: int) -> tuple[tuple[float, ...], ...]:
    """The vectors by the place of their text; none where one is missing, or is no vector."""
    try:
        found = {int(item.get("index", place)): _vector(item["embedding"]) for place, item in enumerate(response["data"])}
        vectors = tuple(found[place] for place in range(n))
        return vectors if all(vectors) else ()
    except (KeyError, TypeError, ValueError, struct.error):
        return ()


def _vector(given: Any) -> tuple[float, ...]:
    """A vector as numbers, also where it came as their bytes."""
    if isinstance(given, str):
        return tuple(value for (value,) in struct.iter_unpack(_FLOAT32, b64decode(given, validate=True)))
    return tuple(float(value) for value in given)
