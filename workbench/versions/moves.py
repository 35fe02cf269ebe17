"""Which file of one bundle is which of another, where its path changed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from workbench.versions.manifest import CODE_PLACE, FileReference


def moved(before: Mapping[str, FileReference], after: Mapping[str, FileReference]) -> dict[str, str]:
    """New path to old path of the files that are the same one elsewhere, the likeliest pairs first; each file is in one pair at most."""
    come = defaultdict(set)
    for path in after.keys() - before.keys():
        for mark in _marks(after[path]):
            come[mark].add(path)
    gone = (before[path] for path in before.keys() - after.keys())
    alike = {(old.path, path) for old in gone for mark in _marks(old) for path in come[mark]}
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for old_path, path in sorted(alike, key=lambda pair: (_unlikeness(before[pair[0]], after[pair[1]]), pair)):
        if path not in pairs and old_path not in taken:
            pairs[path] = old_path
            taken.add(old_path)
    return pairs


def _marks(file: FileReference) -> tuple[str, ...]:
    """By what a file is known under another path: its place in the spec, its name, its content."""
    return (*(() if file.place == CODE_PLACE else (f"place {file.place}",)), f"name {PurePosixPath(file.path).name}", file.sha256)


def _unlikeness(old: FileReference, new: FileReference) -> tuple[bool, bool, int, int]:
    """Smaller for likelier pairs: the same place in the spec, then the same content, then the most folders in common from the end."""
    parts = [PurePosixPath(file.path).parts for file in (old, new)]
    tail = next((n for n, (a, b) in enumerate(zip(*map(reversed, parts), strict=False)) if a != b), min(map(len, parts)))
    return (old.place == CODE_PLACE or old.place != new.place, old.sha256 != new.sha256, -tail, abs(len(parts[0]) - len(parts[1])))
