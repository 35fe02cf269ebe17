"""How an object store is reached: from the environment, by the names that AWS's own tools use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from workbench.errors import UsageError

PREFIX = "s3://"
_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_ENDPOINTS, _REGIONS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("AWS_REGION", "AWS_DEFAULT_REGION")
_STYLE = "WORKBENCH_S3_STYLE"
_STYLES = ("path", "vhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """Where objects are, and with which key. Its text shows no key."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str = field(repr=False)
    """Of a key that lasts for hours only; empty for one that stays."""
    region: str
    endpoint: str
    """Host and port; empty for AWS itself."""
    is_encrypted: bool
    """Whether by https."""
    style: str
    """`path` (host/bucket/object) or `vhost` (bucket.host/object)."""

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> ObjectStore:
        """The store that the environment names.

        Raises:
            UsageError: a key is missing, or a setting makes no sense.
        """
        missing = [name for name in (_KEY, _SECRET) if not environment.get(name)]
        if missing:
            raise UsageError(
                f"object store: {' and '.join(missing)}",
                seen="not set",
                needed="a key that may read, write, list and delete below the prefix of WORKBENCH_DATA",
                next_step=f"export {' and '.join(missing)}",
            )
        name, url = next(((name, environment[name]) for name in _ENDPOINTS if environment.get(name)), ("", ""))
        endpoint, is_encrypted = _endpoint(name, url)
        style = environment.get(_STYLE) or ("path" if endpoint else "vhost")
        if style not in _STYLES:
            raise UsageError(_STYLE, seen=repr(style), needed=" or ".join(_STYLES))
        return cls(
            key_id=environment[_KEY],
            secret=environment[_SECRET],
            token=environment.get(_TOKEN, ""),
            region=next((environment[name] for name in _REGIONS if environment.get(name)), "us-east-1"),
            endpoint=endpoint,
            is_encrypted=is_encrypted,
            style=style,
        )

    def without_secrets(self, text: str) -> str:
        """The text with whatever opens the store covered."""
        for secret in (self.secret, self.token, self.key_id):
            if secret:
                text = text.replace(secret, "***")
        return text

    def secret_sql(self) -> str:
        """The statement by which DuckDB knows the store; it holds the key."""
        values = {
            "KEY_ID": self.key_id,
            "SECRET": self.secret,
            "SESSION_TOKEN": self.token,
            "REGION": self.region,
            "ENDPOINT": self.endpoint,
            "URL_STYLE": self.style,
        }
        given = ", ".join(f"{name} '{_quoted(value)}'" for name, value in values.items() if value)
        return f"CREATE SECRET workbench_data (TYPE s3, PROVIDER config, {given}, USE_SSL {str(self.is_encrypted).lower()})"


def _endpoint(name: str, url: str) -> tuple[str, bool]:
    """Host and port, and whether they are spoken to by https."""
    if not url:
        return "", True
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password) if host else False
    if not is_plain or host is None or parts.scheme not in ("http", "https"):
        raise UsageError(name, seen="not the address of a server", needed="https://HOST or https://HOST:PORT, without a path or a user")
    shown = f"[{host}]" if ":" in host else host
    return (shown if port is None else f"{shown}:{port}"), parts.scheme == "https"


def _quoted(text: str) -> str:
    return text.replace("'", "''")
