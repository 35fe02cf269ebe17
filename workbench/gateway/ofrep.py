"""The OpenFeature Remote Evaluation Protocol: which bundle serves this unit, for applications in any language that run it themselves. Pure.

Each app has one flag, named like the app. Its value is the id of the bundle that serves the unit, its variant the arm. The context's
`targetingKey` is the unit: the same string gets the same bundle here and through the gateway's own answers. `sessionId` is the talk, which
ends on the bundle that it began on where the plan says so. Other context is not looked at. Where no bundle serves the unit the value is
left out, which asks the client for its own default.

Source: OFREP's OpenAPI definition, paths /ofrep/v1/evaluate/flags and /ofrep/v1/evaluate/flags/{key}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from workbench.controls.admission import LONGEST_NAME
from workbench.controls.model import Assignment, Reason
from workbench.gateway.json_body import json_object
from workbench.gateway.problem import Problem, bad_request

FLAGS = "/ofrep/v1/evaluate/flags"
ONE_FLAG = f"{FLAGS}/"
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_REASONS = {
    Reason.BUCKET: "SPLIT",
    Reason.NO_CANDIDATE: "STATIC",
    Reason.STALE_ROUTE: "STALE",
    Reason.NOT_LOADED: "DEFAULT",
    Reason.NO_STABLE: "DEFAULT",
    Reason.NO_UNIT: "DEFAULT",
    Reason.SHADOW: "STATIC",
    Reason.SESSION: "CACHED",
}
_ERROR_CODES = {
    "invalid_json": "PARSE_ERROR",
    "targeting_key_missing": "TARGETING_KEY_MISSING",
    "flag_not_found": "FLAG_NOT_FOUND",
    "invalid_context": "INVALID_CONTEXT",
}


class Asked(NamedTuple):
    """Whom the flag is asked for."""

    unit: str
    session: str | None


def read_asked(body: bytes) -> Asked:
    """The unit that the context names, and the talk, where it names one.

    Raises:
        Problem: there is no unit, or one of them is no name.
    """
    context = json_object(body).get("context")
    if context is not None and type(context) is not dict:
        raise bad_request("context: an object is needed.", param="context", code="invalid_context")
    unit = _name(context or {}, "targetingKey")
    if not unit:
        raise bad_request("context.targetingKey: the unit is needed.", param="context.targetingKey", code="targeting_key_missing")
    return Asked(unit, _name(context or {}, "sessionId") or None)


def _name(context: Mapping[str, Any], key: str) -> str:
    """The name that the context has there, without space around it; empty where there is none."""
    name = context.get(key)
    if name is None:
        return ""
    if type(name) is not str or len(name) > LONGEST_NAME:
        needed = f"text of at most {LONGEST_NAME} characters is needed"
        raise bad_request(f"context.{key}: {needed}.", param=f"context.{key}", code="invalid_context")
    return name.strip()


def no_such_flag(app: str) -> Problem:
    """The flag is not the app's."""
    return Problem(404, "flag_not_found", f"There is no such flag; this API key opens the flag {app}.")


def evaluation(assignment: Assignment, bundle_name: str | None) -> dict[str, Any]:
    """The app's flag for a unit. What is not known is left out."""
    metadata = {
        "share": assignment.share,
        "route_version": assignment.route_version,
        "release_id": assignment.release_id,
        "bundle_name": bundle_name,
    }
    flag: dict[str, Any] = {
        "key": assignment.app,
        "reason": _REASONS[assignment.reason],
        "variant": assignment.arm,
        "metadata": {name: value for name, value in metadata.items() if value is not None},
    }
    if assignment.bundle_id is not None:
        flag["value"] = assignment.bundle_id
    return flag


def bulk(flags: Sequence[Mapping[str, Any]]) -> bytes:
    """The answer about all flags."""
    return orjson.dumps({"flags": flags})


def etag(body: bytes) -> bytes:
    """Changes when the body does."""
    return b'"%s"' % sha256(body).hexdigest()[:32].encode()


def is_known(etag: bytes, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client has this body already (`If-None-Match`)."""
    known = headers.get(b"if-none-match", b"")
    return known.strip() == b"*" or etag in {tag.strip().removeprefix(b"W/") for tag in known.split(b",")}


def failure(problem: Problem, path: str) -> bytes:
    """A problem in the protocol's shape. What the caller calls a flag is repeated only where it is a plain name."""
    told: dict[str, Any] = {"errorCode": _ERROR_CODES.get(problem.code, "GENERAL"), "errorDetails": problem.message}
    if path.startswith(ONE_FLAG):
        key = path.removeprefix(ONE_FLAG)
        told = {"key": key if _KEY.fullmatch(key) else "", **told}
    return orjson.dumps(told)
