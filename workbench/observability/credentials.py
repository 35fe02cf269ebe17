"""Where secrets stand in a text: keys by their prefix, web tokens, PEM blocks, and what is assigned to a name such as `password`. Pure."""

from __future__ import annotations

import re

from workbench.observability.suspicion import AT, LONG, WORD, Found

LONG_RUN = re.compile(r"[A-Za-z0-9+/_\-]{16,}+={0,2}")
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:wb_[0-9a-f]{12}_[0-9a-f]{64}"  # this product's own
    r"|sk-[\w\-]{16,}|[srp]k_(?:live|test)_\w{10,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w\-]{16,}|xox[abeprs]-[\w\-]{10,}"
    r"|xapp-[\w\-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w\-]{30,}|hf_\w{20,}|npm_\w{20,}|pypi-[\w\-]{20,}|SG\.[\w\-]{16,})"
)
_JWT = re.compile(r"eyJ[\w\-]{8,}+\.[\w\-]{4,}+(?:\.[\w\-]*+)?")
_QUOTES = r"[\"'\\]{0,4}"
_ASSIGNED = re.compile(
    rf"(?:passw(?:or)?d|passwort|pwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|token)(?:[_-]?(?:key|value))?{_QUOTES}"
    rf"\s{{0,3}}[:=]\s{{0,3}}{_QUOTES}(?P<value>[^\s\"',;&\\]{{3,}}+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    rf"authorization{_QUOTES}\s{{0,3}}[:=]\s{{0,3}}{_QUOTES}(?:(?:bearer|basic|token|digest|apikey)\s{{1,3}})?(?P<value>[^\s\"',;\\]{{3,}}+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\bbearer\s{1,3}(?P<value>[A-Za-z0-9._~+/\-]{8,}+=*)", re.IGNORECASE)
_IN_URL = re.compile(r"://[^\s/:@]{1,64}:(?P<value>[^\s/@]{1,256})@")
_SECRET_NAME = re.compile(
    r"(?:.*[_\-.])?(?:password|passwd|passwort|pwd|passphrase|secret|api[_-]?key|apikey|authorization|private[_-]?key|client[_-]?secret"
    r"|(?:access|refresh|auth|id|session|bearer)[_-]?token)",
    re.IGNORECASE,
)


def secret_from(name: str) -> int:
    """From how many characters on a value stored under this name is a secret; 0 when the name says nothing.

    A bare `token` may be a piece of a word in a model's log probabilities, so only long ones count.
    """
    if len(name) > 64:  # noqa: PLR2004 - no name of a setting is longer
        return 0
    return 1 if _SECRET_NAME.fullmatch(name) else 16 if name.lower() == "token" else 0


def secrets(text: str, flags: int) -> list[Found]:
    """Credentials: keys by prefix, web tokens, PEM blocks, and what is assigned to a name such as `password`."""
    found: list[Found] = []
    if flags & LONG:
        found += _keys(text)
        found += _pem_blocks(text)
    if flags & WORD:
        found += [
            _secret(match) for pattern in (_HEADER, _ASSIGNED) for match in pattern.finditer(text) if _is_worth_hiding(match["value"])
        ]
        found += [_secret(match) for match in _BEARER.finditer(text) if len(match["value"]) >= 20 or any(map(str.isdigit, match["value"]))]  # noqa: PLR2004
    if flags & AT and "://" in text:
        found += [_secret(match) for match in _IN_URL.finditer(text)]
    return found


def _secret(match: re.Match[str]) -> Found:
    return Found(match.start("value"), match.end("value"), "SECRET", match["value"])


def _is_worth_hiding(value: str) -> bool:
    """A number such as a token count, or an empty marker, is no secret."""
    return not (value.isdecimal() or value.lower() in ("null", "none", "true", "false", "***"))


def _is_no_word(value: str) -> bool:
    return len(value) >= 20 or any(char.isdigit() for char in value)  # noqa: PLR2004 - "bearer certificates" are no secret


def _keys(text: str) -> list[Found]:
    found = []
    for run in LONG_RUN.finditer(text):
        start, end = run.span()
        token = _JWT.match(text, start + run[0].index("eyJ")) if "eyJ" in run[0] and text[end : end + 1] == "." else None
        if token:
            found.append(Found(token.start(), token.end(), "SECRET", token[0]))
            continue
        found += [Found(key.start(), key.end(), "SECRET", key[0]) for key in _KEY.finditer(text, max(0, start - 3), end)]
    return found


def _pem_blocks(text: str) -> list[Found]:
    """PEM blocks from BEGIN to END; without an END the rest of the text is one."""
    found = []
    start = text.find("-----BEGIN ")
    while start >= 0:
        close = text.find("-----END ", start)
        dashes = text.find("-----", close + 9) if close >= 0 else -1
        end = dashes + 5 if dashes >= 0 else len(text)
        found.append(Found(start, end, "SECRET", text[start:end]))
        start = text.find("-----BEGIN ", end)
    return found
