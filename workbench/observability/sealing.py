"""Raw rows of an importer made fit to store: bodies redacted and proven by HMAC, units replaced by their hash.

An HMAC stands over the raw body's canonical bytes (`canonical_body`), so that somebody who holds the body and the workspace's key can
prove that this was it, and nobody can try out guesses without the key.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import orjson

from workbench.errors import RecordRefused
from workbench.observability.redaction import REDACTION_VERSION, Redactor

Row = dict[str, Any]
"""As of `importers.source`."""
_IDS = {
    "requests": ("request_id", "session_id", "trace_id"),
    "spans": ("request_id", "trace_id", "tool_call_id"),
    "scores": ("request_id", "score_id"),
}
_CODES = {
    "requests": ("workflow", "error_type", "finish_reason", "release_id", "model_requested", "model_served", "provider", "bundle"),
    "spans": ("name", "tool_name", "error_type", "model", "provider"),
    "scores": ("name", "scorer_id"),
}
"""Identifiers that few rows differ in."""
NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType({table: (*_IDS[table], *_CODES[table]) for table in _IDS})
"""Columns with an id, a name or a code, by log table."""
TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType({"requests": (), "spans": ("retrieval_query",), "scores": ("label", "explanation")})
"""Columns with plain text."""
BODIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"requests": ("input", "output"), "spans": ("tool_arguments", "tool_result", "attributes"), "scores": ()}
)
"""Columns with JSON text."""
_CACHED_UNITS = 8192
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


def parsed(value: Any) -> Any:
    """A tool's arguments or result as a JSON value: text that is JSON is read, other text stays text."""
    if isinstance(value, str):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(value)
    return value


class Sealer:
    """Seals rows for one workspace.

    Args:
        redactor: takes out personal data and secrets.
        unit_key: the workspace's key of `unit_hash` and of the body HMACs.
    """

    def __init__(self, redactor: Redactor, unit_key: bytes) -> None:
        self.redactor = redactor
        self._unit_key = unit_key
        self._mac = hmac.new(unit_key, digestmod="sha256")
        self._hashes: dict[str, str] = {}
        self._judged: dict[str, str] = {}

    def __reduce__(self) -> tuple[type[Sealer], tuple[Redactor, bytes]]:
        """So that another process seals alike; what it carries is as secret as the workspace's keys."""
        return Sealer, (self.redactor, self._unit_key)

    def unit_hash(self, unit: str) -> str:
        """HMAC-SHA256 of the unit, first 32 hex digits: the same in all releases of a workspace."""
        known = self._hashes.get(unit)
        if known is None:
            if len(self._hashes) >= _CACHED_UNITS:
                self._hashes.clear()
            known = self._hashes[unit] = self.proof(unit.encode("utf-8", "surrogatepass"))[:32]
        return known

    def request(self, row: Row) -> int:
        """Seal a request in place; returns the characters of text it keeps."""
        unit = row.pop("unit", None)
        self._identifiers(row, _IDS["requests"])
        self._codes(row, _CODES["requests"])
        if unit is not None:
            row["unit_hash"] = self.unit_hash(unit)
        row["redaction_version"] = REDACTION_VERSION
        return self._body(row, "input", unit) + self._body(row, "output", unit)

    def span(self, row: Row, unit: str | None) -> int:
        """Seal a span in place; returns the characters of text it keeps."""
        self._identifiers(row, _IDS["spans"])
        self._codes(row, _CODES["spans"])
        size = 0
        for name in BODIES["spans"]:
            value = row.get(name)
            if value is not None:
                value = parsed(value)
                row[name] = text = self.redactor.json_text(value, unit, raw=canonical_body(value))
                size += len(text)
        self._texts(row, TEXTS["spans"], unit)
        return size

    def score(self, row: Row, unit: str | None) -> None:
        """Seal a score in place."""
        self._identifiers(row, _IDS["scores"])
        self._codes(row, _CODES["scores"])
        self._texts(row, TEXTS["scores"], unit)

    def event(self, table: str, row: Row) -> None:
        """Seal in place what happened after an answer. Whose request a score is of is not known, so its placeholders are nobody's."""
        if table == "outcomes":
            self.outcome(row)
        else:
            self.score(row, None)

    def outcome(self, row: Row) -> None:
        """Seal a business event in place."""
        unit = row.pop("unit", None)
        self._identifiers(row, ("outcome_id", "request_id", "session_id"))
        self._codes(row, ("kpi", "source"))
        row["unit_hash"] = None if unit is None else self.unit_hash(unit)

    def _identifiers(self, row: Row, names: tuple[str, ...]) -> None:
        plain = self.redactor.identifier
        for name in names:
            value = row.get(name)
            if value is not None:
                row[name] = plain(value)

    def _codes(self, row: Row, names: tuple[str, ...]) -> None:
        """Identifiers that few rows differ in; each is judged once."""
        judged = self._judged
        for name in names:
            value = row.get(name)
            if value is None or (known := judged.get(value)) is value:
                continue
            if known is None:
                if len(judged) >= _CACHED_CODES:
                    judged.clear()
                known = judged[value] = self.redactor.identifier(value)
            row[name] = known

    def _body(self, row: Row, name: str, unit: str | None) -> int:
        value = row.get(name)
        if value is None:
            return 0
        raw = canonical_body(value)
        row[f"{name}_hmac"] = self.proof(raw)
        row[name] = text = self.redactor.json_text(value, unit, raw=raw)
        return len(text)

    def _texts(self, row: Row, names: tuple[str, ...], unit: str | None) -> None:
        for name in names:
            if row.get(name) is not None:
                row[name] = self.redactor.text(row[name], unit)

    def proof(self, raw: bytes) -> str:
        """HMAC-SHA256 of these bytes under the workspace's key, hex."""
        mac = self._mac.copy()
        mac.update(raw)
        return mac.hexdigest()
