"""What is there already is taken without a timer: of a stream's events most come several at once, and a timer costs more than they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def taken(awaited: Awaitable[T], limit: Callable[[], AbstractAsyncContextManager[object]]) -> T:
    """What the awaitable gives. The limit is entered only where that has to be waited for."""
    steps = awaited.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        given: T = done.value
        return given
    async with limit():
        return await _Begun(steps, waits_for)


@dataclass(frozen=True, slots=True)
class _Begun(Generic[T]):
    """The rest of an awaitable that was begun already."""

    steps: Generator[Any, Any, T]
    waits_for: Any
    """What its first step waits for."""

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self.waits_for
        while True:
            try:
                step = partial(self.steps.send, (yield waits_for))
            except BaseException as fault:  # noqa: BLE001 - whatever it is, it belongs to what is awaited
                step = partial(self.steps.throw, fault)
            try:
                waits_for = step()
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
