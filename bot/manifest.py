"""The manifest from which Slack makes the app: made from the table of commands, so that it names no command that the bot does not know."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from bot.commands import COMMANDS
from workbench.errors import UsageError

EVENTS_PATH = "/slack/events"
"""Where Slack sends everything in HTTP mode."""
SCOPES = ("chat:write", "chat:write.public", "commands")
_NAME = "Readiness workbench"
_DESCRIPTION = "Releases of AI applications: who may, on which evidence, and back again"


def manifest(mode: Literal["http", "socket"], *, url: str = "") -> dict[str, Any]:
    """The manifest, to be pasted where Slack creates an app.

    Args:
        mode: `socket` needs no address; `http` needs one that Slack can reach.
        url: the bot's address from outside, `https://…`, without a path.

    Raises:
        UsageError: HTTP mode without such an address.
    """
    if mode == "http" and (urlsplit(url).scheme != "https" or not urlsplit(url).netloc):
        seen = f'"{url}"' if url else "none is given"
        raise UsageError("--url", seen=seen, needed="the bot's address as Slack reaches it, https://…", next_step="or use `--mode socket`")
    request_url = {} if mode == "socket" else {"url": f"{url.rstrip('/')}{EVENTS_PATH}"}
    interactivity = {"is_enabled": True, **({"request_url": request_url["url"]} if request_url else {})}
    return {
        "display_information": {"name": _NAME, "description": _DESCRIPTION},
        "features": {
            "bot_user": {"display_name": "workbench", "always_online": mode == "socket"},
            "slash_commands": [
                {
                    "command": f"/{command.name}",
                    "description": command.help,
                    "usage_hint": command.hint,
                    "should_escape": True,
                    **request_url,
                }
                for command in COMMANDS
            ],
        },
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "interactivity": interactivity,
            "org_deploy_enabled": False,
            "socket_mode_enabled": mode == "socket",
            "token_rotation_enabled": False,
        },
    }
