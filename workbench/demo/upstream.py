"""The local model behind an OpenAI-compatible address on this machine: `python -m workbench.demo.upstream`.

With `WORKBENCH_PROVIDER_LOCAL_URL` set to it, the demo's bundles go the whole way of a hosted model: connections, keys, statuses, bodies.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from aiohttp import web

from workbench.controls.blocking import LoopThread
from workbench.controls.clock import RealClock, TurnClock
from workbench.controls.providers import ProviderError
from workbench.demo.provider import LocalProvider

HOST = "127.0.0.1"
PORT = 8088
_LARGEST_REQUEST = 4 << 20


def local_upstream(*, key: str | None = None, turn_clock: TurnClock = RealClock) -> web.Application:
    """An application that answers `POST /v1/chat/completions` and `GET /v1/models` as OpenAI does.

    Args:
        key: what callers must send as bearer token; None takes everybody.
        turn_clock: makes the clock on which the model thinks; a virtual one answers at once.
    """

    async def complete(request: web.Request) -> web.Response:
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            return _problem(401, "invalid_api_key", "the key is not the one of this server")
        try:
            asked = orjson.loads(await request.read())
            attempt = int(request.headers.get("x-stainless-retry-count", "0")) + 1
            answer = await LocalProvider(turn_clock()).complete(asked, attempt=attempt)
        except ProviderError as fault:
            return _problem(503, fault.code, str(fault))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
            return _problem(400, "invalid_request", f"this is nothing that the local model reads ({type(fault).__name__})")
        return web.json_response(answer)

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "shop-assistant-small", "object": "model", "owned_by": "demo"}]})

    application = web.Application(client_max_size=_LARGEST_REQUEST)
    application.router.add_post("/v1/chat/completions", complete)
    application.router.add_get("/v1/models", models)
    return application


@contextmanager
def running(application: web.Application, *, port: int = 0) -> Iterator[str]:
    """The base URL of the application, served on loopback by a thread for the length of the block; port 0 takes a free one."""
    loop = LoopThread()
    runner = web.AppRunner(application, access_log=None)

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        address: Any = runner.addresses[0]
        return f"http://{HOST}:{address[1]}/v1"

    try:
        yield loop.run(start())
    finally:
        loop.run(runner.cleanup())
        loop.close()


def _problem(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": code, "code": code}}, status=status)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.demo.upstream", description="Serves the demo's local model over HTTP, on this machine only."
    )
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--key", help="bearer token that callers must send; by default everybody may ask")
    given = parser.parse_args(arguments)
    endings = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)  # before any thread begins, so that only `sigwait` gets them
    try:
        with running(local_upstream(key=given.key), port=given.port) as url:
            sys.stdout.write(f"{url}\nexport WORKBENCH_PROVIDER_LOCAL_URL={url}\n")
            sys.stdout.flush()
            signal.sigwait(endings)
    except OSError as fault:
        parser.error(f"port {given.port}: {fault.strerror}; name a free one with --port")


if __name__ == "__main__":
    main()
