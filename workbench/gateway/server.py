"""The gateway as a process or as a thread: its parts come up in order, HTTP is served, and nothing that was taken is left open."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from workbench.controls.handoffs import Handoffs
from workbench.controls.pipeline import STOPPING
from workbench.errors import UnknownSubject, UsageError
from workbench.gateway.asgi import Gateway
from workbench.gateway.backing import Backing
from workbench.gateway.carrying import CarryLoop
from workbench.gateway.connections import Connection, most_connections
from workbench.gateway.health import hindrances
from workbench.gateway.keyring import KeyRing
from workbench.gateway.scoring import LEASE, ScoreLoop
from workbench.gateway.upkeep import UpkeepLoop
from workbench.ledger.releases import open_releases
from workbench.observability.keeping import last_run
from workbench.observability.logs import FlushLoop
from workbench.observability.otlp.receiving import Received, Receiver
from workbench.observability.otlp.settling import SettleLoop
from workbench.release.model import SERVING

if TYPE_CHECKING:
    from workbench.ledger.store import Ledger
    from workbench.workspace import Workspace

HOST, PORT = "127.0.0.1", 8080
DRAIN_S = 30
"""How long requests may go on when the gateway stops; then they are cancelled, and recorded as that."""
NOTICE_S = 2.0
"""What a balancer that asks each second needs to see that the gateway stops."""
_BACKSTOP_S = 5
"""How long what was cancelled may take to end."""
_BACKLOG = 2048
_ALLOCATIONS_BETWEEN_LOOKS = 10_000
"""For garbage."""
_KEEP_ALIVE_S = 75
"""How long an idle connection stays open; longer than the 60 s of usual balancers, so that the other side is the one that closes."""


def serve(
    ws: Workspace, *, host: str = HOST, port: int = PORT, notice_s: float = NOTICE_S, on_ready: Callable[[str], None] = lambda _url: None
) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was taken and return.

    Args:
        ws: an open workspace; whoever opened it closes it.
        host: address to listen at.
        port: 0 takes a free one.
        notice_s: how long after SIGTERM requests are still taken, while /readyz says that they should go elsewhere.
        on_ready: told the base URL when requests are taken.

    Raises:
        UsageError: the address cannot be listened at.
        IntegrityError: a bundle that a route names is not what was registered.
        StoreError: the ledger cannot be read.
    """
    with _backed(ws) as backing, _listening(host, port) as listener:
        server = _server(backing, notice_s=notice_s)
        _settle_garbage()
        with _stopped_by_signals(server):
            on_ready(_url(listener))
            server.run(sockets=[listener])


@contextmanager
def running(ws: Workspace, *, host: str = HOST, port: int = 0, is_carrying: bool = True) -> Iterator[str]:
    """The base URL of a gateway that serves from a thread of this process until the block ends.

    Args:
        ws: as `serve`.
        host: as `serve`.
        port: as `serve`.
        is_carrying: whether it carries releases by their plans and scores answers; somebody else may have both take their turns.

    Raises: as `serve`.
    """
    with _backed(ws, is_carrying=is_carrying) as backing, on_thread(backing, host=host, port=port, drain_s=DRAIN_S) as url:
        yield url


@contextmanager
def on_thread(backing: Backing, *, host: str = HOST, port: int = 0, drain_s: int = DRAIN_S) -> Iterator[str]:
    """The base URL of a gateway on these parts, which serves from a thread of this process until the block ends."""
    with _listening(host, port) as listener:
        server = _server(backing, drain_s=drain_s)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="gateway")
        thread.start()
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _backed(ws: Workspace, *, is_carrying: bool = True) -> Iterator[Backing]:
    """The controls, the keys and the way of the log to the lake, up for the block."""
    with ExitStack() as parts:
        keys = parts.enter_context(KeyRing(ws.keys.snapshot))
        ws.controls.start()
        ws.handoffs.start()
        flushing = parts.enter_context(FlushLoop(ws.logs, clock=ws.clock))
        receiver, is_served_here = ws.traces, partial(_is_served_here, ws)
        claim = partial(receiver.claim, is_served_here=is_served_here)
        settling = parts.enter_context(SettleLoop(ws.settler, clock=ws.clock, on_waiting=claim))
        upkeep = UpkeepLoop(ws.settings.stores(), every=ws.settings.upkeep_every, last=partial(last_run, ws.ledger), clock=ws.clock)
        parts.enter_context(upkeep)
        make = (lambda: ws.controller) if ws.settings.carry and is_carrying else None
        carrying = parts.enter_context(CarryLoop(make, is_needed=partial(_is_any_canary, ws.ledger)))
        scoring = parts.enter_context(
            ScoreLoop(
                (lambda: ws.evaluation) if ws.settings.score and is_carrying else None,
                is_wanted=partial(_is_any_declared, ws, "online"),
                leadership=lambda: ws.leadership(LEASE),
            )
        )
        started_at: datetime = ws.clock()
        yield Backing(
            handle=ws.controls.handle,
            stream=ws.controls.stream,
            embed=ws.controls.embed,
            assign=ws.controls.assign,
            bundle_name=lambda bundle_id: ws.versions.get(bundle_id).name,
            serving=ws.controls.serving,
            request=ws.metrics.request,
            handoff=partial(_held, ws.handoffs),
            tell=ws.feedback.accept,
            take_traces=partial(_take_traces, receiver, settling, is_served_here),
            key_of=keys.holder,
            apps=lambda: {route.app for route in ws.controls.status().routes},
            hindrances=lambda: hindrances(
                ws.controls.status(), flushing.status, keys_age_s=keys.age_s, started_at=started_at, now=ws.clock()
            ),
            status=ws.controls.status,
            flush=lambda: flushing.status,
            spool_pressure=lambda: ws.logs.pressure,
            keys_age_s=lambda: keys.age_s,
            clock=ws.clock,
            upkeep=lambda: upkeep.status,
            carrying=lambda: carrying.status,
            scoring=lambda: scoring.status,
        )


def _is_any_canary(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return any(release.state in SERVING for release in open_releases(connection))


def _is_any_declared(ws: Workspace, kind: str) -> bool:
    return any(ws.versions.declaration_digest(app, kind) is not None for app in ws.versions.apps())


class _Server(uvicorn.Server):
    """uvicorn's server, which says that it stops before it does, and cancels what outlasts its end as stopped: no END blames the client.

    Args:
        gateway: what it serves.
        config: how it serves; its graceful time is the backstop.
        drain_s: how long requests may go on when it stops.
        notice_s: how long after SIGTERM it still takes requests.
    """

    def __init__(self, gateway: Gateway, config: uvicorn.Config, *, drain_s: int, notice_s: float) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_s = drain_s
        self._notice_s = notice_s
        self._hurry = asyncio.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. Somebody at a terminal, and whoever asks twice, does not wait for balancers."""
        if self.should_exit or sig == signal.SIGINT:
            self._hurry.set()
        self._gateway.is_stopping = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so, take nothing new, and return when what was taken has ended."""
        self._gateway.is_stopping = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._notice_s)
        timer = asyncio.get_running_loop().call_later(self._drain_s, self._cancel_requests)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            self._cancel_requests()  # where a second signal ended the waiting

    def _cancel_requests(self) -> None:
        for task in tuple(self.server_state.tasks):
            task.cancel(STOPPING)


def _server(backing: Backing, *, drain_s: int = DRAIN_S, notice_s: float = 0.0) -> uvicorn.Server:
    gateway = Gateway(backing)
    config = uvicorn.Config(
        gateway,
        loop="uvloop",
        http=_connections(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=drain_s + _BACKSTOP_S,
    )
    return _Server(gateway, config, drain_s=drain_s, notice_s=notice_s)


def _settle_garbage() -> None:
    """Take what is here now for what stays, and look for garbage seldom: most of a request goes without being looked for.

    To go through everything that is loaded takes tens of ms, in which nobody is answered; and the small looks cost a twentieth of all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_LOOKS, *gc.get_threshold()[1:])


def _connections() -> type[Connection]:
    """Connections with this process's limits."""
    return type("LimitedConnection", (Connection,), {"most": most_connections()})


def _take_traces(
    receiver: Receiver, settling: SettleLoop, is_served_here: Callable[[str], bool], body: bytes, *, is_json: bool, app: str
) -> Received:
    """Take spans of an app into the log, from where they are settled."""
    received = receiver.receive(body, is_json=is_json, app=app, is_served_here=is_served_here(app))
    settling.wake()
    return received


def _is_served_here(ws: Workspace, app: str) -> bool:
    return ws.controls.serving(app) != "external"


def _held(handoffs: Handoffs, app: str, handoff_id: str) -> Mapping[str, Any] | None:
    """How a held answer stands; asking delivers what was decided. None where the app has no such item."""
    try:
        found = handoffs.result(handoff_id, app)
    except UnknownSubject:
        return None
    return {**asdict(found), "is_final": found.is_final}


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections.

    Raises:
        UsageError: the address is taken, or is none of this machine.
    """
    subject = f"address {host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(subject, seen=error.strerror or str(error), needed="a host name or address of this machine") from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            seen = getattr(error, "strerror", None) or str(error)
            raise UsageError(
                subject, seen=seen, needed="an address of this machine that nobody uses", next_step="name another --port"
            ) from error
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the server's run as a return. It handles them itself while it runs, and passes them on at its end."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
