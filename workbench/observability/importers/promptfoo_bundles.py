"""The pairs of provider and prompt of a promptfoo file, and the bundle that each of them is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from workbench.observability.importers import loose
from workbench.observability.importers.identity import hashed, provider_of, settings_of, version_of
from workbench.observability.importers.source import ExternalBundle
from workbench.spec.bundle import BundleSpec, Model

_KINDS = (
    "chat",
    "completion",
    "completions",
    "messages",
    "responses",
    "embedding",
    "embeddings",
    "assistant",
    "realtime",
    "vision",
    "text",
)
"""Words between provider and model in an id."""
_LONGEST_LABEL = 80


@dataclass(frozen=True, slots=True)
class Pair:
    """A provider and a prompt."""

    provider: str
    label: str | None
    prompt: str
    prompt_label: str

    @property
    def name(self) -> str:
        return hashed(self.provider, self.label, self.prompt)


def pair_of(row: Mapping[str, Any], prompts: Sequence[Any]) -> Pair | None:
    """The provider and the prompt of a row; None when it names no provider."""
    place = row.get("promptIdx")
    column = prompts[place] if isinstance(place, int) and 0 <= place < len(prompts) and isinstance(prompts[place], dict) else {}
    given = row.get("provider") or column.get("provider")
    provider, label = (
        (loose.text(given.get("id")), loose.text(given.get("label"))) if isinstance(given, dict) else (loose.text(given), None)
    )
    if provider is None:
        return None
    said = row.get("prompt")
    said = said if isinstance(said, dict) else {"raw": said}
    prompt_label = loose.text(column.get("label")) or loose.text(said.get("label")) or loose.text(said.get("display")) or "prompt"
    template = loose.text(column.get("raw")) or "\n\n".join(filter(None, (prompt_label, loose.text(row.get("promptId")))))
    return Pair(provider, label if label != provider else None, template, prompt_label)


def bundle_of(pair: Pair, config: Mapping[str, Any], app: str) -> ExternalBundle | None:
    """The bundle of a pair; None when its names cannot stand in one."""
    provider, model = named(pair.provider)
    title = " ".join(f"{pair.label or pair.provider} · {pair.prompt_label.splitlines()[0] if pair.prompt_label else ''}".split())
    try:
        spec = BundleSpec(
            app=app,
            name=title[: _LONGEST_LABEL + len(pair.provider)],
            model=Model(provider=provider, name=model, version=version_of(model), params=_params(pair, config)),
            prompts={"prompt": "prompt.md"},
            external=("orchestration", "environment"),
        )
    except ValidationError:
        return None
    return ExternalBundle(spec=spec, files={"prompt.md": pair.prompt.encode("utf-8", "surrogatepass")})


def named(provider: str) -> tuple[str, str]:
    """(provider, model) of an id such as `openai:chat:gpt-4.1` or `file://provider.py`."""
    prefix, colon, rest = provider.partition(":")
    if not colon or rest.startswith("//") or not rest.strip() or not prefix.strip():
        return (prefix if rest.startswith("//") else provider_of(provider)), provider
    kind, colon, model = rest.partition(":")
    return prefix, model if kind in _KINDS and model.strip() else rest


def _params(pair: Pair, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the provider in the run's configuration."""
    providers = config.get("providers")
    for entry in providers if isinstance(providers, list) else ():
        if not isinstance(entry, dict):
            continue
        if entry.get("id") == pair.provider and (pair.label is None or entry.get("label") in (None, pair.label)):
            return settings_of(loose.mapping(entry, "config"))
        if isinstance(entry.get(pair.provider), dict):
            return settings_of(loose.mapping(entry[pair.provider], "config"))
    return {}
