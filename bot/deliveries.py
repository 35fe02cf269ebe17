"""From what Slack sends to what the inbox keeps: the delivery's own key, who asked, where, and for what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bot import grammar
from bot.asks import Ask
from bot.buttons import Seal
from bot.commands import Command
from workbench.errors import NotPermitted, UsageError
from workbench.ledger.inbox import Delivery

Body = Mapping[str, Any]


def of_command(body: Body, command: Command, *, team: str, clean: Callable[[str], str]) -> Delivery | None:
    """The delivery of a slash command; None when it asks for help.

    Args:
        body: as Slack sent it, its signature checked.
        command: which one it is.
        team: the Slack workspace whose people may ask.
        clean: takes personal data and secrets out of what somebody typed, wherever it stands, before it is stored anywhere.

    Raises:
        NotPermitted: it comes from another Slack workspace.
        UsageError: it cannot be understood.
    """
    _require_team(body.get("team_id"), team)
    request = grammar.read(command, body.get("text") or "")
    if request is None:
        return None
    arguments = {name: value if grammar.slack_id(value) else clean(value) for name, value in request.arguments.items()}
    ask = Ask(act=request.act, arguments=arguments, user=_needed(body, "user_id"), channel=_needed(body, "channel_id"))
    return Delivery(key=f"command:{_needed(body, 'trigger_id')}", intent=ask.as_json())


def of_click(body: Body, seal: Seal, *, team: str) -> Delivery:
    """The delivery of a pressed button.

    Args:
        body: as Slack sent it, its signature checked.
        seal: what the bot's buttons are known by.
        team: the Slack workspace whose people may press.

    Raises:
        NotPermitted: whoever pressed it belongs to another Slack workspace, or this bot did not make the button.
    """
    user, container, action = body.get("user") or {}, body.get("container") or {}, body["actions"][0]
    _require_team(user.get("team_id"), team)
    click = seal.read(_needed(action, "action_id"), action.get("value") or "")
    who, message_ts = _needed(user, "id"), _needed(container, "message_ts")
    ask = Ask(
        act=click.act,
        arguments={"release": click.release_id},
        user=who,
        channel=_needed(container, "channel_id"),
        decided_on=click.version,
    )
    return Delivery(key=f"click:{message_ts}:{click.act}:{_needed(action, 'action_ts')}:{who}", intent=ask.as_json())


def _require_team(seen: str | None, team: str) -> None:
    if seen != team:
        raise NotPermitted("this bot", seen="you come from another Slack workspace", needed="somebody of its own workspace")


def _needed(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(
            "delivery", seen=f"Slack sent no {name}", next_step="try again; a delivery without it cannot be kept apart from others"
        )
    return value
