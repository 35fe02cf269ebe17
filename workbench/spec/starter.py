"""The starter: a commented app folder that passes its own checks and shows one good answer to every declared gate."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from workbench.errors import ConflictError, StoreError, UsageError
from workbench.spec.login import login_of_process
from workbench.spec.schemas import SPECS, schema_text

MARKER = "app.yaml"
"""Makes a folder an app folder. It is put in place last, so that a folder that has it is whole."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_TARGET_AFTER = timedelta(days=180)
_SHOWN = 5


def write_starter(folder: Path, app: str, *, login: str | None = None, today: date | None = None) -> tuple[Path, ...]:
    """Write the starter app into a new or empty folder, whole or not at all, and return its files.

    Args:
        folder: where it goes; parents are made.
        app: name of the app.
        login: the operating-system login that becomes the administrator; by default that of this process.
        today: the day from which the dates in it are counted; by default the present one.

    Raises:
        UsageError: when the name is not allowed.
        ConflictError: when something is in the way.
        StoreError: when the folder cannot be written.
    """
    _check_name(app)
    target = folder.absolute()
    _check_free(target)
    day = today or datetime.now(UTC).date()
    words = {
        "app": app,
        "title": re.sub("[_-]+", " ", app).strip().capitalize(),
        "login": json.dumps(login or login_of_process(), ensure_ascii=False),
        "target_date": (day + _TARGET_AFTER).isoformat(),
        "monday": (day - timedelta(days=day.weekday() + 7)).isoformat(),
    }
    content = {name: _filled(text, words) for name, text in _templates()}
    content |= {f"schemas/{name}.schema.json": schema_text(name) for name in SPECS}
    try:
        _write(target, content)
    except FileExistsError as error:
        raise _in_the_way(target) from error
    except OSError as error:
        raise StoreError(
            str(target), seen=error.strerror or str(error), needed="a folder that this user can write", next_step="nothing was written"
        ) from error
    return tuple(target / name for name in sorted(content))


def _check_name(app: str) -> None:
    if _NAME.fullmatch(app):
        return
    near = re.sub(r"[^a-z0-9_-]+", "-", app.lower()).strip("-_")
    near = re.sub(r"^[^a-z]+", "", near)[:63]
    raise UsageError(
        f'app "{app}"',
        seen="the name is not allowed",
        needed="lower-case letters, digits, _ and -, beginning with a letter, at most 63",
        next_step=f"for example {near or 'support'}",
    )


def _check_free(target: Path) -> None:
    if target.is_symlink() and not target.exists():
        raise ConflictError(str(target), seen="it is a link that leads nowhere", needed="a new or empty folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise _in_the_way(target)


def _in_the_way(target: Path) -> ConflictError:
    if not target.is_dir():
        return ConflictError(str(target), seen="it is a file", needed="a new or empty folder")
    names = sorted(entry.name for entry in target.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ConflictError(
        str(target),
        seen=f"it holds {', '.join(names[:_SHOWN])}{more}",
        needed="a new or empty folder",
        next_step="nothing was written; choose another folder",
    )


def _templates() -> Iterator[tuple[str, str]]:
    def below(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
        for entry in folder.iterdir():
            if entry.name == "__pycache__":  # an installer compiles what is code
                continue
            if entry.is_dir():
                yield from below(entry, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.read_text(encoding="utf-8")

    yield from below(files("workbench.spec") / "starter_files", "")


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace("{{" + word + "}}", value)
    return text


def _write(target: Path, content: Mapping[str, str]) -> None:
    """Write all files beside the target and move them there: in one step where it is new, the marker last where it is empty."""
    is_new = not target.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = (target.parent if is_new else target) / f".starter-{secrets.token_hex(4)}"
    try:
        for name, text in content.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if is_new:
            _move_folder(draft, target)
        else:
            _move_entries(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move_folder(draft: Path, target: Path) -> None:
    if target.exists():
        raise FileExistsError(str(target))
    draft.rename(target)


def _move_entries(draft: Path, target: Path) -> None:
    if [entry.name for entry in target.iterdir()] != [draft.name]:
        raise FileExistsError(str(target))
    moved: list[Path] = []
    try:
        for entry in sorted(draft.iterdir(), key=lambda entry: entry.name == MARKER):
            entry.rename(target / entry.name)
            moved.append(target / entry.name)
    except OSError:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
