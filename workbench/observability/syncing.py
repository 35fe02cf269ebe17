"""What was written under a folder, brought to the disk."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


def sync_file_system(folder: Path) -> None:
    """Return when all files of the folder's file system survive a power cut: one call, however many files there are.

    Raises:
        OSError: something written earlier could not be brought to the disk.

    Source: syncfs(2). A system without it syncs every file system.
    """
    if not hasattr(_LIBC, "syncfs"):
        os.sync()
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _LIBC.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(fd)
