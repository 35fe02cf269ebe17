"""OpenAI's embeddings: a request in, vectors out. The bundle decides the model, so `dimensions` and the like have no effect. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import pack
from typing import Any

import orjson

from workbench.controls.model import Embedded
from workbench.gateway.about import About, Headers, about
from workbench.gateway.completions import Header, guards_header, header
from workbench.gateway.json_body import MOST_IGNORED, given, json_object, text_of
from workbench.gateway.problem import bad_request

MOST_TEXTS = 2048
"""OpenAI's limit."""
_FORMATS = ("float", "base64")
_FIELDS = frozenset({"model", "input", "encoding_format", "user", "safety_identifier", "metadata"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One request for vectors, checked."""

    app: str
    texts: tuple[str, ...]
    about: About
    is_base64: bool
    """Whether vectors are sent as their bytes, as OpenAI's clients ask by themselves."""
    ignored: tuple[str, ...]


def read_embedding(body: bytes, headers: Headers, *, serving_of: Callable[[str], str]) -> EmbeddingRequest:
    """The request as the controls take it.

    Raises:
        Problem: it is none, or its texts are given as tokens, which no guard can read.
    """
    asked = json_object(body)
    app = text_of(asked, "model")
    serving_of(app)
    encoding = asked.get("encoding_format") or "float"
    if encoding not in _FORMATS:
        raise bad_request("encoding_format: float or base64 is needed.", param="encoding_format")
    return EmbeddingRequest(
        app=app,
        texts=_texts(asked.get("input")),
        about=about(asked, headers),
        is_base64=encoding == "base64",
        ignored=tuple(sorted(given(asked, besides=_FIELDS))[:MOST_IGNORED]),
    )


def embedding_list(embedded: Embedded, *, is_base64: bool) -> bytes:
    """The vectors as OpenAI's list. Tokens that nobody counted are left out, not zero."""
    data = [
        {"object": "embedding", "index": number, "embedding": _as_bytes(vector) if is_base64 else list(vector)}
        for number, vector in enumerate(embedded.vectors)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": embedded.model}
    tokens = embedded.input_tokens
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps(body)


def told(embedded: Embedded, *, ignored: tuple[str, ...]) -> list[Header]:
    """What the controls did, for whoever debugs the client."""
    named: Mapping[str, str | None] = {
        "x-workbench-bundle": embedded.bundle_id,
        "x-workbench-arm": embedded.arm,
        "x-workbench-ignored": ", ".join(ignored),
    }
    return [*(found for name, value in named.items() for found in header(name, value)), *guards_header(embedded.blocked_rules)]


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if type(value) is str else value
    if type(texts) is not list or not 0 < len(texts) <= MOST_TEXTS or not all(type(text) is str and text for text in texts):
        raise bad_request(f"input: text, or a list of 1 to {MOST_TEXTS} texts, is needed; none of them empty, no tokens.", param="input")
    return tuple(texts)


def _as_bytes(vector: tuple[float, ...]) -> str:
    """32-bit floats, little-endian, in base64."""
    return b64encode(pack(f"<{len(vector)}f", *vector)).decode()
