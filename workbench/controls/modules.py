"""Code that runs from memory: the Python files of a bundle, imported under a private name, never from the checkout."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import PurePosixPath
from types import CodeType, ModuleType
from typing import Any

from workbench.errors import UsageError


class _Source(importlib.abc.InspectLoader):
    """One module's source; tracebacks show its lines."""

    def __init__(self, content: bytes, path: str, *, is_package: bool) -> None:
        self.content, self.path, self._is_package = content, path, is_package

    def get_source(self, fullname: str) -> str:
        del fullname
        return importlib.util.decode_source(self.content)

    def is_package(self, fullname: str) -> bool:
        del fullname
        return self._is_package

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return compile(self.content, self.path, "exec", dont_inherit=True)

    def get_filename(self, fullname: str) -> str:
        del fullname
        return self.path


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of all bundles that were loaded in this process."""

    def __init__(self) -> None:
        self.sources: dict[str, _Source] = {}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        source = self.sources.get(fullname)
        return None if source is None else importlib.util.spec_from_loader(fullname, source, origin=source.path)


_FINDER = _Finder()
_ROOT = "workbench_hosted_"
_CHANGING = threading.RLock()
"""Held while modules come or go: one bundle may be loaded by one thread while another forgets it."""


def load_entry(entry: str, files: Mapping[str, bytes], *, digest: str, subject: str) -> Any:
    """The object that `package.module:name` names, imported from these files alone.

    Modules of a bundle import each other relatively (`from .retrieval import …`), so that two versions live side by side.

    Args:
        entry: as in bundle.yaml.
        files: path relative to the bundle's folder to content.
        digest: the bundle's digest; makes the private name.
        subject: what errors are about.

    Raises:
        UsageError: the bundle holds no such module or object, or it cannot be imported.
    """
    module_name, _, object_name = entry.partition(":")
    module = load_module(module_name, files, digest=digest, subject=subject)
    found = getattr(module, object_name, None)
    if not callable(found):
        raise UsageError(
            subject, seen=f"entry point {entry!r}: the module has no callable {object_name!r}", needed="package.module:callable"
        )
    return found


def load_module(name: str, files: Mapping[str, bytes], *, digest: str, subject: str) -> ModuleType:
    """The module of that dotted name, from these files.

    Raises:
        UsageError: the files do not hold it, or it cannot be imported.
    """
    root = f"{_ROOT}{digest.removeprefix('sha256:')[:32]}"
    full = f"{root}.{name}"
    with _CHANGING:
        if full not in sys.modules:
            _announce(root, files)
            if full not in _FINDER.sources:
                raise UsageError(subject, seen=f"its code has no module {name!r}", needed="the module's file in orchestration.code")
        try:
            return importlib.import_module(full)
        except Exception as error:
            seen = f"importing {name} failed: {type(error).__name__}: {error}"
            needed = "code that can be imported from the bundle's files and the environment"
            raise UsageError(subject, seen=seen, needed=needed) from error


def forget_modules(bundle_id: str) -> None:
    """Let go of the bundle's modules and their source. A call that still runs on them goes on, but imports none of them any more."""
    root = f"{_ROOT}{bundle_id.rpartition('@')[2]}"
    with _CHANGING:
        for kept in (sys.modules, _FINDER.sources):
            for name in [name for name in tuple(kept) if name.startswith(root)]:
                kept.pop(name, None)


def _inside(path: str) -> str:
    """The path without the steps up from the bundle's folder: `../../assistant/agent.py` is `assistant/agent.py`."""
    return "/".join(part for part in PurePosixPath(path).parts if part != "..")


def _announce(root: str, files: Mapping[str, bytes]) -> None:
    """Make the Python files importable below `root`."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    found = {_inside(path): content for path, content in files.items() if path.endswith(".py")}
    packages = {parent.as_posix() for path in found for parent in PurePosixPath(path).parents if parent.as_posix() != "."}
    _FINDER.sources[root] = _Source(b"", f"<{root}>", is_package=True)
    for package in packages:
        _FINDER.sources[f"{root}.{package.replace('/', '.')}"] = _Source(b"", f"<{root}>/{package}", is_package=True)
    for path, content in found.items():
        dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        is_package = path.endswith("/__init__.py")
        _FINDER.sources[f"{root}.{dotted}"] = _Source(content, f"<{root}>/{path}", is_package=is_package)
