"""What may change under a bundle without changing its digest, one sentence each. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from workbench.spec.bundle import BundleSpec, Retrieval
from workbench.spec.controls import Controls, ModelLink

_ALIASES = frozenset({"latest", "stable", "auto", "default", "current", "newest", "preview", "main", "master", "head", "live", "prod"})


def unpinned(spec: BundleSpec) -> tuple[str, ...]:
    """One sentence for each thing that is not pinned, in the order of the spec; empty when all is.

    A version pins when it has a digit and no word such as `latest`; a snapshot when it has no such word.
    """
    return (
        *_model(spec),
        *_code(spec),
        *(_retrieval(spec.retrieval) if spec.retrieval else ()),
        *(_fallback(spec.controls) if spec.controls else ()),
        *_environment(spec),
    )


def is_alias(version: str) -> bool:
    """Whether the name points to something that moves, for example `latest` or `v2-stable`."""
    return not _ALIASES.isdisjoint(re.split(r"[^a-z0-9]+", version.lower()))


def _version(what: str, version: str | None, who: str) -> Iterator[str]:
    if not version:
        yield f"{what} has no version: {who} may change it"
    elif is_alias(version) or not any(letter.isdigit() for letter in version):
        yield f"{what} has the version `{version}`, which is a moving name: {who} may change it"


def _model(spec: BundleSpec) -> Iterator[str]:
    yield from _version(f"model {spec.model.provider}/{spec.model.name}", spec.model.version, "its provider")


def _code(spec: BundleSpec) -> Iterator[str]:
    flow = spec.orchestration
    if flow.entry and not flow.code and flow.artifact is None:
        yield f"entry point {flow.entry} has neither code files nor an artifact digest: its code may change"


def _retrieval(retrieval: Retrieval) -> Iterator[str]:
    for source in retrieval.sources:
        yield from _content(f"source {source.name}", source.file, source.snapshot)
    index = retrieval.index
    if index:
        yield from _content(f"index {index.name or index.file}", index.file or index.digest, index.snapshot)
    embedding = retrieval.embedding
    if embedding:
        yield from _version(f"embedding {embedding.provider}/{embedding.name}", embedding.version, "its provider")


def _fallback(controls: Controls) -> Iterator[str]:
    for link in controls.fallback:
        if isinstance(link, ModelLink):
            yield from _version(f"fallback model {link.provider}/{link.name}", link.version, "its provider")


def _content(what: str, pinned_by: str | None, snapshot: str | None) -> Iterator[str]:
    """`pinned_by` is a file or a digest, which pins whatever the snapshot is called."""
    if pinned_by:
        return
    if not snapshot:
        yield f"{what} has no file, digest or snapshot: its content may change"
    elif is_alias(snapshot):
        yield f"{what} has the snapshot `{snapshot}`, which is a moving name: its content may change"


def _environment(spec: BundleSpec) -> Iterator[str]:
    if spec.environment is None or not (spec.environment.lock or spec.environment.image):
        yield "environment has no lock file and no image digest: the libraries under the code may change"
