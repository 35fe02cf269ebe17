"""Bundles in memory: loaded once, waited for when they are on their way, tried again when they failed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.controls.test_routing import wait_for
from workbench.controls.serving import Canned
from workbench.controls.shelf import LINGER_S, RETRY_S, Shelf
from workbench.errors import IntegrityError, UsageError

DAMAGED = IntegrityError("bundle a@1", seen="its stored content no longer matches")


class Registry:
    """Where bundles come from; loading waits for `gate`."""

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.loads: list[str] = []
        self.forgotten: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.now = 0.0

    def load(self, bundle_id: str) -> Canned:
        self.gate.wait(10)
        self.loads.append(bundle_id)
        if bundle_id in self.faults:
            raise self.faults[bundle_id]
        return Canned(bundle_id)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def shelf(registry):
    made = Shelf(registry.load, forget=registry.forgotten.append, monotonic=lambda: registry.now)
    yield made
    registry.gate.set()
    made.close()


def test_what_is_named_is_loaded_once(shelf, registry):
    for _ in range(5):
        shelf.keep(["a@1", "a@2"])
    shelf.check()
    assert registry.loads == ["a@1", "a@2"]
    assert shelf.loaded == ("a@1", "a@2")
    assert shelf.ready("a@1") is not None
    assert shelf.ready("a@3") is shelf.ready(None) is None


def test_a_call_waits_for_its_bundle_and_not_longer_than_it_may(shelf, registry):
    registry.gate.clear()
    shelf.keep(["a@1"])
    assert shelf.ready("a@1") is None
    assert asyncio.run(shelf.get("a@1", within_s=0.01)) is None

    async def wait():
        task = asyncio.create_task(shelf.get("a@1", within_s=10))
        await asyncio.sleep(0.01)
        registry.gate.set()
        return await task

    assert asyncio.run(wait()) is shelf.ready("a@1") is not None


def test_a_caller_who_leaves_does_not_stop_the_load_for_the_others(shelf, registry):
    registry.gate.clear()
    shelf.keep(["a@0", "a@1"])

    async def leave():
        task = asyncio.create_task(shelf.get("a@1", within_s=10))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    registry.gate.set()
    shelf.check()
    assert shelf.ready("a@1") is not None


def test_what_cannot_be_loaded_is_said_and_tried_again_later(shelf, registry):
    registry.faults["a@1"] = UsageError("bundle a@1", seen="no entry point")
    shelf.keep(["a@1"])
    shelf.check()
    assert asyncio.run(shelf.get("a@1", within_s=1)) is None
    assert "no entry point" in shelf.faults["a@1"]
    registry.faults.clear()
    shelf.keep(["a@1"])
    assert registry.loads == ["a@1"]
    registry.now += RETRY_S + 1
    shelf.keep(["a@1"])
    shelf.check()
    assert (shelf.ready("a@1") is not None, shelf.faults) == (True, {})


def test_damaged_content_is_told_to_whoever_starts(shelf, registry):
    registry.faults["a@2"] = DAMAGED
    shelf.keep(["a@1", "a@2"])
    with pytest.raises(IntegrityError):
        shelf.check()


@pytest.mark.parametrize("fault", [RuntimeError("x"), SystemError("x"), KeyError("x")])
def test_any_failure_of_a_load_leaves_the_others_alone(shelf, registry, fault):
    registry.faults["a@1"] = fault
    shelf.keep(["a@1", "a@2"])
    shelf.check()
    assert shelf.loaded == ("a@2",)
    assert set(shelf.faults) == {"a@1"}


def test_a_bundle_lingers_after_its_route_and_is_forgotten_later(shelf, registry):
    shelf.keep(["a@1"])
    shelf.check()
    registry.now += LINGER_S
    shelf.keep(["a@2"])
    assert shelf.ready("a@1") is not None
    assert registry.forgotten == []
    registry.now += 1
    shelf.keep(["a@2"])
    assert shelf.ready("a@1") is None
    wait_for(lambda: shelf.loaded == ("a@2",) and registry.forgotten == ["a@1"])


def test_a_bundle_that_comes_back_is_loaded_after_what_it_left_was_forgotten(registry):
    done = []
    shelf = Shelf(
        lambda bundle_id: (done.append("load"), registry.load(bundle_id))[1],
        forget=lambda _: done.append("forget"),
        monotonic=lambda: registry.now,
    )
    shelf.keep(["a@1"])
    shelf.check()
    registry.now += LINGER_S + 1
    shelf.keep([])
    shelf.keep(["a@1"])
    shelf.check()
    assert done == ["load", "forget", "load"]
    shelf.close()
