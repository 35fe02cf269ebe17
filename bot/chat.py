"""The few things that the bot does in Slack: tell one person, post to a channel, edit what it posted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import ClientError
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler, AsyncServerErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

from bot.asks import Said
from workbench.errors import WorkbenchError
from workbench.views.cards import escaped

_OUT_OF_REACH = frozenset({"channel_not_found", "not_in_channel", "user_not_in_channel", "is_archived", "channel_is_archived"})
_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_NOT_NOW = frozenset({"", "ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_MOST_RETRIES = 3


class ChatRefused(WorkbenchError):
    """Slack answered, and did not do it. `code` is Slack's own word for the reason."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"Slack {method}", seen=f'it answered "{code}"')
        self.code = code

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the bot cannot write in that channel."""
        return self.code in _OUT_OF_REACH


class ChatDown(WorkbenchError):
    """Slack did not answer, or asked to wait for longer than the client does; whether it acted is unknown."""


def client_for(token: str, *, base_url: str) -> AsyncWebClient:
    """A Web API client that waits where Slack asks it to (429), and tries again when its connection or server fails."""
    client = AsyncWebClient(token=token, base_url=base_url)
    client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=_MOST_RETRIES))
    client.retry_handlers.append(AsyncServerErrorRetryHandler(max_retry_count=1))
    return client


class Chat:
    """Slack, as far as the bot speaks."""

    def __init__(self, client: AsyncWebClient) -> None:
        self._client = client

    async def team(self) -> str:
        """The id of the workspace that the token is for.

        Raises:
            ChatRefused: the token is not one that Slack takes.
            ChatDown: Slack does not answer; so does every method.
        """
        return str((await self._call("auth.test", {}))["team_id"])

    async def try_socket(self) -> None:
        """Returns when the token, an app-level one, may open a socket; the SDK's own client would try for ever with one that may not."""
        await self._call("apps.connections.open", {})

    async def tell(self, user: str, channel: str, said: Said) -> None:
        """Says something to one person: in the channel, where only they see it, else as a direct message."""
        try:
            await self._call("chat.postEphemeral", {"channel": channel, "user": user, **content(said)})
        except ChatRefused as refusal:
            if not refusal.is_out_of_reach:
                raise
            await self._call("chat.postMessage", {"channel": user, **content(said)})

    async def post(self, channel: str, said: Said, *, thread: str | None = None, is_broadcast: bool = False) -> str:
        """Posts a message; its `ts`.

        Args:
            channel: where.
            said: what.
            thread: the parent's `ts`, for a reply.
            is_broadcast: whether the reply shows in the channel too.
        """
        place = {} if thread is None else {"thread_ts": thread, "reply_broadcast": is_broadcast}
        return str((await self._call("chat.postMessage", {"channel": channel, **place, **content(said)}))["ts"])

    async def edit(self, channel: str, ts: str, said: Said) -> bool:
        """Replaces what a message says; False when the message is gone."""
        try:
            await self._call("chat.update", {"channel": channel, "ts": ts, **content(said)})
        except ChatRefused as refusal:
            if refusal.code in _GONE:
                return False
            raise
        return True

    async def _call(self, method: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """One call of the Web API."""
        try:
            answer = await self._client.api_call(method, json=dict(arguments))
        except SlackApiError as error:
            code = _code_of(error)
            if code in _NOT_NOW:
                raise ChatDown(f"Slack {method}", seen=f"it answered {code or 'something else than JSON'}") from error
            raise ChatRefused(method, code) from error
        except (ClientError, TimeoutError, OSError) as error:
            raise ChatDown(f"Slack {method}", seen=f"it cannot be reached ({type(error).__name__})") from error
        return dict(answer.data) if isinstance(answer.data, dict) else {}


def _code_of(error: SlackApiError) -> str:
    """Slack's own word for what went wrong; empty where its answer is not Slack's."""
    content = getattr(error.response, "data", None)
    return str(content.get("error", "")) if isinstance(content, dict) else ""


def content(said: Said) -> dict[str, Any]:
    """The message as Slack's methods take it."""
    called = "".join(f" <@{slack_id}>" for slack_id in said.mentions)
    return {"text": f"{escaped(said.text)}{called}", **({"blocks": list(said.blocks)} if said.blocks else {})}
