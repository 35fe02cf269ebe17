"""What the gateway answers instead of an answer, in OpenAI's shape. Its text repeats nothing that the caller sent."""

from __future__ import annotations

from math import ceil
from typing import Self

import orjson

from workbench.errors import RequestRefused


class Problem(Exception):
    """A request that gets no answer.

    Args:
        status: HTTP status.
        code: short and stable; callers tell problems apart by it.
        message: one sentence for the person who reads the caller's log.
        param: the field that is wrong, None when it is not about one.
        retry_after_s: when the same request may be sent again; None when it should not be.
        allow: the methods that a path has, where the method was wrong.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.allow = allow

    @classmethod
    def of(cls, refused: RequestRefused) -> Self:
        """What the controls refused, as the caller reads it."""
        return cls(refused.http_status, refused.code, str(refused), retry_after_s=refused.retry_after_s)

    @property
    def body(self) -> bytes:
        """OpenAI's error object."""
        return orjson.dumps({"error": {"message": self.message, "type": self._type, "param": self.param, "code": self.code}})

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What tells a client whether to try again."""
        if self.retry_after_s is not None:
            headers = [(b"retry-after", str(ceil(self.retry_after_s)).encode())]
        else:
            headers = [(b"x-should-retry", b"false")]  # OpenAI's clients try twice by themselves; the controls did what may help
        if self.allow is not None:
            headers.append((b"allow", self.allow.encode()))
        if self.status == 401:  # noqa: PLR2004 - RFC 9110 asks for it with this status
            headers.append((b"www-authenticate", b"Bearer"))
        return headers

    @property
    def _type(self) -> str:
        if self.status == 429:  # noqa: PLR2004 - too many requests
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"  # noqa: PLR2004 - HTTP's border of faults


def bad_request(message: str, *, param: str | None = None, code: str = "bad_request") -> Problem:
    """The request is not one that the dialect knows."""
    return Problem(400, code, message, param=param)
