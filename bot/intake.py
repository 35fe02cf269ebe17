"""The way into the inbox: deliveries that come at once are stored in one transaction, so that fifty wait no longer than a few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bot.pool import Pool
from workbench.ledger.inbox import Delivery, Inbox, Receipt


class Intake:
    """Puts deliveries into the inbox.

    Args:
        inbox: where they go.
        on_new: called on the event loop when something new is there.
    """

    def __init__(self, inbox: Inbox, *, on_new: Callable[[], None]) -> None:
        self._inbox = inbox
        self._on_new = on_new
        self._pool = Pool(1, name="intake")
        self._waiting: list[tuple[Delivery, asyncio.Future[Receipt]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, delivery: Delivery) -> Receipt:
        """The receipt, after the delivery is committed.

        Raises:
            StoreError: it could not be stored; the sender has to be told so.
        """
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, receipt))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await receipt

    def close(self) -> None:
        """Returns when what has begun is stored."""
        self._pool.close()

    async def _write(self) -> None:
        """Stores what waits, and what came meanwhile, until nothing waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                receipts = await self._pool.call(self._inbox.put, [delivery for delivery, _ in batch])
            except Exception as error:  # noqa: BLE001 -- whoever waits for a receipt meets it there
                for _, waiting in batch:
                    _give_up(waiting, error)
                continue
            for (_, waiting), receipt in zip(batch, receipts, strict=True):
                if not waiting.done():
                    waiting.set_result(receipt)
            if any(receipt.is_new for receipt in receipts):
                self._on_new()
        self._writing = None


def _give_up(waiting: asyncio.Future[Receipt], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
