"""The controls: every model call of an app goes through here, whoever sends it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple, Self, Unpack

from workbench.controls.acknowledging import Acknowledger, process_name
from workbench.controls.admission import WHOLE, About, call_of, require_text
from workbench.controls.assignment import is_mirrored, mirror
from workbench.controls.beginnings import Beginnings
from workbench.controls.blocking import LoopThread
from workbench.controls.clock import RealClock, TurnClock
from workbench.controls.deadline import Deadline
from workbench.controls.handover import Desk
from workbench.controls.journal import Journal, Log
from workbench.controls.model import Answer, Assignment, Call, ControlsStatus, Embedded, Message, Reason, Route, StreamBroken
from workbench.controls.modules import forget_modules
from workbench.controls.outlet import AnswerStream
from workbench.controls.pipeline import Attempt, Ground, sealed_start, streamed
from workbench.controls.providers import Providers
from workbench.controls.recording import Recorder, derived_id
from workbench.controls.refusals import (
    bad_request,
    cannot_be_loaded,
    deadline_passed,
    embeds_nothing,
    never_released,
    not_ready,
    overloaded,
    served_elsewhere,
    switched_off,
    unknown_app,
)
from workbench.controls.routing import INTERVAL_S, KEEP_S, Reading, RouteTable
from workbench.controls.serving import HOSTED, PROXIED, Canned, Models, Serving, ServingMode, open_serving, serving_mode
from workbench.controls.shadows import Shadows
from workbench.controls.shedding import most_in_flight
from workbench.controls.shelf import Shelf
from workbench.controls.tally import Tally
from workbench.errors import RequestRefused
from workbench.ledger.erasures import newest_erasure
from workbench.ledger.registry import apps
from workbench.ledger.routes import StoredRoute, stored_routes
from workbench.ledger.store import Ledger
from workbench.observability.sealing import Sealer
from workbench.spec.app import AppSpec
from workbench.versions.service import Versions

_HERE = (HOSTED, PROXIED)
MOST_IN_FLIGHT = 1000
"""Calls that are answered at once."""


class _Alarm(NamedTuple):
    """What somebody has to look at, and whether it takes this process out of service."""

    sentence: str
    is_hindrance: bool


class Controls:
    """What stands around a model call? Threads and event loops share it.

    Args:
        ledger: where the routes are.
        versions: where the bundles are.
        log: where the records go.
        sealer: takes personal data out of them.
        providers: finds the models.
        desk: takes what people decide.
        app_spec: the declaration of an app, or None for an app that nobody declared.
        clock: the date and time of the records, aware.
        turn_clock: makes the clock that a call's waits, latency and deadline are on.
        most_in_flight: calls that are answered at once; more are refused.
        interval_s: between two readings of the routes.
        keep_s: how long the routes count while the ledger is out of reach.
        monotonic: the machine's time in seconds, for the age of what was read.
        name: of this process, under which the ledger is told by which routes it serves.
    """

    def __init__(
        self,
        ledger: Ledger,
        versions: Versions,
        log: Log,
        *,
        sealer: Sealer,
        providers: Providers,
        desk: Desk,
        app_spec: Callable[[str], AppSpec | None],
        clock: Callable[[], datetime],
        turn_clock: TurnClock = RealClock,
        most_in_flight: int = MOST_IN_FLIGHT,
        interval_s: float = INTERVAL_S,
        keep_s: float = KEEP_S,
        monotonic: Callable[[], float] = time.monotonic,
        name: str = "",
    ) -> None:
        self._ledger = ledger
        self._versions = versions
        self._models, self._shadow_models = Models(providers=providers), Models(providers=providers)
        """A shadow has its own record of the targets: its failures close none of them for those who wait."""
        self._app_spec = app_spec
        self._clock = clock
        self._turn_clock = turn_clock
        self._most_in_flight = most_in_flight
        self._journal = Journal(log, may_go_on=self._goes_on_without_audit, monotonic=monotonic)
        self._recorder = Recorder(sealer)
        self._ground = Ground(journal=self._journal, recorder=self._recorder, desk=desk)
        self._shadow_ground = Ground(journal=self._journal, recorder=self._recorder, desk=None)
        self._shadows = Shadows()
        self._shelf = Shelf(partial(self._load, self._models), monotonic=monotonic)
        self._shadow_shelf = Shelf(partial(self._load, self._shadow_models), forget=self._forget_shadow, monotonic=monotonic)
        self._acknowledger = Acknowledger(ledger, name=name or process_name(), clock=clock)
        self._routes = RouteTable(
            self._read,
            on_reading=self._keep,
            on_counting=self._acknowledger.take,
            interval_s=interval_s,
            keep_s=keep_s,
            monotonic=monotonic,
        )
        self._beginnings = Beginnings(monotonic=monotonic)
        self._tally = Tally()
        self._changing = threading.Lock()
        self._is_started = False
        self._newest_erasure = 0
        self._ending: str | None = None
        self._loop: LoopThread | None = None

    def start(self) -> None:
        """Read the routes, load their bundles, and keep both up to date on threads. The first call does it, too.

        Raises:
            StoreError: the ledger is out of reach.
            IntegrityError: stored content of a routed bundle is not what was registered.
        """
        with self._changing:
            if self._is_started:
                return
            self._routes.poll()
            self._shelf.check()
            self._routes.start()
            self._acknowledger.start()
            self._is_started = True

    async def handle(self, app: str, messages: Sequence[Message], **about: Unpack[About]) -> Answer:
        """The answer to the last message, from the bundle that the app's route gives the unit.

        Args:
            app: whose assistant is asked.
            messages: the talk so far in OpenAI's form, oldest first; the last is the user's.
            about: whom it is for, how long it may take, and so on: see `About`.

        Raises:
            RequestRefused: nothing was answered; its code says why.
            StoreError: the first call found the ledger out of reach.
        """
        if not self._is_started:
            await asyncio.to_thread(self.start)
        try:
            about["asked"] = replace(about.get("asked", WHOLE), is_streamed=False)
            call = call_of(app, messages, **about, received_at=self._clock())
            answer = (await self._answered(call))[1]
        except RequestRefused as refusal:
            self._tally.refuse(refusal.code)
            raise
        self._mirror(call)
        return answer

    async def embed(self, app: str, texts: Sequence[str], **about: Unpack[About]) -> Embedded:
        """Vectors for the texts, from the embedding model of the bundle that the app's route gives the unit.

        Takes the arguments of `handle`.

        Raises:
            RequestRefused: there are none; its code says why.
            StoreError: the first call found the ledger out of reach.
        """
        if not self._is_started:
            await asyncio.to_thread(self.start)
        messages = [{"role": "user", "content": text} for text in texts]
        try:
            call = replace(call_of(app, messages, **about, received_at=self._clock()), operation="embeddings")
            attempt, answer = await self._answered(call)
        except RequestRefused as refusal:
            self._tally.refuse(refusal.code)
            raise
        return attempt.embedded(answer)

    @asynccontextmanager
    async def stream(self, app: str, messages: Sequence[Message], **about: Unpack[About]) -> AsyncIterator[AnswerStream]:
        """The answer in pieces, each of which the guards let pass; entered when the first of them may leave.

        Takes the arguments of `handle`. Leaving before the end cancels the call, and its record says so.

        Raises:
            RequestRefused: nothing was answered; its code says why.
            StreamBroken: from the stream, when the rest of a begun answer failed.
            StoreError: the first call found the ledger out of reach.
        """
        if not self._is_started:
            await asyncio.to_thread(self.start)
        try:
            about["asked"] = replace(about.get("asked", WHOLE), is_streamed=True)
            call = call_of(app, messages, **about, received_at=self._clock())
            self._enter(call)
            try:
                attempt, deadline = await self._begun(call)
                async with streamed(attempt, deadline) as stream:
                    yield stream
            finally:
                self._tally.leave()
        except RequestRefused as refusal:
            self._tally.refuse(refusal.code)
            raise
        except StreamBroken:
            self._mirror(call)  # what failed with stable is compared, too
            raise
        self._tally.serve(stream.head.arm, has_unit=call.unit is not None)
        self._mirror(call)

    def handle_blocking(self, app: str, messages: Sequence[Message], **about: Unpack[About]) -> Answer:
        """`handle` for callers without an event loop; takes the same arguments."""
        with self._changing:
            if self._loop is None:
                self._loop = LoopThread()
        return self._loop.run(self.handle(app, messages, **about))

    def assign(self, app: str, unit: str | None, session: str | None = None) -> Assignment:
        """What the app's route gives this unit now, in this talk.

        Raises:
            RequestRefused: `unknown_app`, or `nothing_to_serve` where it was never released.
        """
        route, spec = self._route(app)
        is_runnable = serving_mode(spec) not in _HERE or self._beside(route) is not None
        return self._beginnings.assign(route, unit, session, withheld=self._withheld(is_runnable=is_runnable))

    def serving(self, app: str) -> ServingMode:
        """How the app is served."""
        return serving_mode(self._routes.reading.specs.get(app))

    def status(self) -> ControlsStatus:
        """How the controls of this process are doing."""
        counts = self._tally.counts()
        reading = self._routes.reading
        alarms = tuple(self._alarms())
        states = (None if self._is_started else "the controls have not been started", self._ending)
        reasons = (*filter(None, states), *(alarm.sentence for alarm in alarms if alarm.is_hindrance))
        return ControlsStatus(
            is_ready=not reasons,
            reasons=reasons,
            routes=tuple(reading.routes[app] for app in sorted(reading.routes)),
            route_age_s=self._routes.age_s,
            bundles=self._shelf.loaded,
            in_flight=counts.in_flight,
            served=counts.served,
            no_unit=counts.no_unit,
            refused=counts.refused,
            shadows=self._shadows.counts,
            talks=len(self._beginnings),
            alarms=tuple(alarm.sentence for alarm in alarms),
        )

    def close(self) -> None:
        """End the threads; calls of `handle_blocking` that are in flight are cancelled."""
        self._ending = "it has ended"
        self._routes.stop()
        self._acknowledger.stop()
        with self._changing:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()
        self._shadows.close()
        self._shadow_shelf.close()
        self._shelf.close()
        self._journal.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _answered(self, call: Call) -> tuple[Attempt, Answer]:
        """The call's whole answer, and the attempt that made it; both counted."""
        self._enter(call)
        try:
            attempt, deadline = await self._begun(call)
            answer = await attempt.answer(deadline)
        finally:
            self._tally.leave()
        self._tally.serve(answer.arm, has_unit=call.unit is not None)
        return attempt, answer

    def _enter(self, call: Call) -> None:
        """Count the call in. What refuses the call of a known app is recorded as well."""
        known = self._routes.reading.apps
        if call.app not in known:
            raise unknown_app(call.app, known)
        try:
            if self._ending is not None:
                raise not_ready(self._ending)
            self._journal.check(call.app)
            most = most_in_flight(call.priority, most=self._most_in_flight, pressure=self._journal.pressure)
            if not self._tally.enter(most):
                raise overloaded(most)
        except RequestRefused as refusal:
            self._record(call, refusal)
            raise

    async def _begun(self, call: Call) -> tuple[Attempt, Deadline]:
        """The call on its way, with everything decided and nothing done."""
        clock = self._turn_clock()
        arrived_s = clock.now()
        deadline = Deadline.after(call.deadline_s, now_s=arrived_s)
        try:
            within_s = deadline.left_s(arrived_s)
            if not within_s:
                raise deadline_passed(call.deadline_s)
            assignment, serving = await self._planned(call, within_s=within_s)
            start = await sealed_start(self._recorder, call, assignment, serving)
        except RequestRefused as refusal:
            self._record(call, refusal)
            raise
        attempt = Attempt(self._ground, call, assignment, serving, start=start, clock=clock, arrived_s=arrived_s)
        return attempt, deadline

    def _mirror(self, call: Call) -> None:
        """Give a copy of an answered call to the shadow, where the route names one and the unit is of its share. Returns at once."""
        route = self._routes.reading.routes.get(call.app)
        if route is None or not is_mirrored(route, call.unit) or self._routes.is_stale:
            return
        most = most_in_flight("shadow", most=self._most_in_flight, pressure=self._journal.pressure)
        copy = replace(
            call,
            request_id=derived_id("sh_", call.request_id),
            shadow_of=call.request_id,
            received_at=self._clock(),
            asked=replace(call.asked, is_streamed=False),
            priority="shadow",
            callback=None,
            retries=0,
        )
        self._shadows.offer(partial(self._copied, copy, route), is_crowded=self._tally.counts().in_flight >= most)

    async def _copied(self, call: Call, route: Route) -> str:
        """How the shadow's answer to a copy ended; its record is all that comes of it."""
        serving = self._shadow_shelf.ready(route.shadow)
        if serving is None:
            return Reason.NOT_LOADED
        clock = self._turn_clock()
        arrived_s = clock.now()
        assignment = mirror(route)
        start = await sealed_start(self._recorder, call, assignment, serving)
        attempt = Attempt(self._shadow_ground, call, assignment, serving, start=start, clock=clock, arrived_s=arrived_s)
        return (await attempt.answer(Deadline.after(call.deadline_s, now_s=arrived_s))).status

    def _record(self, call: Call, refusal: RequestRefused) -> None:
        """Record what refuses the call before it has begun."""
        self._journal.leave(self._recorder.refused(call, refusal, at=self._clock()))

    async def _planned(self, call: Call, *, within_s: float) -> tuple[Assignment, Serving]:
        """Which bundle answers, and what runs it; a stable bundle that is still being loaded is waited for."""
        route, spec = self._route(call.app)
        _require_callback(call, spec)
        mode = serving_mode(spec)
        if mode not in _HERE:
            raise served_elsewhere(call.app, mode)
        if mode == HOSTED:
            require_text(call)
        beside = self._beside(route)
        withheld = self._withheld(is_runnable=beside is not None)
        assignment = self._beginnings.assign(route, call.unit, call.session_id, withheld=withheld)
        if assignment.bundle_id is None:
            return assignment, _without_bundle(route, spec, call)
        is_stable = assignment.bundle_id == route.stable
        serving = await self._shelf.get(assignment.bundle_id, within_s=within_s) if is_stable else beside
        if serving is None:
            raise cannot_be_loaded(call.app, assignment.bundle_id)
        if call.operation != "embeddings":
            return assignment, serving
        embedding = serving.embedding
        if embedding is None:
            raise embeds_nothing(call.app, assignment.bundle_id)
        return assignment, embedding

    def _beside(self, route: Route) -> Serving | None:
        """The candidate, or else what served before it and is still loaded, when it can answer now."""
        return self._shelf.ready(route.candidate or route.retiring)

    def _withheld(self, *, is_runnable: bool) -> Reason | None:
        """Why no bundle beside the stable one may serve now; None when one may."""
        if self._routes.is_stale:
            return Reason.STALE_ROUTE
        return None if is_runnable else Reason.NOT_LOADED

    def _route(self, app: str) -> tuple[Route, AppSpec | None]:
        """The app's route, and what the app declared when the route last changed."""
        reading = self._routes.reading
        route = reading.routes.get(app)
        if route is not None:
            return route, reading.specs[app]
        raise never_released(app) if app in reading.apps else unknown_app(app, reading.apps)

    def _goes_on_without_audit(self, app: str) -> bool:
        spec = self._routes.reading.specs.get(app)
        return spec is not None and spec.audit == "best_effort"

    def _alarms(self) -> Iterator[_Alarm]:
        """What all gateways meet at once and stable serves through is no hindrance: a ledger away for a moment, a broken candidate."""
        if self._is_started and self._routes.alarm:
            yield _Alarm(self._routes.alarm, is_hindrance=self._routes.is_stale)
        if self._journal.fault:
            yield _Alarm(f"the audit: {self._journal.fault}", is_hindrance=True)
        for gap in self._journal.gaps:
            yield _Alarm(f"the audit has a gap: {gap}", is_hindrance=False)
        faults = self._shelf.faults
        for sentence in self._models.health.alarms():
            yield _Alarm(sentence, is_hindrance=False)
        for app, route in sorted(self._routes.reading.routes.items()):
            for arm, bundle_id in (("stable", route.stable), ("candidate", route.candidate)):
                fault = faults.get(bundle_id or "")
                if fault:
                    yield _Alarm(f"{app}: the {arm} bundle cannot be served: {fault}", is_hindrance=arm == "stable")
            if fault := self._shadow_shelf.faults.get(route.shadow or ""):
                yield _Alarm(f"{app}: the shadow cannot be asked: {fault}", is_hindrance=False)

    def _read(self) -> Reading:
        """What the ledger says now; a declaration is read again when what the app's route says changes."""
        with self._ledger.read() as connection:
            routes = {stored.app: _route_of(stored) for stored in stored_routes(connection)}
            known = frozenset(apps(connection))
            newest = newest_erasure(connection)
        before = self._routes.reading
        specs = {
            app: before.specs[app] if _is_alike(before.routes.get(app), route) else self._app_spec(app) for app, route in routes.items()
        }
        return Reading(routes=routes, specs=specs, apps=known, newest_erasure=newest)

    def _keep(self, reading: Reading) -> None:
        """Load what the routes name, let go of what they do not; and of remembered answers, where somebody is to be forgotten."""
        if reading.newest_erasure != self._newest_erasure:
            self._newest_erasure = reading.newest_erasure
            self._models.last_good.clear()
            self._shadow_models.last_good.clear()
        served = [route for app, route in reading.routes.items() if serving_mode(reading.specs[app]) in _HERE]
        self._shelf.keep({bundle_id for route in served for bundle_id in (route.stable, route.candidate) if bundle_id})
        self._shadow_shelf.keep({route.shadow for route in served if route.shadow})

    def _load(self, models: Models, bundle_id: str) -> Serving:
        bundle = self._versions.get(bundle_id)
        return open_serving(bundle, self._versions.files(bundle_id), self._app_spec(bundle.app), models)

    def _forget_shadow(self, bundle_id: str) -> None:
        """Let go of a shadow's modules, unless it has become a candidate meanwhile, which runs on the same ones."""
        if self._shelf.ready(bundle_id) is None:
            forget_modules(bundle_id)


def _without_bundle(route: Route, spec: AppSpec | None, call: Call) -> Serving:
    """What a call gets for which there is no bundle: the app's declared fallback text, where the route says so."""
    fallback = spec.fallback if spec else None
    if call.operation == "chat" and route.without_stable == "fallback" and fallback is not None and fallback.text:
        return Canned(fallback.text)
    raise switched_off(route)


def _require_callback(call: Call, spec: AppSpec | None) -> None:
    """Return when the app declares the callback that the call names, if it names one.

    Raises:
        RequestRefused: `bad_request`.
    """
    known = spec.handoff.callbacks if spec and spec.handoff else {}
    if call.callback is not None and call.callback not in known:
        raise bad_request("the callback is none of the app's", needed="a name under handoff.callbacks in app.yaml")


def _is_alike(before: Route | None, now: Route) -> bool:
    """Whether two versions of a route serve the same, as those before and after a rehearsal do."""
    return before is not None and replace(before, route_version=now.route_version, changed_at=now.changed_at) == now


def _route_of(stored: StoredRoute) -> Route:
    return Route(
        app=stored.app,
        stable=stored.stable,
        candidate=stored.candidate,
        share=stored.share,
        salt=stored.salt,
        release_id=stored.release_id,
        without_stable=stored.without_stable,
        route_version=stored.version,
        changed_at=stored.changed_at,
        shadow=stored.shadow,
        shadow_share=stored.shadow_share,
        drains=stored.drains,
        retiring=stored.retiring,
    )
