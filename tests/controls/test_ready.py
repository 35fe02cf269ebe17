"""What is awaited under a limit comes as if it were awaited plainly, and the limit counts only where something is waited for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.clock import RealClock
from workbench.controls.ready import taken


class Limits:
    """Counts how often a limit is entered."""

    def __init__(self):
        self.entered = 0

    @asynccontextmanager
    async def __call__(self):
        self.entered += 1
        yield


async def given_out(plan):
    """What stands in the plan; None stands for a turn of the loop, an exception is raised."""
    for item in plan:
        if item is None:
            await asyncio.sleep(0)
        elif isinstance(item, Exception):
            raise item
        else:
            yield item


async def read(plan, take):
    """What comes, and the class of what ends it."""
    came = []
    async with aclosing(given_out(plan)) as items:
        try:
            while (item := await take(items)) is not None:
                came.append(item)
        except KeyError as fault:
            return came, type(fault)
    return came, None


@given(st.lists(st.none() | st.integers(0, 9) | st.just(KeyError()), max_size=12))
def test_a_stream_says_the_same_with_and_without_limits(plan):
    limits = Limits()
    plainly = asyncio.run(read(plan, lambda items: anext(items, None)))
    under_limits = asyncio.run(read(plan, lambda items: taken(anext(items, None), limits)))
    assert under_limits == plainly
    assert limits.entered <= sum(item is None for item in plan)


def test_what_is_there_enters_no_limit():
    limits = Limits()
    assert asyncio.run(read([1, 2, 3], lambda items: taken(anext(items, None), limits))) == ([1, 2, 3], None)
    assert limits.entered == 0


def test_what_takes_too_long_is_cancelled_and_ends_with_a_timeout():
    ended = []

    async def waits():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        asyncio.run(_awaited(within_s(0.01, waits())))
    assert ended == ["cancelled"]


def test_whoever_is_cancelled_cancels_what_it_waits_for():
    async def scene():
        begun, ended = asyncio.Event(), []

        async def waits():
            try:
                await asyncio.sleep(0)
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError as why:
                ended.append(why.args)
                raise

        task = asyncio.create_task(_awaited(within_s(60, waits())))
        await begun.wait()
        task.cancel("client_left")
        with pytest.raises(asyncio.CancelledError):
            await task
        return ended

    assert asyncio.run(scene()) == [("client_left",)]


def within_s(seconds, awaited):
    clock = RealClock()
    return clock.within(clock.now() + seconds, awaited)


async def _awaited(awaitable):
    return await awaitable
