"""OpenTelemetry's protocol for traces over HTTP: what comes in unpacked within limits, and what goes out in the form that was sent.

Errors are `google.rpc.Status`. Exporters send again after 429 and 503, and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import orjson

from workbench.errors import RecordRefused, StoreError
from workbench.gateway.about import Headers
from workbench.gateway.backing import TakeTraces
from workbench.gateway.completions import Header
from workbench.gateway.exchange import PLAIN
from workbench.gateway.problem import Problem, bad_request
from workbench.observability.otlp.receiving import Received

TRACES = "/v1/traces"
GZIP = b"gzip"
ENCODINGS = (PLAIN, GZIP)
MOST_BYTES = 16 << 20
"""Of a message as it comes."""
MOST_UNPACKED_BYTES = 64 << 20
_MOST_IN_HAND = 8
"""Messages that are taken in or wait for it; each may be as long as it gets unpacked."""
_MOST_PRESSURE = 0.8
"""From here on the room of the audit belongs to calls."""
_LONGEST_MESSAGE = 1000
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 429: 8, 503: 14}
"""HTTP status to the code of gRPC; any other one is `INTERNAL`."""
_INTERNAL = 13
_FIELD_1_VARINT, _FIELD_1_BYTES, _FIELD_2_BYTES = 0x08, 0x0A, 0x12
"""Tags of protobuf's wire format."""


class Form(Enum):
    """How a message is written."""

    PROTOBUF = b"application/x-protobuf"
    JSON = b"application/json"

    @property
    def header(self) -> Header:
        return b"content-type", self.value


def form_of(headers: Headers) -> Form | None:
    """The form of a body, None when it is neither."""
    named = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    return next((form for form in Form if form.value == named), None)


def unknown_form() -> Problem:
    """What a body in neither form gets."""
    return Problem(415, "unsupported_media_type", "Traces are read as application/x-protobuf or application/json.")


class Intake:
    """Takes messages in, one after the other, on a thread of its own: reading them takes long, and calls in flight need the loop.

    Args:
        take: commits the spans of a message.
        pressure: how full the audit's room is, 0 to 1.
    """

    def __init__(self, take: TakeTraces, *, pressure: Callable[[], float]) -> None:
        self._take = take
        self._pressure = pressure
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="traces")
        self._places = threading.BoundedSemaphore(_MOST_IN_HAND)

    async def take(self, packed: bytes, form: Form, *, is_packed: bool, app: str) -> Received:
        """What became of the message, once its spans are committed. A client that leaves does not stop it.

        Raises:
            Problem: there is no room, or it is no message.
        """
        if self._pressure() >= _MOST_PRESSURE:
            raise Problem(503, "log_full", "The log takes no more traces for now.", retry_after_s=5)
        if not self._places.acquire(blocking=False):
            raise Problem(429, "too_many_traces", "Other traces are being taken in.", retry_after_s=1)
        taken = self._thread.submit(self._taken, packed, form, is_packed, app)
        return await asyncio.shield(asyncio.wrap_future(taken))  # what is cancelled in the queue would keep its place for ever

    def _taken(self, packed: bytes, form: Form, is_packed: bool, app: str) -> Received:
        try:
            return self._take(unpacked(packed) if is_packed else packed, is_json=form is Form.JSON, app=app)
        except RecordRefused as refusal:
            raise bad_request(str(refusal), code=refusal.reason) from None
        except StoreError as fault:
            raise Problem(503, "log_unavailable", "The log does not take traces now.", retry_after_s=5) from fault
        finally:
            self._places.release()


def unpacked(packed: bytes, *, most_bytes: int = MOST_UNPACKED_BYTES) -> bytes:
    """What gzip packed, of one member or of several.

    Raises:
        Problem: it is no gzip, is cut off, or unpacks to more than `most_bytes`.
    """
    whole = bytearray()
    while packed:
        member = zlib.decompressobj(wbits=31)
        try:
            whole += member.decompress(packed, most_bytes + 1 - len(whole))
        except zlib.error:
            raise bad_request("The body is no gzip.", code="bad_gzip") from None
        if len(whole) > most_bytes:
            raise Problem(413, "body_too_long", f"The body unpacks to more than {most_bytes:,} bytes.")
        if not member.eof:
            raise bad_request("The body is gzip that is cut off.", code="bad_gzip")
        packed = member.unused_data
    return bytes(whole)


def answer(received: Received, form: Form) -> bytes:
    """An `ExportTraceServiceResponse`; its partial success says how many spans were refused, and why."""
    if not received.n_refused:
        return b"{}" if form is Form.JSON else b""
    sentence = _shortened(received.sentence)
    if form is Form.JSON:
        return orjson.dumps({"partialSuccess": {"rejectedSpans": str(received.n_refused), "errorMessage": sentence}})
    partial = bytes([_FIELD_1_VARINT]) + _varint(received.n_refused) + _text(_FIELD_2_BYTES, sentence)
    return bytes([_FIELD_1_BYTES]) + _varint(len(partial)) + partial


def failure(problem: Problem, form: Form) -> bytes:
    """The problem as `google.rpc.Status`."""
    code = _CODES.get(problem.status, _INTERNAL)
    if form is Form.JSON:
        return orjson.dumps({"code": code, "message": problem.message})
    return bytes([_FIELD_1_VARINT]) + _varint(code) + _text(_FIELD_2_BYTES, problem.message)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"


def _text(tag: int, text: str) -> bytes:
    raw = text.encode()
    return bytes([tag]) + _varint(len(raw)) + raw


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
