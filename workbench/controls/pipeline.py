"""The order of one call: START, input guards, the model within the deadline, output guards, END, and the answer leaves.

START is committed before the model is asked, and END before the answer's last byte leaves.
Whatever ends a call early leaves an END as well: a caller who goes away, a bundle that breaks, an answer that cannot be stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar

import orjson

from workbench.controls.clock import Clock
from workbench.controls.deadline import Deadline
from workbench.controls.embedding import Embedding
from workbench.controls.events import Choice
from workbench.controls.guarding import WITHHOLDING, TurnGuard
from workbench.controls.guards.model import Checked
from workbench.controls.handoff import Mode
from workbench.controls.handover import NOBODY_ANSWERED, Desk, handoff_step, new_handoff, signs_of
from workbench.controls.hosting import error_type
from workbench.controls.journal import Journal
from workbench.controls.model import Answer, Assignment, Call, Embedded, Head, StreamBroken
from workbench.controls.outlet import AnswerStream, Outlet
from workbench.controls.recording import Recorder, Row, Rows, milliseconds, status_of, turn_columns
from workbench.controls.refusals import bad_request, blocked, cannot_be_held, deadline_passed, failed, too_late
from workbench.controls.serving import Serving
from workbench.controls.sessions import Sessions
from workbench.controls.turn import Step, Turn, closed, is_served_by_another, model_served, most_attempts, output_of, said
from workbench.controls.uncertainty import HandoffMode, Signal, mode_of
from workbench.controls.underway import Underway
from workbench.errors import RecordRefused, RequestRefused, WorkbenchError

_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")
STOPPING = "stopping"
"""The message with which a process that ends cancels its calls, `task.cancel(STOPPING)`; so their END does not blame the caller."""
_SEALED_AT_ONCE = 64 << 10
"""Bytes of JSON. Sealing takes 50 to 250 ms per MB, for which no loop can wait."""
FILTERED = "content_filter"
"""The finish reason of a choice from which a guard took what was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all calls of a process stand on."""

    journal: Journal
    """Commits the records."""
    recorder: Recorder
    """Makes them."""
    desk: Desk | None
    """Takes what people decide; None where nobody is to be asked."""
    sessions: Sessions = field(default_factory=Sessions)


class Attempt:
    """One admitted call on its way to its answer.

    Args:
        ground: what all calls stand on.
        call: what is asked.
        assignment: which bundle answers; pinned to the end.
        serving: that bundle, or what stands for it.
        start: its START, sealed and not yet committed.
        clock: of this call.
        arrived_s: when the call came, on that clock.
    """

    def __init__(
        self,
        ground: Ground,
        call: Call,
        assignment: Assignment,
        serving: Serving,
        *,
        start: Row,
        clock: Clock,
        arrived_s: float,
    ) -> None:
        self._journal = ground.journal
        self._recorder = ground.recorder
        self._call = call
        self._assignment = assignment
        self._serving = serving
        self._clock = clock
        self._arrived_s = arrived_s
        self._zero = call.received_at - timedelta(seconds=arrived_s)
        self._steps: list[Step] = []
        self._start = start
        self._guard = TurnGuard(serving.guards, clock=clock, steps=self._steps, offered=serving.offered(call))
        self._ground = ground
        self._outlet: Outlet | None = None
        self._turn_made: Turn | None = None

    def outlet(self) -> Outlet:
        """The way out of a streamed answer."""
        withhold = partial(self._serving.guards.withhold, is_streamed=not self._is_for_a_person)
        self._outlet = Outlet(withhold, may_leave=self._guard.passed, head=self._head)
        return self._outlet

    async def answer(self, deadline: Deadline) -> Answer:
        """The answer, no byte of which exists before START is committed, and which leaves after END is.

        Raises:
            RequestRefused: `audit_unavailable`, a record could not be committed; `deadline_passed`, that took all the time there was;
                `internal_error`, no fallback covers what failed.
            StreamBroken: part of the answer had left when the rest failed.
        """
        turn = self._turn_made = await self._served(deadline)
        latency_s = self._clock.now() - self._arrived_s
        try:
            columns = turn_columns(turn)
            rows = await self._sealed_end(turn, columns, latency_s)
            await self._journal.commit(rows)
        except RequestRefused:
            raise
        except Exception as fault:  # the steps and the answer are what somebody else's code made of them
            self._leave("error", "unrecordable")
            raise failed("unrecordable") from fault
        self._ground.sessions.note(self._call.app, self._call.session_id, turn.status)
        if self._has_left and turn.error_type is not None:
            raise StreamBroken(turn.error_type, "The answer broke off; what was sent of it is not complete.")
        answer = self._answer(turn, columns, latency_s)
        if self._outlet is not None:
            await self._outlet.end([closed(choice, turn.status) for choice in answer.choices])
        return answer

    def embedded(self, answer: Answer) -> Embedded:
        """The vectors of an answered question for them.

        Raises:
            RequestRefused: `blocked`, a guard stopped the texts.
        """
        if not isinstance(self._serving, Embedding) or answer.status != "ok":
            raise blocked(answer.blocked_rules)
        return Embedded(
            request_id=answer.request_id,
            vectors=self._serving.vectors,
            model=answer.model_served or self._serving.model or "",
            input_tokens=answer.input_tokens,
            bundle_id=answer.bundle_id,
            arm=answer.arm,
            blocked_rules=answer.blocked_rules,
        )

    @property
    def _is_for_a_person(self) -> bool:
        """Whether it is known before the model is asked that its answer has to wait for a person: then nothing of it leaves before."""
        failures = self._ground.sessions.failures(self._call.app, self._call.session_id)
        uncertainty = self._serving.guards.uncertainty
        if not uncertainty.may_speak((), n_session_failures=failures):
            return False
        unanswered = Turn(choices=said(""), status="ok", start_s=0.0, latency_s=0.0, steps=())
        asked = signs_of(self._call, unanswered, (), (), n_session_failures=failures)
        is_held = mode_of(uncertainty.signals(asked)) is HandoffMode.HOLD
        return is_held and self._can_hold

    @property
    def _can_hold(self) -> bool:
        return self._ground.desk is not None and self._ground.desk.can_hold(self._call.app)

    @property
    def _has_left(self) -> bool:
        return self._outlet is not None and self._outlet.is_open

    async def _served(self, deadline: Deadline) -> Turn:
        """What came of the call, after its START; where nothing came of it, an END says so."""
        try:
            await self._journal.commit({"requests": [self._start]})
            left_s = self._left_s(deadline)
            async with self._clock.limit(max(0.0, deadline.at_s - self._clock.now())):
                return await self._guarded(await self._turn(left_s))
        except asyncio.CancelledError as ended:
            self._leave("cancelled", _who_ended(ended))
            raise
        except RequestRefused as refusal:
            self._leave(status_of(refusal), refusal.code)
            raise
        except TimeoutError as fault:  # a guard, a person's desk or a caller who reads slowly took what was left
            self._leave("timeout", "guards_late")
            raise too_late(self._call.deadline_s) from fault
        except Exception as fault:
            code = error_type(fault)
            _LOG.error("call %s of %s failed: %s", self._start["request_id"], self._call.app, code)
            self._leave("error", code)
            raise failed(code) from fault
        finally:
            await self._guard.end()

    async def _turn(self, limit_s: float) -> Turn:
        """What the bundle makes of the call, when its input may go there."""
        start_s = self._clock.now()
        messages = await self._guard.admit(self._call.messages)
        if messages is None:
            return Turn(choices=said(""), status="blocked", start_s=start_s, latency_s=0.0, steps=())
        return await self._serving.answer(
            Underway(
                call=self._call if messages is self._call.messages else replace(self._call, messages=tuple(messages)),
                clock=self._clock,
                deadline_s=start_s + limit_s,
                steps=self._steps,
                guard=self._guard,
                say=None if self._outlet is None else self._outlet.say,
            )
        )

    async def _guarded(self, raw: Turn) -> Turn:
        """The turn as it may leave: what is withheld is gone from it, what a guard found is named, and people are asked where they must."""
        outlet = self._outlet
        if outlet is not None and outlet.is_open and raw.error_type is not None:  # nothing can follow half an answer
            self._steps.remove(raw.steps[-1])  # the ending that would have stood for it was not given
            self._guard.note(Checked(text="", findings=outlet.found))
            turn = replace(raw, choices=outlet.left, is_fallback=False)
        elif not await self._guard.passed():
            turn = replace(raw, choices=self._refusal(), status="blocked", is_fallback=False, error_type=None)
        else:
            if outlet is not None and raw.error_type is not None:
                outlet.forget()
            turn = await self._looked_at(raw)
        if not self._guard.is_blocked and self._call.operation == "chat":  # nobody can decide on vectors
            turn = await self._handed_over(raw, turn)
        return replace(
            turn,
            blocked_rules=tuple(dict.fromkeys((*turn.blocked_rules, *self._guard.blocked_rules))),
            violation_rules=self._guard.violation_rules,
            looked=self._guard.looked,
            steps=tuple(self._steps),
        )

    async def _looked_at(self, turn: Turn) -> Turn:
        """The turn after the output guards."""
        choices = [await self._released(number, choice) for number, choice in enumerate(turn.choices)]
        are_stopped = all(choice.finish_reason == FILTERED for choice in choices)
        if not are_stopped and all(released is choice for released, choice in zip(choices, turn.choices, strict=True)):
            return turn
        return replace(turn, choices=tuple(choices), status="blocked" if are_stopped else turn.status)

    async def _released(self, number: int, choice: Choice) -> Choice:
        """The choice as it may leave; the refusal where nothing of it may."""
        before, text = "", choice.content or ""
        if self._outlet is None:
            checked = await self._serving.guards.check_output(text, clock=self._clock)
        else:
            way = self._outlet.way(number)
            checked = await way.settle(text, clock=self._clock)
            before = way.before
        is_stopped = self._guard.note(checked) in WITHHOLDING
        if not is_stopped and checked.text == text and not choice.tool_calls:  # as nearly always
            return choice
        content = before if is_stopped else checked.text
        called = replace(choice, tool_calls=()) if is_stopped else await self._guard.tool_calls(choice)
        is_stopped = is_stopped or (bool(choice.tool_calls) and not called.tool_calls)
        if is_stopped and not content:
            return self._refusal()[0]
        reason = FILTERED if is_stopped else choice.finish_reason
        return replace(called, content=content if content or choice.content is not None else None, finish_reason=reason)

    async def _handed_over(self, raw: Turn, turn: Turn) -> Turn:
        """The turn, handed to people where it is uncertain: held back, or flagged when it has left or cannot be held."""
        failures = self._ground.sessions.failures(self._call.app, self._call.session_id)
        findings, uncertainty = self._guard.findings, self._serving.guards.uncertainty
        signals: tuple[Signal, ...] = ()
        if uncertainty.may_speak(findings, n_session_failures=failures):
            signals = uncertainty.signals(signs_of(self._call, raw, self._steps, findings, n_session_failures=failures))
        if raw.wants_person:
            signals = (*signals, NOBODY_ANSWERED)
        mode = mode_of(signals)
        if mode is None:
            return turn
        desk = self._ground.desk
        if desk is None:
            self._steps.append(handoff_step(Mode.FLAG, signals, at_s=self._clock.now(), fault=None))
            return turn
        can_hold = mode is HandoffMode.HOLD and not self._has_left and self._can_hold
        kept = Mode.HOLD if can_hold else Mode.FLAG
        handoff_id, fault = await self._opened(desk, raw, signals, kept)
        self._steps.append(handoff_step(kept, signals, at_s=self._clock.now(), fault=fault))
        if handoff_id is None and kept is Mode.HOLD and raw.error_type is None:
            raise cannot_be_held()
        if handoff_id is None or kept is Mode.FLAG:
            return replace(turn, handoff_id=turn.handoff_id or handoff_id)
        holding = self._serving.guards.handoff.holding_text
        if holding is None:
            holding = await asyncio.to_thread(desk.holding_text, self._call.app)
        return replace(turn, choices=said(holding, "stop"), status="handed_off", handoff_id=handoff_id)

    async def _opened(self, desk: Desk, raw: Turn, signals: Sequence[Signal], mode: Mode) -> tuple[str | None, str | None]:
        """The id of the item that people decide, or why there is none. What the guards take from an answer nobody is shown."""
        shown = await self._serving.guards.check_output(raw.content, clock=self._clock)
        sla = self._serving.guards.handoff.sla
        new = new_handoff(
            self._call,
            self._assignment,
            signals,
            proposed=None if raw.error_type else shown.text or None,
            mode=mode,
            awaiting=self._guard.awaiting,
            due_s=None if sla is None else sla.total_seconds(),
            at=self._call.received_at + timedelta(seconds=self._clock.now() - self._arrived_s),
        )
        try:
            return (await asyncio.to_thread(desk.open, new)).handoff_id, None
        except WorkbenchError as fault:
            _LOG.error("call %s of %s could not be handed over: %s", self._start["request_id"], self._call.app, error_type(fault))
            return None, "handoff_unavailable"

    def _refusal(self) -> tuple[Choice, ...]:
        """What the caller gets in place of what may not leave."""
        return said(self._guard.refusal, FILTERED)

    def _head(self) -> Head:
        """What is known now: of what is held until its end, everything."""
        turn, guard, steps = self._turn_made, self._guard, self._steps
        return Head(
            request_id=self._call.request_id,
            bundle_id=self._assignment.bundle_id,
            bundle_name=self._serving.bundle_name,
            arm=self._assignment.arm,
            release_id=self._assignment.release_id,
            attempts=most_attempts(steps),
            is_fallback=any(step.kind == "fallback" for step in steps) or is_served_by_another(steps),
            model_served=model_served(steps),
            blocked_rules=turn.blocked_rules if turn else guard.blocked_rules,
            violation_rules=(turn.violation_rules if turn else guard.violation_rules) or (),
            handoff_id=turn.handoff_id if turn else None,
        )

    def _left_s(self, deadline: Deadline) -> float:
        """Seconds that the model may take.

        Raises:
            RequestRefused: committing START took what there was.
        """
        left_s = deadline.left_s(self._clock.now())
        if not left_s:
            raise deadline_passed(self._call.deadline_s)
        return left_s

    def _leave(self, status: str, code: str) -> None:
        """Record that the call ended without an answer: with the steps so far, or without them where they cannot be stored."""
        now_s = self._clock.now()
        has_left = self._outlet is not None and self._outlet.is_open
        if self._outlet is not None and has_left and self._turn_made is None:
            self._guard.note(Checked(text="", findings=self._outlet.found))
        for steps in (tuple(self._steps), ()):
            turn = Turn(
                choices=said(""),
                status=status,
                error_type=code,
                start_s=self._arrived_s,
                latency_s=now_s - self._arrived_s,
                blocked_rules=self._guard.blocked_rules,
                violation_rules=self._guard.violation_rules if has_left else None,
                looked=self._guard.looked,
                steps=steps,
            )
            try:
                return self._journal.leave(self._end(turn, turn_columns(turn), turn.latency_s, output=self._partly()))
            except Exception as fault:  # noqa: BLE001 - as in `answer`
                _LOG.warning("the steps of call %s cannot be stored: %s", self._start["request_id"], error_type(fault))
        return None

    def _partly(self) -> Mapping[str, Any] | None:
        """What had left of a streamed answer that came to no end."""
        return output_of(self._outlet.left) if self._outlet is not None and self._outlet.is_open else None

    async def _sealed_end(self, turn: Turn, columns: Row, latency_s: float) -> Rows:
        """The END of an answer; it may be cancelled until it is made, and not any more when it is committed."""
        output = output_of(turn.choices)
        long = [output, *(step.details for step in turn.steps), dict(self._call.metadata or {})]
        try:
            return await _aside(long, self._end, turn, columns, latency_s, output=output)
        except asyncio.CancelledError as ended:
            self._leave("cancelled", _who_ended(ended))
            raise

    def _end(self, turn: Turn, columns: Row, latency_s: float, *, output: Mapping[str, Any] | None) -> Rows:
        return self._recorder.end(self._start, self._call, turn, columns, output=output, latency_s=latency_s, zero=self._zero)

    def _answer(self, turn: Turn, columns: Row, latency_s: float) -> Answer:
        return Answer(
            request_id=self._call.request_id,
            choices=turn.choices,
            status=turn.status,
            bundle_id=self._assignment.bundle_id,
            bundle_name=self._serving.bundle_name,
            arm=self._assignment.arm,
            release_id=self._assignment.release_id,
            attempts=columns["attempts"],
            is_fallback=turn.is_fallback,
            model_served=columns["model_served"],
            input_tokens=columns["input_tokens"],
            output_tokens=columns["output_tokens"],
            latency_ms=milliseconds(latency_s),
            blocked_rules=turn.blocked_rules,
            violation_rules=turn.violation_rules or (),
            handoff_id=turn.handoff_id,
        )


@asynccontextmanager
async def streamed(attempt: Attempt, deadline: Deadline) -> AsyncIterator[AnswerStream]:
    """The attempt's answer in pieces. Leaving before the end cancels it.

    Raises: as `Attempt.answer`, on entering; from then on the stream raises StreamBroken.
    """
    outlet = attempt.outlet()
    task = asyncio.create_task(_said_to_the_end(attempt, deadline, outlet))
    stream = AnswerStream(outlet, task)
    try:
        await stream.opened()
        yield stream
    except asyncio.CancelledError as ended:
        task.cancel(*ended.args)
        raise
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # whoever reads the stream has heard of it, or has left


async def _said_to_the_end(attempt: Attempt, deadline: Deadline, outlet: Outlet) -> Answer:
    try:
        return await attempt.answer(deadline)
    finally:
        outlet.close()


async def sealed_start(recorder: Recorder, call: Call, assignment: Assignment, serving: Serving) -> Row:
    """The START of a call.

    Raises:
        RequestRefused: `bad_request`, the messages are nothing that can be stored.
    """
    try:
        return await _aside(call.messages, recorder.start, call, assignment, provider=serving.provider, model=serving.model)
    except RecordRefused as fault:
        raise bad_request(f"the messages cannot be stored: {fault.seen}", needed=fault.needed) from fault


async def _aside(said: Any, seal: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `seal` makes of what was said: at once, or on a thread where it is so long that other calls would have to wait."""
    if _is_long(said):
        return await asyncio.to_thread(seal, *args, **kwargs)
    return seal(*args, **kwargs)


def _is_long(said: Any) -> bool:
    try:
        return len(orjson.dumps(said, default=_unknown)) > _SEALED_AT_ONCE
    except orjson.JSONEncodeError:  # sealing refuses it at once
        return False


def _unknown(_value: object) -> None:
    """What is not JSON is not measured."""


def _who_ended(ended: asyncio.CancelledError) -> str:
    return STOPPING if STOPPING in ended.args else "client_left"
