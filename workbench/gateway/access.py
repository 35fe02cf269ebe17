"""One line of JSON per request for whoever runs the gateway: what was asked and how it ended, never a body, a unit or a key."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

import orjson

from workbench.controls.model import Answer, Embedded, Head
from workbench.ownership.keys import ApiKey

LOGGER = logging.getLogger("workbench.gateway")
LEFT = 499
"""Stands as the status where nobody was there to read one."""


@dataclass(slots=True, kw_only=True)
class Access:
    """What is known of a request by its end."""

    request_id: str
    method: str
    route: str = "other"
    """The path as we know it; what a caller made up is not repeated."""
    status: int = LEFT
    """What the response said at its head."""
    key: ApiKey | None = None
    bundle: str | None = None
    arm: str | None = None
    answer: Answer | None = None
    """Where there was one, whole."""
    code: str | None = None
    """Of the problem, where there was one."""

    def note(self, told: Answer | Head | Embedded) -> None:
        """Take in what the controls told."""
        self.bundle, self.arm = told.bundle_id, told.arm
        if isinstance(told, Answer):
            self.answer = told


def write(access: Access, *, clock: Callable[[], datetime], duration_ms: float) -> None:
    """Write the line, where anybody listens."""
    if not LOGGER.isEnabledFor(logging.INFO):
        return
    key = access.key
    line = {
        "time": clock(),
        "request_id": access.request_id,
        "method": access.method,
        "route": access.route,
        "status": access.status,
        "duration_ms": round(duration_ms, 3),
        "key": key.key_id if key else None,
        "app": key.app if key else None,
        "bundle": access.bundle,
        "arm": access.arm,
        "code": access.code,
    }
    text = orjson.dumps(line).decode()
    LOGGER.handle(logging.LogRecord(LOGGER.name, logging.INFO, __file__, 0, text, None, None))  # `info` looks for its caller each time


def write_fault(access: Access, error: BaseException) -> None:
    """Where something broke that nobody foresaw. Its message is left out: it may hold what the caller sent."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    LOGGER.error(orjson.dumps({"request_id": access.request_id, "fault": type(error).__name__, "frames": frames}).decode())


class Lines(logging.Handler):
    """Writes the lines that came in one turn of a loop at once: a system call for each would cost more than making it.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line when the turn is over; at once where no loop runs."""
        self._waiting.append(record.getMessage() + "\n")
        if len(self._waiting) > 1:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, []
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()
