"""What an assistant may do in the world: the app's own code, opened for one call at a time."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from workbench.controls.clock import Clock
from workbench.errors import UsageError
from workbench.spec.app import AppSpec


class ToolError(Exception):
    """A tool did nothing this time, and calling it again is safe. Its text is told to the model."""


class BadToolResult(Exception):
    """A tool gave back something that is no JSON object."""

    code = "bad_tool_result"


class Withheld(Exception):
    """A tool was not called, because it may change something and nobody asked for that."""

    code = "withheld"


class Tools(Protocol):
    """What the assistant may do in the world."""

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool answers. May raise ToolError, and is then called again; whatever else it raises is not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """For whom the tools of one call work."""

    unit: str | None
    session_id: str | None
    metadata: Mapping[str, str]
    clock: Clock


ToolsFactory = Callable[[ToolContext], Tools]
"""What `tools` of app.yaml names: opens the app's tools for one call."""


class OpenedWhenUsed:
    """The tools of one call, opened at the first use: opening is the app's own code, and fails as a tool does."""

    def __init__(self, factory: ToolsFactory, context: ToolContext) -> None:
        self._factory = factory
        self._context = context
        self._tools: Tools | None = None

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if self._tools is None:
            self._tools = self._factory(self._context)
        return await self._tools.call(name, arguments)


class ReadOnly:
    """The tools of a copy of a request: those that only read; the others are not called.

    Args:
        tools: what the assistant could do.
        side_effects: name of each tool to what it does to the world; what is not there may do anything.
    """

    def __init__(self, tools: Tools, side_effects: Mapping[str, str]) -> None:
        self._tools = tools
        self._side_effects = side_effects

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool answers.

        Raises:
            Withheld: it is none that only reads.
        """
        if self._side_effects.get(name) != "read":
            raise Withheld
        return await self._tools.call(name, arguments)


def tools_behind(bundle_id: str, declared: Collection[str], spec: AppSpec | None) -> ToolsFactory:
    """What opens the tools that a bundle declares, as its app names it.

    Raises:
        UsageError: the app names nothing, or nothing that this environment has.
    """
    if spec is not None and spec.tools is not None:
        return load_tools(spec.tools)
    if declared:
        raise UsageError(
            f"bundle {bundle_id}",
            seen=f"it declares the tools {', '.join(declared)}, and its app names nothing that runs them",
            needed="`tools: module:callable` in app.yaml",
        )
    return _no_tools


def load_tools(reference: str) -> ToolsFactory:
    """The callable that `tools` of app.yaml names.

    Raises:
        UsageError: there is none in this environment.
    """
    module, _, name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise UsageError(f"app.yaml: tools: {reference}", seen=f"importing {module} failed: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise UsageError(f"app.yaml: tools: {reference}", seen=f"{module} has no callable {name!r}", needed="module:callable")
    factory: ToolsFactory = found
    return factory


def _no_tools(context: ToolContext) -> Tools:
    """Stands behind an assistant that declares no tools; the host refuses every call before it comes here."""
    del context
    raise LookupError("this assistant has no tools")


def is_json_object(value: object) -> bool:
    """Whether it is an object that can be told to a model and stored."""
    if not isinstance(value, dict):
        return False
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True
