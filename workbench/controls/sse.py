"""Server-sent events out of bytes, however the network cut them. Pure.

Source: WHATWG HTML, "Server-sent events", section "Interpreting an event stream".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LARGEST_EVENT = 1 << 20
"""Bytes of one event, and of one line."""
_BOM = b"\xef\xbb\xbf"


class OversizedEvent(Exception):
    """An event, or a line that does not end, is larger than allowed."""


class ServerEvent(NamedTuple):
    """One event."""

    data: bytes
    name: bytes = b""
    """Empty for a `message`."""


class EventParser:
    """Takes in bytes and gives out events. It looks at each byte once.

    Args:
        largest: bytes of one event.
    """

    def __init__(self, *, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        self._begun: list[bytes] = []
        """The line that has not ended yet, in pieces."""
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        """Bytes of the event that has not ended yet."""
        self._is_first = True
        self._is_after_cr = False

    @property
    def is_between_events(self) -> bool:
        """Whether nothing was left half said."""
        return not self._begun and not self._data

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that end in these bytes; run it to its end.

        Raises:
            OversizedEvent: one is larger than allowed.
        """
        if self._is_after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._is_after_cr = False
        for piece in chunk.splitlines(keepends=True):  # of bytes, these are CR, LF and CRLF, and nothing else
            self._size += len(piece)
            if self._size > self._largest:
                raise OversizedEvent
            line = piece.rstrip(b"\r\n")
            self._is_after_cr = piece.endswith(b"\r")
            if len(line) == len(piece):
                self._begun.append(line)
                continue
            if self._begun:
                line = b"".join([*self._begun, line])
                self._begun.clear()
            if line or self._is_first:
                self._take(line)
            else:
                yield from self._end()

    def _take(self, line: bytes) -> None:
        """One line of an event."""
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif not field and not self._data:
            self._size = 0  # a comment: keeps a line alive for hours

    def _end(self) -> Iterator[ServerEvent]:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], b"", 0
        if data:
            yield ServerEvent(b"\n".join(data), name)
