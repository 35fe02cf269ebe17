"""The bot's acknowledgements: signed slash commands over HTTP, fifty in flight, each committed in the inbox before it is acknowledged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from bot.fake_slack import FakeSlack
from tests.benchmarks import Figure, Report
from tests.bot.office import CHANNEL, REQUESTER, command_body, form, office, signed
from tests.release.house import APP
from workbench.workspace import utc_now

N, IN_FLIGHT = 2000, 50
_WARM_UP = 200


def run() -> Report:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with office(home, clock=utc_now):
            pass
        latencies_ms, lost, seconds = asyncio.run(_measured(home))
    ranked = sorted(latencies_ms)
    return Report(
        title=f"bot: {N:,} signed commands over HTTP, {IN_FLIGHT} in flight, SQLite",
        figures=[
            Figure(what="acknowledgement p50", value=ranked[len(ranked) // 2], unit="ms"),
            Figure(what="acknowledgement p99", value=ranked[int(len(ranked) * 0.99)], unit="ms", at_most=200),
            Figure(what="slowest", value=ranked[-1], unit="ms"),
            Figure(what="acknowledged", value=N / seconds, unit="commands/s"),
            Figure(what="not answered in the end", value=lost, unit="commands", at_most=0),
        ],
    )


async def _measured(home: Path) -> tuple[list[float], int, float]:
    """The latencies, how many commands nobody was told the outcome of, and how long all took."""
    async with FakeSlack([CHANNEL]) as slack, aiohttp.ClientSession() as session:
        command = [sys.executable, "-m", "tests.bot.process", str(home), slack.base_url, "", "as shipped"]
        bot = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        url = (await bot.stdout.readline()).decode().strip()
        await _sent(session, url, _WARM_UP)
        started = time.monotonic()
        latencies_ms = await _sent(session, url, N)
        seconds = time.monotonic() - started
        deadline = time.monotonic() + 300
        while len(slack.messages) < N + _WARM_UP and time.monotonic() < deadline:  # noqa: ASYNC110 -- the bot rings no bell
            await asyncio.sleep(0.1)
        bot.terminate()
        await bot.wait()
        return latencies_ms, N + _WARM_UP - len(slack.messages), seconds


async def _sent(session: aiohttp.ClientSession, url: str, n: int) -> list[float]:
    slots, latencies_ms = asyncio.Semaphore(IN_FLIGHT), []

    async def one() -> None:
        body = form(command_body(REQUESTER, f"/owner oncall {APP}"))
        async with slots:
            started = time.perf_counter()
            async with session.post(url, data=body, headers=signed(body)) as response:
                await response.read()
                assert response.status == 200, response.status
            latencies_ms.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(one() for _ in range(n)))
    return latencies_ms
