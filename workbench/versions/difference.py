"""What changed from one bundle to another, in lines that a person can read. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from workbench.errors import UnknownSubject
from workbench.spec.bundle import PartName
from workbench.spec.faults import suggestion
from workbench.versions.canonical import canonical_json, digest
from workbench.versions.manifest import PARTS, file_references, without_files
from workbench.versions.model import Bundle, BundleDiff, FileChange, PartChange
from workbench.versions.moves import moved

MAX_TEXT_BYTES = 200_000
"""Larger files are told by size and digest."""
_MAX_VALUE = 300
_NOT_SET = "(not set)"
_ABSENT = object()
_SHAPES = (Mapping, list | tuple)
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) != "\t"} | {0x7F: 0x2421}
"""Control characters as pictures: a diff is shown in terminals."""


def diff(old: Bundle, old_files: Mapping[str, bytes], new: Bundle, new_files: Mapping[str, bytes]) -> BundleDiff:
    """The parts that differ, each with its settings and files.

    Args:
        old: the bundle to start from.
        old_files: its files by path.
        new: the bundle that it became.
        new_files: its files by path.
    """
    changes = (_part_change(name, old, old_files, new, new_files) for name in PARTS)
    about = _settings({"app": old.app, "name": old.name}, {"app": new.app, "name": new.name})
    return BundleDiff(old=old, new=new, parts=tuple(change for change in changes if change), labels=about)


def checked_parts(names: Collection[str]) -> tuple[PartName, ...]:
    """The parts of these names, in the order of a bundle.

    Raises:
        UnknownSubject: a bundle has no part of that name.
    """
    for name in names:
        if name not in PARTS:
            raise UnknownSubject(f'part "{name}"', seen=f"a bundle has no such part{suggestion(name, PARTS)}", needed=", ".join(PARTS))
    return tuple(part for part in PARTS if part in names)


def _part_change(
    name: PartName, old: Bundle, old_files: Mapping[str, bytes], new: Bundle, new_files: Mapping[str, bytes]
) -> PartChange | None:
    before, after = old.parts.get(name), new.parts.get(name)
    external = _settings({"external": name in old.external}, {"external": name in new.external})
    if (before and before.digest) == (after and after.digest) and not external:
        return None
    kind = "added" if before is None and after else "removed" if after is None and before else "changed"
    settings = _settings(without_files(before) if before else {}, without_files(after) if after else {})
    return PartChange(
        name=name, kind=kind, settings=(*settings, *external), files=tuple(_file_changes(name, old, old_files, new, new_files))
    )


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """One line `path: old → new` for each value that differs, in the order of the paths."""
    return tuple(f"{path}: {_shown(before)} → {_shown(after)}" for path, before, after in _differences("", old, new))


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ, as deep as both have the same shape; `_ABSENT` stands for what is not there."""
    are_alike = any(isinstance(old, shape) and isinstance(new, shape) for shape in _SHAPES)
    if not are_alike:
        if old is _ABSENT or new is _ABSENT or canonical_json(old) != canonical_json(new):
            yield path, old, new
        return
    before, after = _children(old), _children(new)
    for step in sorted(before.keys() | after.keys()):
        yield from _differences(f"{path}{step}".lstrip("."), before.get(step, _ABSENT), after.get(step, _ABSENT))
    kept = [[step for step in side if step in before and step in after] for side in (before, after)]
    if kept[0] != kept[1] and not isinstance(old, Mapping):
        yield f"{path} (order)", [step[1:-1] for step in before], [step[1:-1] for step in after]


def _children(value: Any) -> dict[str, Any]:
    """What lies below a value, by the step that leads there; items of a list that have names go by them."""
    if isinstance(value, Mapping):
        return {f".{key}": item for key, item in value.items()}
    names = [item.get("name") if isinstance(item, Mapping) else None for item in value]
    are_names = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return {f"[{names[i] if are_names else i}]": item for i, item in enumerate(value)}


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return _NOT_SET
    is_plain = isinstance(value, str) and value.isprintable() and value == value.strip() and value and not _reads_as_other(value)
    text = str(value) if is_plain else json.dumps(value, ensure_ascii=False).translate(_VISIBLE)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}… ({len(text)} characters)"


def _reads_as_other(text: str) -> bool:
    """Whether the bare text would look like a number, a truth value or nothing."""
    try:
        json.loads(text)
    except ValueError:
        return text == _NOT_SET
    return True


def _file_changes(
    part: PartName, old: Bundle, old_files: Mapping[str, bytes], new: Bundle, new_files: Mapping[str, bytes]
) -> Iterator[FileChange]:
    before, after = ({each.path: each for each in file_references(bundle.parts) if each.part == part} for bundle in (old, new))
    came_from = {path: path for path in before.keys() & after.keys()} | moved(before, after)
    for path in sorted({*after, *(before.keys() - set(came_from.values()))}):
        old_path = came_from.get(path) if path in after else path
        old_content = None if old_path is None else old_files[old_path]
        new_content = new_files[path] if path in after else None
        if old_content != new_content or old_path != path:
            yield _file_change(path, old_content, new_content, old_path=old_path if old_path != path else None)


def _file_change(path: str, old: bytes | None, new: bytes | None, *, old_path: str | None) -> FileChange:
    kind = "added" if old is None else "removed" if new is None else "moved" if old == new else "changed"
    return FileChange(path=path, kind=kind, diff=file_diff(path, old, new, old_path=old_path), old_path=old_path)


def file_diff(path: str, old: bytes | None, new: bytes | None, *, old_path: str | None = None) -> str:
    """A unified diff with three lines of context, or a sentence with sizes and digests for binary and large content.

    Args:
        path: as it is named in the bundle.
        old: content before; None when the file is new.
        new: content after; None when the file is gone.
        old_path: how it was named before, where that differs.
    """
    if old == new:
        return ""
    old_lines, new_lines = _lines(old), _lines(new)
    if old_lines is None or new_lines is None:
        return f"{_measured(old)} → {_measured(new)}; shown by digest because it is binary or large"
    names = ("/dev/null" if old is None else f"a/{old_path or path}", "/dev/null" if new is None else f"b/{path}")
    return "\n".join(_visible(line) for line in difflib.unified_diff(old_lines, new_lines, *names, n=3, lineterm="\n"))


def _visible(line: str) -> str:
    is_whole = line.endswith("\n")
    text = line.removesuffix("\n").translate(_VISIBLE)
    return text if is_whole else f"{text}\n\\ No newline at end of file"


def _lines(content: bytes | None) -> list[str] | None:
    """The lines with their ends, or None for what is not shown as text."""
    if content is None:
        return []
    if len(content) > MAX_TEXT_BYTES or b"\0" in content:
        return None
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        return None
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _measured(content: bytes | None) -> str:
    return _NOT_SET if content is None else f"{len(content):,} bytes {digest(content)[:19]}…"
