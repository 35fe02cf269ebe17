"""The apps as OpenAI's models. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson


def model_list(apps: Iterable[str], *, at: datetime) -> bytes:
    """The apps as OpenAI's list of models."""
    return orjson.dumps({"object": "list", "data": [_model(app, at) for app in apps]})


def model(app: str, *, at: datetime) -> bytes:
    """One app as OpenAI's model."""
    return orjson.dumps(_model(app, at))


def _model(app: str, at: datetime) -> dict[str, Any]:
    return {"id": app, "object": "model", "created": int(at.timestamp()), "owned_by": "workbench"}
