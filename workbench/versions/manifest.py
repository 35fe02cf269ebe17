"""The hashed form of a bundle: the spec with every file replaced by its path and digest. Pure."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from workbench.errors import SpecError, UsageError
from workbench.spec.bundle import BundleSpec, PartName
from workbench.versions.canonical import canonical_json, digest, read_canonical
from workbench.versions.model import Bundle, Part
from workbench.versions.pinning import unpinned

FORMAT = 1
"""Grows when the same spec would be hashed otherwise."""
PARTS: tuple[PartName, ...] = get_args(PartName)
CODE_PLACE = "orchestration.code"
"""The place of every code file."""

Lookup = Callable[[str, str], Mapping[str, bytes]]
"""(path as declared, place in the spec) to the files meant: path relative to the bundle folder, and content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReference:
    """A file that a part names."""

    part: PartName
    place: str
    """Where the spec names it, for example `prompts.system` or `retrieval.sources[articles].file`; all code files share one place."""
    path: str
    """POSIX, relative to the bundle folder."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBundle:
    """A bundle as it lies on disk: its identity, its spec and its files by path."""

    bundle: Bundle
    spec: BundleSpec
    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]


def assemble(spec: BundleSpec, lookup: Lookup) -> ReadBundle:
    """The bundle of a spec, with the files that `lookup` finds.

    Raises:
        SpecError: when a file is refused by `lookup`, or a setting is nothing that JSON holds exactly.
    """
    content: dict[str, Any] = spec.model_dump(mode="python", exclude_defaults=True)
    files: dict[str, bytes] = {}

    def named(declared: str, place: str) -> list[dict[str, str]]:
        found = lookup(declared, place)
        files.update(found)
        return [{"file": path, "sha256": hashlib.sha256(found[path]).hexdigest()} for path in sorted(found)]

    _replace_files(content, named)
    manifest = {
        "format": FORMAT,
        "app": spec.app,
        "name": spec.name,
        "external": sorted(set(spec.external)),
        "parts": {name: content[name] for name in PARTS if name in content},
    }
    try:
        canonical = canonical_json(manifest)
    except UsageError as error:
        place = error.subject.partition("$.parts.")[2] or error.subject.partition("$.")[2] or error.subject
        raise SpecError(f"bundle.yaml: {place}", seen=error.seen, needed=error.needed, next_step=error.next_step) from error
    stored = read_canonical(canonical)
    return ReadBundle(bundle=bundle_of(stored, digest(canonical), unpinned(spec)), spec=spec, files=files, manifest=stored)


def bundle_of(manifest: Mapping[str, Any], whole: str, not_pinned: tuple[str, ...]) -> Bundle:
    """The bundle that a manifest describes.

    Args:
        manifest: as `assemble` makes it.
        whole: its digest.
        not_pinned: the sentences of `pinning.unpinned`.
    """
    contents = cast("Mapping[PartName, Mapping[str, Any]]", manifest["parts"])
    parts = {name: Part(name=name, digest=digest(contents[name]), content=contents[name]) for name in PARTS if name in contents}
    return Bundle(
        app=manifest["app"],
        name=manifest["name"],
        bundle_id=f"{manifest['app']}@{whole.removeprefix('sha256:')[:12]}",
        digest=whole,
        parts=parts,
        external=tuple(manifest["external"]),
        unpinned=not_pinned,
    )


def file_references(parts: Mapping[PartName, Part]) -> tuple[FileReference, ...]:
    """Every file that the parts name, in the order of the parts. Only the places that hold files are looked at."""
    return tuple(reference for part in parts.values() for reference in _references(part))


def without_files(part: Part) -> dict[str, Any]:
    """The part's settings: a named file as its path only, code files left out."""
    content: dict[str, Any] = copy.deepcopy(dict(part.content))
    for _, holder, key in _slots(part.name, content):
        holder[key] = holder[key]["file"]
    if part.name == "orchestration":
        content.pop("code", None)
    return content


def _references(part: Part) -> Iterator[FileReference]:
    found = [(_by_name(place, holder), holder[key]) for place, holder, key in _slots(part.name, dict(part.content))]
    if part.name == "orchestration":
        found += [(CODE_PLACE, item) for item in part.content.get("code", ())]
    for place, item in found:
        yield FileReference(part=part.name, place=place, path=item["file"], sha256=item["sha256"])


def _by_name(place: str, holder: Mapping[str, Any]) -> str:
    """The place with a source's name instead of its number, which changes when another source is put before it."""
    return f"retrieval.sources[{holder['name']}].file" if place.startswith("retrieval.sources") else place


def _replace_files(content: dict[str, Any], named: Callable[[str, str], list[dict[str, str]]]) -> None:
    """Puts path and digest where the spec names a file; code folders become their files, each once."""
    orchestration = content.get("orchestration", {})
    if orchestration.get("code"):
        entries = [entry for i, declared in enumerate(orchestration["code"]) for entry in named(declared, f"orchestration.code[{i}]")]
        once = {entry["file"]: entry for entry in entries}
        orchestration["code"] = [once[path] for path in sorted(once)]
    for part in PARTS:
        for place, holder, key in _slots(part, content.get(part, {})):
            holder[key] = named(holder[key], place)[0]


def _slots(part: PartName, content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where a part may name one file: the place's name, and the mapping and key that hold it."""
    match part:
        case "prompts":
            yield from ((f"prompts.{name}", content, name) for name in content)
        case "retrieval":
            holders = [(f"sources[{i}]", source) for i, source in enumerate(content.get("sources", ()))]
            holders.append(("index", content.get("index", {})))
            yield from ((f"retrieval.{place}.file", holder, "file") for place, holder in holders if "file" in holder)
        case "policy":
            yield from ((f"policy.{key}", content, key) for key in ("rules", "guards") if key in content)
        case "environment":
            yield from (("environment.lock", content, key) for key in ("lock",) if key in content)
