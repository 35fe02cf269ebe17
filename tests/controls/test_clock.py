"""The machine's clock."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from workbench.controls.clock import RealClock


async def _slept_s(seconds: float, n: int) -> list[float]:
    """How long so many sleeps really took, in a loop that other timers wake all the time."""
    loop, chance = asyncio.get_running_loop(), random.Random(7)

    def wake() -> None:
        loop.call_later(chance.random() * 0.003, wake)

    wake()
    took_s = []
    for _ in range(n):
        began_s = time.monotonic()
        await RealClock().sleep(seconds)
        took_s.append(time.monotonic() - began_s)
    return took_s


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_sleep_is_never_shorter_than_asked(run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]):
    """Who asks to be left alone for 20 ms is asked again after them: one asked after 19 would be passed over as still closed."""
    assert min(run(_slept_s(0.02, 100))) >= 0.02


def test_a_sleep_of_nothing_lets_others_run():
    async def order() -> list[str]:
        seen: list[str] = []
        asyncio.get_running_loop().call_soon(seen.append, "other")
        await RealClock().sleep(0.0)
        seen.append("own")
        return seen

    assert asyncio.run(order()) == ["other", "own"]
