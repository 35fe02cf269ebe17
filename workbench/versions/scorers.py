"""The code of an app's scorers, read from its folder, so that it is declared with its content."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import SpecError
from workbench.spec.online import OnlineSpec
from workbench.versions.reading import FolderFiles

SPEC_FILE = "online.yaml"
MOST_CHARACTERS = 256 * 1024
"""Of all files of an app's scorers together: they are stored with each declaration."""


def with_files(online: OnlineSpec, folder: Path) -> OnlineSpec:
    """The spec with what the files of `code` hold.

    Raises:
        SpecError: a file cannot be read, is no text, leads out of the folder, or all are too large; or somebody wrote `files` by hand.
    """
    if online.files:
        raise SpecError(f"{SPEC_FILE}: files", seen="it is written there", needed="the paths in `code`; their content is put in here")
    reader = FolderFiles(folder / SPEC_FILE, root=folder)
    files = {path: _text(path, reader.find(path, f"code[{place}]")[path]) for place, path in enumerate(online.code)}
    size = sum(map(len, files.values()))
    if size > MOST_CHARACTERS:
        raise SpecError(f"{SPEC_FILE}: code", seen=f"{size:,} characters", needed=f"at most {MOST_CHARACTERS:,} in all files together")
    return online.model_copy(update={"files": files})


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{SPEC_FILE}: code: {path}", seen="it is not UTF-8", needed="Python source in UTF-8") from error
