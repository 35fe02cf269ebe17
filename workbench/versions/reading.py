"""Bundles from disk. A path that leads outside the app folder is refused, by whatever way it does."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from workbench.errors import SpecError
from workbench.spec.bundle import BundleSpec
from workbench.spec.loading import load_spec
from workbench.versions.guards import declared_guards
from workbench.versions.manifest import Lookup, ReadBundle, assemble

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Largest file that a bundle keeps."""
MAX_BUNDLE_BYTES = 256 * 1024 * 1024
"""Most that the files of one bundle hold together."""
SPEC_FILE = "bundle.yaml"
_CACHE = "__pycache__"
"""Where the interpreter keeps compiled code, which it uses only beside its source; whoever runs a bundle compiles the source."""
_TOO_LARGE = {
    "retrieval": "name its `digest` or an immutable `snapshot` instead",
    "orchestration": "build it and name the `artifact` digest instead",
}


def read_bundle(bundle_dir: Path) -> ReadBundle:
    """The bundle of a folder with a `bundle.yaml`, and every file that it names.

    Args:
        bundle_dir: the folder, or its spec file.

    Raises:
        SpecError: names the file and the place in the spec.
    """
    path = bundle_dir if bundle_dir.is_file() else bundle_dir / SPEC_FILE
    spec = load_spec(BundleSpec, path)
    read = assemble(spec, FolderFiles(path, root=app_folder_of(path.parent) or path.parent).find)
    declared_guards(read)
    return read


def app_folder_of(folder: Path) -> Path | None:
    """The nearest folder with an `app.yaml`, from this one upwards; None when there is none."""
    start = folder.absolute()
    return next((parent for parent in (start, *start.parents) if (parent / "app.yaml").is_file()), None)


def given_files(files: Mapping[str, bytes]) -> Lookup:
    """Finds files among given contents, where no folder exists; a path that ends in `/` names all below it."""

    def find(declared: str, place: str) -> Mapping[str, bytes]:
        found = {path: content for path, content in files.items() if path == declared or path.startswith(f"{declared.rstrip('/')}/")}
        if not found or (declared not in found and not place.startswith("orchestration.code")):
            raise SpecError(
                f"{SPEC_FILE}: {place}", seen=f"{declared} was not given", needed="the content of every file that the spec names"
            )
        return found

    return find


class FolderFiles:
    """The files of one bundle, read from disk and held to the limits.

    Args:
        spec_path: the `bundle.yaml`; declared paths are relative to its folder.
        root: no path may lead out of this folder.
    """

    def __init__(self, spec_path: Path, *, root: Path) -> None:
        self._name = spec_path.name
        self._base = spec_path.parent.absolute()
        self._root = root.resolve()
        self._room = MAX_BUNDLE_BYTES

    def find(self, declared: str, place: str) -> Mapping[str, bytes]:
        """Content by path relative to the bundle folder: of one file, or of all files below a code folder."""
        path = self._inside(declared, place)
        if path.is_dir() and place.startswith("orchestration.code"):
            found = {self._relative(file, place): self._content(file, place) for file in self._below(path, place, ())}
            if not found:
                raise self._refusal(place, f"the folder {declared} holds no files", "a folder with code")
            return found
        return {self._relative(path, place): self._content(path, place)}

    def _inside(self, declared: str, place: str) -> Path:
        """The declared path as an absolute one without `..`, if it stays inside the app folder."""
        if not declared.strip() or "\0" in declared:
            raise self._refusal(place, f"{declared!r} is no path", "a path relative to the bundle folder")
        if Path(declared).is_absolute():
            raise self._refusal(place, f"{declared} is an absolute path", "a path relative to the bundle folder")
        path = Path(os.path.normpath(self._base / declared))
        self._check_inside(path, place)
        return path

    def _check_inside(self, path: Path, place: str) -> None:
        try:
            is_inside = path.resolve().is_relative_to(self._root)
        except (OSError, RuntimeError) as error:
            raise self._refusal(place, f"{path.name}: {error}", "a link that leads to a file") from error
        if not is_inside:
            shown = os.path.relpath(path, self._base)
            raise self._refusal(
                place, f"{shown} leads outside the app folder {self._root}", "a file inside it", "copy the file into the app folder"
            )

    def _below(self, folder: Path, place: str, above: tuple[Path, ...]) -> Iterator[Path]:
        """All files below a folder, by name; folders that link back to themselves are refused."""
        if folder.resolve() in above:
            raise self._refusal(place, f"{folder} links back to a folder above it", "a folder without circles")
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise self._refusal(place, f"{folder}: {error.strerror}", "a folder that this user may read") from error
        for entry in entries:
            if entry.name == _CACHE:
                continue
            self._check_inside(entry, place)
            if entry.is_dir():
                yield from self._below(entry, place, (*above, folder.resolve()))
            else:
                yield entry

    def _relative(self, path: Path, place: str) -> str:
        name = Path(os.path.relpath(path, self._base)).as_posix()
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise self._refusal(place, f"the file name {name!r} is not UTF-8", "a file name in UTF-8", "rename the file") from error
        return name

    def _check_readable(self, path: Path, place: str) -> None:
        """Return when the file is no compiled code: Python would run it, and a difference of two bundles could not show it."""
        if place.startswith("orchestration.code") and path.suffix == ".pyc":
            shown = os.path.relpath(path, self._base)
            raise self._refusal(place, f"{shown} is compiled code", "its source", "delete it, and add the .py file that it was made from")

    def _content(self, path: Path, place: str) -> bytes:
        self._check_readable(path, place)
        shown = os.path.relpath(path, self._base)
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
                raise self._refusal(place, f"{shown} is {kind}", "a file")
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError as error:
            raise self._refusal(place, f"{shown} does not exist", "a file in the app folder", "add the file or correct the path") from error
        except OSError as error:
            raise self._refusal(place, f"{shown}: {error.strerror}", "a file that this user may read") from error
        self._check_size(len(content), shown, place)
        return content

    def _check_size(self, size: int, shown: str, place: str) -> None:
        advice = _TOO_LARGE.get(place.partition(".")[0], "make it smaller")
        if size > MAX_FILE_BYTES:
            raise self._refusal(place, f"{shown} is larger than 32 MiB", "at most 32 MiB in one file", advice)
        self._room -= size
        if self._room < 0:
            raise self._refusal(place, f"with {shown} the bundle's files exceed 256 MiB", "at most 256 MiB in one bundle", advice)

    def _refusal(self, place: str, seen: str, needed: str, next_step: str = "") -> SpecError:
        return SpecError(f"{self._name}: {place}", seen=seen, needed=needed, next_step=next_step)
