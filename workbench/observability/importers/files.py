"""A log file as a whole: can it be read, is it text, and which format does it look like?"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from workbench.errors import UsageError
from workbench.observability.importers import fields, lenient_json

LONGEST_LINE = 10 * 1024 * 1024
"""Bytes. A longer line is refused without being held in memory."""

HEAD = 64 * 1024
"""Bytes at the start of a file that are looked at before it is read."""
_LARGEST_DOCUMENT = 1024**3
_BLOCK = 4 * 1024 * 1024
_BLOCK_LINES = 4000
_MARKS = {
    "tau2": (b'"simulations"', b'"agent_info"', b'"user_info"'),
    "inspect": (b'"run_id"', b'"task_id"'),
    "langfuse": (b'"traceId"', b'"parentObservationId"', b'"usageDetails"'),
    "promptfoo": (b'"evalId"', b'"promptIdx"'),
}
"""Keys of documents that are known by them, in a file of one JSON document."""
_MAGIC = {
    b"\x1f\x8b": "gzip-compressed",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a SQLite database",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def checked_head(path: Path, *, subject: str) -> bytes:
    """The first 64 KiB of a readable text file, without a byte order mark.

    Raises:
        UsageError: when it is missing, no regular file, unreadable, empty, packed, or its first line is not UTF-8. A broken line
            further down costs that line only.
    """
    head = first_bytes(path, subject=subject)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind:
        raise UsageError(subject, seen=f"is {kind}", needed="plain UTF-8 text", next_step="unpack or convert it first")
    _check_first_line(head, subject)
    text = head.removeprefix(b"\xef\xbb\xbf")
    if len(head) < HEAD and not text.strip():
        raise no_records(subject, "the file is empty")
    return text


def first_bytes(path: Path, *, subject: str) -> bytes:
    """The first 64 KiB of a readable file of any kind.

    Raises:
        UsageError: when it is missing, no regular file or unreadable.
    """
    try:
        _check_kind(path.stat().st_mode, subject)
        with path.open("rb") as file:
            return file.read(HEAD)
    except FileNotFoundError as error:
        raise UsageError(subject, seen="no such file", next_step="check the path") from error
    except OSError as error:
        raise UsageError(subject, seen=f"cannot be read ({error.strerror})", next_step="check its permissions") from error


def document(path: Path, *, wanted: str, needed: str) -> Any:
    """The value of a file that is one JSON document.

    Args:
        wanted: the format that was asked for.
        needed: what such a file is called in an error.

    Raises:
        UsageError: when it is something else, or larger than 1 GiB.
    """
    hint = hint_at(checked_head(path, subject=str(path)), wanted=wanted)
    if path.stat().st_size > _LARGEST_DOCUMENT:
        seen = f"{path.stat().st_size:,} bytes in one JSON document"
        raise UsageError(
            str(path), seen=seen, needed=f"at most {_LARGEST_DOCUMENT:,}", next_step="divide it, or use the tool's other format"
        )
    try:
        return lenient_json.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        seen = f"not one JSON document (line {error.lineno}, column {error.colno})"
        raise UsageError(str(path), seen=seen, needed=needed, next_step=hint) from error


def is_zip(head: bytes) -> bool:
    """Whether a file that starts so is a zip archive."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def no_records(subject: str, why: str) -> UsageError:
    """The error of a file that says nothing."""
    return UsageError(subject, seen=f"holds no records: {why}", next_step="check how the file was written")


def _check_kind(mode: int, subject: str) -> None:
    if stat.S_ISDIR(mode):
        raise UsageError(subject, seen="is a folder", needed="a file", next_step="name the files in it")
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise UsageError(
            subject, seen=f"is {kind}", needed="a regular file, which is read more than once", next_step="write it to a file first"
        )


def _check_first_line(head: bytes, subject: str) -> None:
    line = head.split(b"\n", 1)[0]
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut = len(line) == HEAD and error.start >= HEAD - 4
        if not is_cut:
            seen, step = f"byte {error.start + 1} is not UTF-8", "convert it, for example with iconv"
            raise UsageError(subject, seen=seen, needed="UTF-8 text", next_step=step) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of the file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def looks_like(head: bytes) -> str | None:
    """The format that the start of a file suggests, None when it suggests nothing that is known."""
    text = head.lstrip()
    if not text:
        return None
    first_line = text.split(b"\n", 1)[0].strip()
    if text[:1] == b"{" and _is_object(first_line):
        return "openai-jsonl"
    if text[:1] == b"{":
        return next((format_ for format_, marks in _MARKS.items() if any(mark in head for mark in marks)), None)
    if text[:1] not in b"[<" and any(first_line.count(mark) >= 1 for mark in (b",", b";", b"\t")):
        return "csv"
    return None


def hint_at(head: bytes, *, wanted: str) -> str:
    """The sentence that helps somebody who chose the wrong format."""
    format_ = looks_like(head)
    return f"it looks like {format_}: workbench import {format_} …" if format_ and format_ != wanted else "look at the file's first lines"


class Line(NamedTuple):
    """A line of a file."""

    number: int
    """From 1."""
    done: int
    """Bytes read so far."""
    text: bytes | None
    """With its end; None when it is too long to read."""


def lines_of(file: BinaryIO) -> Iterator[Line]:
    """The lines of a file, without a byte order mark."""
    number = done = 0
    while chunk := file.readline(LONGEST_LINE + 2):
        number += 1
        done += len(chunk)
        if len(chunk) > LONGEST_LINE and chunk[-1:] != b"\n":
            while rest := file.readline(LONGEST_LINE):
                done += len(rest)
                if rest[-1:] == b"\n":
                    break
            yield Line(number, done, None)
        else:
            yield Line(number, done, chunk.removeprefix(b"\xef\xbb\xbf") if number == 1 else chunk)


def object_of(line: bytes | None) -> dict[str, Any]:
    """The JSON object on a line; None is a line that was too long to read.

    Raises:
        RecordRefused: when there is none.
    """
    if line is None:
        fields.refuse("line_too_long", "line", f"more than {LONGEST_LINE // 1024**2} MB", "a shorter line")
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if not line.strip():
            fields.refuse("empty_line", "line", "empty", "one JSON object")
        if b"\0" not in line and _is_not_utf8(line):
            fields.refuse("not_utf8", "line", "not UTF-8", "UTF-8 text")
        fields.refuse("not_json", "line", f"not JSON at character {error.pos + 1}", "one JSON object; NaN and Infinity are not JSON")
    if not isinstance(record, dict):
        fields.refuse("not_an_object", "line", fields.type_name(record), "one JSON object")
    return record


def _is_not_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def blocks_of(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """The lines in pieces of some megabytes."""
    block: list[Line] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line.text or b"")
        if size >= _BLOCK or len(block) >= _BLOCK_LINES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
