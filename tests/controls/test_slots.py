"""Places at a target: never more than there are, never lost."""

from __future__ import annotations

import asyncio
import random
import threading

from workbench.controls.clock import RealClock
from workbench.controls.slots import Slots


def test_as_many_enter_as_there_are_places_and_as_many_wait_as_may():
    async def crowd():
        slots = Slots(most=2, most_waiting=1)
        assert [await slots.enter(RealClock(), within_s=1) for _ in range(2)] == [True, True]
        waiting = asyncio.create_task(slots.enter(RealClock(), within_s=60))
        await asyncio.sleep(0)
        assert slots.waiting == 1
        assert not await slots.enter(RealClock(), within_s=60)
        slots.leave()
        assert await waiting
        assert (slots.taken, slots.waiting) == (2, 0)

    asyncio.run(crowd())


def test_a_wait_ends_with_its_time_and_leaves_no_place_taken():
    async def impatient():
        slots = Slots(most=1, most_waiting=5)
        assert await slots.enter(RealClock(), within_s=1)
        assert not await slots.enter(RealClock(), within_s=0.01)
        assert slots.waiting == 0
        slots.leave()
        assert slots.taken == 0

    asyncio.run(impatient())


def test_one_who_leaves_in_the_moment_of_the_turn_passes_the_place_on():
    async def moment():
        slots = Slots(most=1, most_waiting=5)
        await slots.enter(RealClock(), within_s=1)
        leaving = asyncio.create_task(slots.enter(RealClock(), within_s=60))
        staying = asyncio.create_task(slots.enter(RealClock(), within_s=60))
        await asyncio.sleep(0)
        slots.leave()
        leaving.cancel()
        assert await staying
        slots.leave()
        assert (slots.taken, slots.waiting) == (0, 0)

    asyncio.run(moment())


def test_loops_on_several_threads_share_the_places():
    slots, inside, most, lock = Slots(most=3, most_waiting=1000), 0, 0, threading.Lock()

    async def visit(chance):
        nonlocal inside, most
        if not await slots.enter(RealClock(), within_s=chance.choice([0.001, 60])):
            return
        with lock:
            inside += 1
            most = max(most, inside)
        try:
            await asyncio.sleep(0)
        finally:
            with lock:
                inside -= 1
            slots.leave()

    async def crowd(seed):
        chance = random.Random(seed)
        visits = [asyncio.create_task(visit(chance)) for _ in range(100)]
        await asyncio.sleep(0)
        for task in chance.sample(visits, 30):
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    threads = [threading.Thread(target=asyncio.run, args=(crowd(seed),)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 3
    assert (slots.taken, slots.waiting) == (0, 0)
