"""A bot in a process of its own, over HTTP, that can be made to stand still at a chosen place, there to be killed."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path

from bot import work
from bot.acts import Acts
from bot.app import House
from bot.chat import Chat, client_for
from bot.fake_slack import TEAM
from bot.running import assembled, serve_http
from bot.threads import Threads
from tests.bot.office import SECRET, TOKEN, Reviewer, office
from workbench.ledger.inbox import Inbox
from workbench.workspace import utc_now

PLACES = ("before the pin", "before the act", "in the review", "after the act", "after the record", "after the post", "after the telling")


def stand_still(place: str) -> None:
    """Patches the verb at which the process is to stop; it says so on its output and waits to be killed."""
    owner, name, is_after = {
        "before the pin": (Acts, "pinned", False),
        "before the act": (Acts, "do", False),
        "in the review": (Reviewer, "review", False),
        "after the act": (Acts, "do", True),
        "after the record": (Inbox, "record", True),
        "after the post": (Threads, "show", True),
        "after the telling": (Chat, "tell", True),
    }[place]
    verb = getattr(owner, name)

    def halt() -> None:
        print("here", flush=True)
        time.sleep(600)

    def blocking(*args, **options):
        done = verb(*args, **options) if is_after else None
        halt()
        return done

    async def waiting(*args, **options):
        await verb(*args, **options)
        halt()

    setattr(owner, name, waiting if asyncio.iscoroutinefunction(verb) else blocking)


def main(home: str, base_url: str, place: str, pace: str = "hasty") -> None:
    """Runs until it is terminated.

    Args:
        home: the workspace.
        base_url: of Slack's Web API.
        place: where it stands still; nowhere when empty.
        pace: `hasty` takes over from a killed bot within a second; any other word leaves the bot as it is shipped.
    """
    if pace == "hasty":
        work.LEASE = timedelta(seconds=1)
        work.POLL_S = 0.05
    if place:
        stand_still(place)

    async def serve(ws) -> None:
        client = client_for(TOKEN, base_url=base_url)
        house = House(team=TEAM, token=TOKEN, signing_secret=SECRET)
        async with assembled(ws, house, client, actor_of=ws.ownership.actor_of_slack_id) as bot:
            await serve_http(bot, host="127.0.0.1", port=0, on_ready=lambda place: print(place, flush=True))

    with office(Path(home), clock=utc_now) as ws:
        asyncio.run(serve(ws))


if __name__ == "__main__":
    main(*sys.argv[1:])
