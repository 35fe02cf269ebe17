"""Which live answers are scored: a choice that everybody makes alike, without a memory. Pure."""

from __future__ import annotations

from hashlib import sha256

_WHOLE = 1 << 64


def is_chosen(request_id: str, name: str, sample: float) -> bool:
    """Whether a request gets the score of this name, with probability `sample` over requests.

    It depends on nothing else, so neither on the arm nor on who asks or when: the first 8 bytes of SHA-256 over the id and the name,
    as a fraction of all that they can be, below `sample`.

    >>> [is_chosen("r1", "quality", share) for share in (0.5, 0.75, 1.0)]
    [False, True, True]
    """
    return int.from_bytes(_digest(request_id, name)[:8], "big") < sample * _WHOLE


def score_id(request_id: str, name: str) -> str:
    """The id of a request's score of this name: there is one, whichever version of the scorer gave it."""
    return f"online-{_digest(request_id, name).hex()[:32]}"


def _digest(request_id: str, name: str) -> bytes:
    return sha256(f"{request_id}\x1f{name}".encode("utf-8", "surrogatepass")).digest()
