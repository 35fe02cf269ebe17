"""The worker: takes deliveries from the inbox, does what was asked for, and says what came of it.

    claim → pin what it is decided on → do → record the outcome → show it in the channel → tell the person → finish

It may be killed between any two of these: whoever claims the delivery next goes on from what is stored. An act that was done already, but
not recorded, is recognised by its audit entry, and could not be done twice in any case, because it is decided on a pinned version.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from bot.asks import Ask, Outcome, Said, refused
from bot.chat import Chat, ChatRefused
from bot.pool import Pool
from bot.threads import Threads
from workbench.errors import ConflictError, UsageError, WorkbenchError
from workbench.ledger.inbox import Claim, Inbox

log = logging.getLogger(__name__)
LEASE = timedelta(seconds=15)
POLL_S = 1.0
"""How often the inbox is looked into for what another process left behind."""
LOOK_AFTER_S = 15.0
STALE = timedelta(minutes=15)
"""What was asked for so long ago is not done any more: whoever asked has gone on without it."""
_MOST_ATTEMPTS = 8
_LONGEST_PAUSE_S = 60
_DAY, _KEPT = timedelta(days=1), timedelta(days=30)


class Doer(Protocol):
    """Does what was asked for. Its methods block; `bot.acts.Acts` is one."""

    def pinned(self, ask: Ask) -> Ask:
        """The wish with what it is decided on."""

    def done_before(self, ask: Ask, *, at: datetime) -> Outcome | None:
        """What came of it in an attempt that was stopped after it had done it; None where none did."""

    def do(self, ask: Ask, *, at: datetime) -> Outcome:
        """What came of it.

        Args:
            ask: what was asked for, pinned.
            at: when.

        Raises:
            WorkbenchError: it was refused.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Where outcomes are shown and told."""

    chat: Chat
    threads: Threads


class Worker:
    """Works on the inbox until it is stopped.

    Args:
        inbox: what is to be done.
        doer: does it.
        speaker: says what came of it.
        pool: where the blocking verbs run.
        clock: the time, aware.
        lanes: how many deliveries are worked on at once.
    """

    def __init__(self, inbox: Inbox, doer: Doer, speaker: Speaker, pool: Pool, *, clock: Callable[[], datetime], lanes: int = 4) -> None:
        self._inbox = inbox
        self._doer = doer
        self._chat, self._threads = speaker.chat, speaker.threads
        self._pool = pool
        self._clock = clock
        self._lanes = lanes
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._is_news = asyncio.Event()
        self._is_over = False

    def wake(self) -> None:
        """Says that something new is in the inbox."""
        self._is_news.set()

    def stop(self) -> None:
        """Says that nothing new is to be begun; `run` returns when what is at hand is done."""
        self._is_over = True
        self._is_news.set()

    async def run(self) -> None:
        """Works until it is stopped. When it is cancelled, what is being worked on stays in the inbox."""
        keeper = asyncio.create_task(self._look_after())
        try:
            await asyncio.gather(*(self._lane() for _ in range(self._lanes)))
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})

    async def drain(self) -> None:
        """Returns when nothing is left that could be worked on now, and every thread is up to date."""
        while await self.step():
            pass
        await self._threads.show_all(now=self._clock())

    async def step(self) -> bool:
        """Works on one delivery; False when there is none."""
        claim = await self._pool.call(self._inbox.claim, self._name, until=self._clock() + LEASE)
        if claim is None:
            return False
        try:
            async with self._held(claim):
                await self._work(claim)
        except ConflictError as error:
            log.warning("%s", error)
        return True

    async def _lane(self) -> None:
        while not self._is_over:
            self._is_news.clear()
            try:
                is_busy = await self.step()
            except Exception:  # the job loop: whatever one delivery did, the next one is worked on
                log.exception("a delivery could not be worked on; it is tried again")
                is_busy = False
            if not is_busy and not self._is_over:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_news.wait(), POLL_S)

    async def _look_after(self) -> None:
        """Brings threads up to date, and once a day deletes what was finished long ago: it holds people's words, and nobody repeats it."""
        forget_at = self._clock()
        while True:
            try:
                if self._clock() >= forget_at:
                    await self._pool.call(self._inbox.forget, before=self._clock() - _KEPT)
                    forget_at = self._clock() + _DAY
                await self._threads.show_all(now=self._clock())
            except Exception:  # the job loop, as above
                log.exception("the threads could not be looked after; it is tried again")
            await asyncio.sleep(LOOK_AFTER_S)

    async def _work(self, claim: Claim) -> None:
        """Does it and says what came of it. Whatever goes wrong is tried again, but not for ever."""
        outcome = None
        try:
            ask = Ask.from_json(claim.intent)
            outcome = Outcome.from_json(claim.outcome) if claim.outcome else await self._pool.call(self._done, claim, ask)
            await self._say(claim, ask, outcome)
        except ConflictError:
            raise  # another worker has it
        except Exception as error:  # the job loop: one delivery must not keep the lanes busy for ever
            if claim.attempts < _MOST_ATTEMPTS:
                await self._put_off(claim, error)
                return
            come = outcome.told.text if outcome else "nothing"
            log.exception("%s: given up; it may be that nobody was told what came of it: %s", _subject(claim), come)
        done = outcome or refused(f"{_subject(claim)}: given up after {claim.attempts} attempts; see the bot's log")
        await self._pool.call(self._inbox.finish, claim, done.as_json())

    async def _put_off(self, claim: Claim, error: Exception) -> None:
        """Gives the delivery back for a while that grows with its attempts."""
        pause = min(2**claim.attempts, _LONGEST_PAUSE_S)
        trace = None if isinstance(error, WorkbenchError) else error
        log.warning("%s: %s; it goes on in %d s", _subject(claim), error if trace is None else "a fault", pause, exc_info=trace)
        await self._pool.call(self._inbox.postpone, claim, until=self._clock() + timedelta(seconds=pause))

    def _done(self, claim: Claim, ask: Ask) -> Outcome:
        """What came of it, an error included. The outcome of an act is recorded at once; what was only looked at can be looked at again."""
        try:
            if claim.attempts > _MOST_ATTEMPTS:
                return refused(
                    f"{ask.act}: given up, because the bot stopped {_MOST_ATTEMPTS} times while it was at it; see `/release status`"
                )
            outcome = self._done_once(claim, ask)
        except WorkbenchError as error:
            outcome = refused(str(error))
        except Exception:  # the bot's error gate: the person gets an id, the log the rest
            fault = secrets.token_hex(4)
            log.exception("fault %s in %s", fault, ask.act)
            outcome = refused(f"{ask.act}: an unexpected fault; look up {fault} in the bot's log, and `/release status` for what was done")
        if not ask.is_looking:
            self._inbox.record(claim, outcome.as_json())
        return outcome

    def _done_once(self, claim: Claim, ask: Ask) -> Outcome:
        """What came of it in this attempt, or in an earlier one."""
        done = self._doer.done_before(ask, at=claim.received_at) if ask.is_pinned else None
        if done is not None:
            return done
        _require_fresh(ask, claim.received_at, self._clock())
        if not ask.is_pinned and not ask.is_looking:
            ask = self._doer.pinned(ask)
            self._inbox.pin(claim, ask.as_json())
        return self._doer.do(ask, at=claim.received_at)

    async def _say(self, claim: Claim, ask: Ask, outcome: Outcome) -> None:
        """Shows the outcome in the channel and tells the person, who hears of it once, and also when it cannot be shown.

        Raises:
            Exception: why it could not be shown or told, other than by Slack's refusal.
        """
        hint, trouble = "", None
        try:
            hint = await self._show(claim.key, ask, outcome)
        except Exception as error:  # noqa: BLE001 -- raised again when the person was told
            trouble = error
        if not outcome.is_told:
            await self._tell(ask, Said(text=f"{outcome.told.text}{hint}", blocks=outcome.told.blocks))
        if trouble is not None:
            await self._pool.call(self._inbox.record, claim, replace(outcome, is_told=True).as_json())
            raise trouble

    async def _show(self, key: str, ask: Ask, outcome: Outcome) -> str:
        """Shows the outcome in the channel; what the person has to know where Slack does not take it there, else nothing."""
        try:
            if outcome.release_id is not None:
                await self._threads.show(outcome.release_id, channel=ask.channel)
            if outcome.announced is not None:
                await self._threads.announce(f"delivery:{key}", ask.channel, outcome.announced)
        except ChatRefused as refusal:
            log.warning("%s: channel %s", refusal, ask.channel)
            if refusal.is_out_of_reach:
                return "\n(invite the bot to this channel, so that others see it)"
            return f"\n(this channel was not told: {refusal})"
        return ""

    async def _tell(self, ask: Ask, told: Said) -> None:
        try:
            await self._chat.tell(ask.user, ask.channel, told)
        except ChatRefused as refusal:
            log.warning("%s: %s could not be told what came of %s", refusal, ask.user, ask.act)

    @asynccontextmanager
    async def _held(self, claim: Claim) -> AsyncIterator[None]:
        """Renews the lease as long as the block lasts."""
        keeper = asyncio.create_task(self._keep(claim))
        try:
            yield
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def _keep(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            try:
                await self._pool.call(self._inbox.renew, claim, until=self._clock() + LEASE)
            except WorkbenchError as error:
                log.warning("%s", error)


def _subject(claim: Claim) -> str:
    """The act of a delivery, also of one that cannot be read."""
    return str(claim.intent.get("act", "a delivery"))


def _require_fresh(ask: Ask, asked_at: datetime, now: datetime) -> None:
    """Return when it was asked for not long ago.

    Raises:
        UsageError: otherwise.
    """
    if now - asked_at > STALE:
        seen = f"it was asked for at {asked_at:%Y-%m-%d %H:%M} UTC, and the bot did not run until now"
        raise UsageError(ask.act, seen=seen, next_step="nothing was done; ask again if it is still wanted")
