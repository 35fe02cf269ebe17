"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.errors import UsageError


def write_file(path: Path, text: str) -> None:
    """Write `text` beside `path`, then put it in place in one step.

    Raises:
        UsageError: the folder does not exist or cannot be written, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(f"file {path}", seen=error.strerror or str(error), needed="a folder that exists and can be written") from error
