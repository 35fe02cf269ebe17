"""The nouns of versioning: a bundle, its parts, and the difference of two bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workbench.spec.bundle import PartName


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a bundle."""

    name: PartName
    digest: str
    """`sha256:` over the part's canonical JSON."""
    content: Mapping[str, Any]
    """The part as declared, each file replaced by `{"file": relative path, "sha256": hex}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Everything that decides an assistant's behaviour, under one content digest."""

    app: str
    name: str
    bundle_id: str
    """`app@<first 12 hex of digest>`."""
    digest: str
    """`sha256:<64 hex>` over the canonical JSON (RFC 8785) of the whole bundle."""
    parts: Mapping[PartName, Part]
    external: tuple[PartName, ...]
    """Parts that the client runs itself."""
    unpinned: tuple[str, ...]
    """One sentence for each thing that may change without changing the digest."""

    def __str__(self) -> str:
        return self.bundle_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredBundle:
    """A bundle as the registry knows it."""

    bundle: Bundle
    registered_at: datetime
    registered_by: str
    is_new: bool = False
    """True when this call registered it, false when it was known."""
    namesakes: tuple[str, ...] = ()
    """After a registration: ids of the app's other bundles of this name, oldest first. With any, the name alone means none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file that differs between two bundles."""

    path: str
    """In the new bundle; of a removed file, in the old one."""
    kind: str
    """`added`, `removed`, `changed`, or `moved` when only its path differs."""
    diff: str
    """Unified text, or a sentence for binary content; empty when it was only moved."""
    old_path: str | None = None
    """Where it was in the old bundle, when that is another path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChange:
    """One part that differs: its settings (`path: old → new` lines) and its files."""

    name: PartName
    kind: str
    settings: tuple[str, ...]
    files: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDiff:
    """What changed from one bundle to another; neither parts nor labels means that they are the same."""

    old: Bundle
    new: Bundle
    parts: tuple[PartChange, ...]
    labels: tuple[str, ...] = ()
    """`name: old → new` and `app: old → new`, where they differ."""
