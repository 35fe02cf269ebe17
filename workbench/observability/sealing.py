"""Raw rows of an importer made fit to store: bodies redacted and proven by HMAC, units replaced by their hash.

An HMAC stands over the raw body's canonical bytes (`canonical_body`), so that somebody who holds the body and the workspace's key can
prove that this was it, and nobody can try out guesses without the key.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from typing import Any

import orjson

from workbench.errors import RecordRefused
from workbench.observability.importers.source import Row
from workbench.observability.redaction import REDACTION_VERSION, Redactor

_IDS = ("request_id", "session_id", "trace_id")
_CODES = ("workflow", "error_type", "finish_reason", "release_id", "model_requested", "model_served", "provider", "bundle")
_SPAN_IDS = ("request_id", "trace_id", "tool_call_id")
_SPAN_CODES = ("name", "tool_name", "error_type", "model", "provider")
_CACHED_UNITS = 65_536
_CACHED_CODES = 4096


def canonical_body(value: Any) -> bytes:
    """The bytes that a body's HMAC is taken over: JSON in UTF-8, keys sorted, no white space.

    Raises:
        RecordRefused: when the body is nested more than some 250 levels deep.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise RecordRefused("body", reason="too_deep", seen="nested too deeply to be stored", needed="at most 250 levels") from error


class Sealer:
    """Seals rows for one workspace.

    Args:
        redactor: takes out personal data and secrets.
        unit_key: the workspace's key of `unit_hash` and of the body HMACs.
    """

    def __init__(self, redactor: Redactor, unit_key: bytes) -> None:
        self._redactor = redactor
        self._mac = hmac.new(unit_key, digestmod="sha256")
        self._hashes: dict[str, str] = {}
        self._judged: dict[str, str] = {}

    def unit_hash(self, unit: str) -> str:
        """HMAC-SHA256 of the unit, first 32 hex digits: the same in all releases of a workspace."""
        known = self._hashes.get(unit)
        if known is None:
            if len(self._hashes) >= _CACHED_UNITS:
                self._hashes.clear()
            known = self._hashes[unit] = self._hmac(unit.encode("utf-8", "surrogatepass"))[:32]
        return known

    def request(self, row: Row) -> int:
        """Seal a request in place; returns the characters of text it keeps."""
        unit = row.pop("unit", None)
        self._identifiers(row, _IDS)
        self._codes(row, _CODES)
        if unit is not None:
            row["unit_hash"] = self.unit_hash(unit)
        row["redaction_version"] = REDACTION_VERSION
        return self._body(row, "input", unit) + self._body(row, "output", unit)

    def span(self, row: Row, unit: str | None) -> int:
        """Seal a span in place; returns the characters of text it keeps."""
        self._identifiers(row, _SPAN_IDS)
        self._codes(row, _SPAN_CODES)
        size = 0
        for name in ("tool_arguments", "tool_result", "attributes"):
            value = row.get(name)
            if value is not None:
                row[name] = text = self._json_text(value, unit)
                size += len(text)
        if row.get("retrieval_query") is not None:
            row["retrieval_query"] = self._redactor.text(row["retrieval_query"], unit)
        return size

    def score(self, row: Row, unit: str | None) -> None:
        """Seal a score in place."""
        self._identifiers(row, ("request_id", "score_id"))
        self._codes(row, ("name", "scorer_id"))
        for name in ("label", "explanation"):
            if row.get(name) is not None:
                row[name] = self._redactor.text(row[name], unit)

    def _identifiers(self, row: Row, names: tuple[str, ...]) -> None:
        plain = self._redactor.identifier
        for name in names:
            value = row.get(name)
            if value is not None:
                row[name] = plain(value)

    def _codes(self, row: Row, names: tuple[str, ...]) -> None:
        """Identifiers that few rows differ in; each is judged once."""
        judged = self._judged
        for name in names:
            value = row.get(name)
            if value is not None and judged.get(value) is not value:
                if value not in judged:
                    if len(judged) >= _CACHED_CODES:
                        judged.clear()
                    judged[value] = self._redactor.identifier(value)
                row[name] = judged[value]

    def _body(self, row: Row, name: str, unit: str | None) -> int:
        value = row.get(name)
        if value is None:
            return 0
        raw = canonical_body(value)
        row[f"{name}_hmac"] = self._hmac(raw)
        row[name] = text = self._redactor.json_text(value, unit, raw=raw)
        return len(text)

    def _json_text(self, value: Any, unit: str | None) -> str:
        """A tool's arguments or result as redacted JSON text. Text that is JSON already stays JSON; other text becomes a JSON string."""
        if isinstance(value, str):
            with suppress(orjson.JSONDecodeError):
                value = orjson.loads(value)
        return self._redactor.json_text(value, unit, raw=canonical_body(value))

    def _hmac(self, raw: bytes) -> str:
        mac = self._mac.copy()
        mac.update(raw)
        return mac.hexdigest()
