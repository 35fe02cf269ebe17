"""What a registered bundle holds: its parts as declared, and the bytes of its files, each checked when it is first read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any

from workbench.errors import IntegrityError
from workbench.versions.model import Bundle


class BundleContent:
    """A bundle's parts as declared, and the bytes of its files, each checked against its digest when it is first read.

    Args:
        bundle: the registered bundle.
        files: path relative to the bundle's folder to content.
    """

    def __init__(self, bundle: Bundle, files: Mapping[str, bytes]) -> None:
        self.bundle = bundle
        self.files = files
        self._checked: dict[tuple[str, str], bytes] = {}
        self._parts: Mapping[str, Mapping[str, Any]] = {name: part.content for name, part in bundle.parts.items()}

    def part(self, name: str) -> Mapping[str, Any]:
        """One part as declared; empty when the bundle has none."""
        return self._parts.get(name, {})

    @cached_property
    def side_effects(self) -> Mapping[str, str]:
        """Each tool that the bundle declares, and what it does to the world: `read`, `write` or `unknown`."""
        return {tool["name"]: tool.get("side_effect", "unknown") for tool in self.part("orchestration").get("tools", ())}

    def file(self, reference: Mapping[str, str]) -> bytes:
        """The content behind `{"file": path, "sha256": hex}`.

        Raises:
            IntegrityError: the content is missing or is not what was hashed.
        """
        known = self._checked.get((reference["file"], reference["sha256"]))
        if known is not None:
            return known
        content = self.files.get(reference["file"])
        expected = reference["sha256"].removeprefix("sha256:")
        if content is None or sha256(content).hexdigest() != expected:
            seen = "not stored" if content is None else "its content has another digest"
            raise IntegrityError(f"bundle {self.bundle.bundle_id}: {reference['file']}", seen=seen, needed=f"sha256 {expected[:12]}…")
        self._checked[reference["file"], reference["sha256"]] = content
        return content
