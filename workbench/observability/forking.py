"""What a forked child does with the handles it inherited: nothing, for good."""

from __future__ import annotations

import ctypes


def abandon(handle: object) -> None:
    """Keep a handle of the parent alive in this child until the process ends.

    Closing it would talk to threads that do not exist here, or give up what is still the parent's.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
