"""A workspace with an app to serve, a model over HTTP behind it, and gateways as processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlsplit

import pytest

from tests.forks import Forked
from tests.versions.folders import write_app, write_yaml
from workbench.ledger.releases import StoredRelease, add_release
from workbench.ledger.routes import change_route, stored_route
from workbench.settings import Settings
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
APP = "support"
FALLBACK = "We cannot answer right now."
_AGENT = b'''"""Asks the model what the user asked, and answers what it says; breaks down with the user's words when told to."""


async def answer(messages, host):
    system = host.bundle.file(host.bundle.part("prompts")["system"]).decode()
    request = {"model": "house-1", "messages": [{"role": "system", "content": system}, *messages], "user": host.unit}
    if "break down" in messages[-1]["content"]:
        raise RuntimeError(messages[-1]["content"])
    choice = (await host.complete(request, aloud=True))["choices"][0]
    return {
        "content": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "status": "ok",
        "blocked_rules": (),
        "case_number": None,
    }
'''


def register(ws: Workspace, folder: Path) -> tuple[str, str]:
    """Two bundles of the app, registered: ids of v1 and v2, which differ in their prompt."""
    people = {name: {"os": [], "roles": {APP: roles}} for name, roles in (("approver", ["approver"]), ("service", ["viewer"]))}
    people["primary"] = {"os": [login_of_process()], "roles": {APP: ["admin", "operator"]}}
    ids = []
    for name in ("v1", "v2"):
        spec = {
            "app": APP,
            "name": name,
            "model": {"provider": "house", "name": "house-1", "version": "1"},
            "prompts": {"system": "system.md"},
            "orchestration": {"entry": "assistant.agent:answer", "code": ["../../assistant"]},
            "controls": {"timeout": "20s", "retries": 0, "fallback": [{"kind": "canned", "text": FALLBACK}]},
        }
        files = {"bundles/v1/system.md": f"You are {name}.\n".encode(), "assistant/__init__.py": b"", "assistant/agent.py": _AGENT}
        app = write_app(folder / name / APP, spec=spec, files=files)
        write_yaml(app / "app.yaml", {"app": APP, "title": "Support", "risk_tier": "medium", "owner": "primary"})
        write_yaml(app / "people.yaml", {"people": people})
        ids.append(ws.versions.register(app / "bundles" / "v1").bundle.bundle_id)
    return ids[0], ids[1]


def put_in_canary(ws: Workspace, bundle_id: str, share: float) -> None:
    """A release of the bundle at the first step of its canary, as review, approval and promotion leave it."""
    release_id, salt, now = f"{APP}.2", "salt", ws.clock()
    with ws.ledger.write() as act:
        seen = stored_route(act.connection, APP)
        assert seen is not None
        values = {"candidate": bundle_id, "share": share, "salt": salt, "release_id": release_id}
        change_route(act, seen, at=now, values=values)
        release = StoredRelease(
            release_id=release_id,
            app=APP,
            kind="release",
            state="CANARY",
            step=0,
            bundle_id=bundle_id,
            previous_stable=seen.stable,
            plan={"name": "default", "steps": [{"share": share, "at_least": "1h"}]},
            plan_digest=f"sha256:{'0' * 64}",
            review_id=None,
            salt=salt,
            reason="better answers",
            requested_by="primary",
            requested_at=now,
            step_since=now,
            note="",
            ended_at=None,
            version=1,
        )
        add_release(act, release)


@dataclass
class Model:
    """A model that answers what `say` makes of the last message; requests are kept."""

    url: str = ""
    say: Callable[[str], str] = lambda _asked: "Your parcel is on its way."
    delay_s: float = 0.0
    status: int = 200
    body: bytes | None = None
    """Sent instead of a completion."""
    seen: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def model() -> Iterator[Model]:
    """A model provider on loopback."""
    told = Model()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told.seen.append(request)
            if told.delay_s:
                time.sleep(told.delay_s)
            text = told.say(request["messages"][-1]["content"])
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
            body = told.body or json.dumps({"id": "x", "model": "house-1", "choices": [choice], "usage": usage}).encode()
            self.send_response(told.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A gateway that was killed leaves its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Place:
    """A workspace with stable v1 in service and a key to it."""

    ws: Workspace
    v1: str
    v2: str
    key: str
    model: Model

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process that works on it."""
        own = {"WORKBENCH_HOME": str(self.ws.home), "WORKBENCH_LEDGER": self.ws.settings.ledger, "WORKBENCH_SPOOL": self.ws.settings.spool}
        return {**os.environ, **own, "WORKBENCH_PROVIDER_HOUSE_URL": self.model.url}


@contextmanager
def opened_place(tmp_path: Path, told: Model, *, ledger_url: str = "", spool: Literal["write", "durable"] = "write") -> Iterator[Place]:
    """A place in `tmp_path`, whose model is this one; `ledger_url` is empty for a file."""
    home = tmp_path / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as environment, Workspace(Settings(home=home, ledger=ledger_url, spool=spool)) as ws:
        environment.setenv("WORKBENCH_PROVIDER_HOUSE_URL", told.url)
        v1, v2 = register(ws, tmp_path / "apps")
        ws.releases.adopt(APP, v1, reason="it serves already")
        key = ws.keys.create(APP, person="service", label="tests").text
        yield Place(ws, v1, v2, key, told)


@dataclass
class Process:
    """A running `workbench serve`."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Served(Protocol):
    """Something that gateways can serve."""

    @property
    def ws(self) -> Workspace: ...

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a process that works on it."""


@contextmanager
def processes(n: int, place: Served, *, notice_s: float = 0, popen: type[subprocess.Popen[str]] = Forked) -> Iterator[list[Process]]:
    """That many gateways of the place, all of them up; those that still run at the end are killed. `popen` starts them."""
    command = [sys.executable, "-W", "error", "-m", "workbench", "serve", "--port", "0", "--notice", str(notice_s)]
    with ExitStack() as stack:
        started = []
        for number in range(n):
            log = place.ws.home.parent / f"gateway-{number}.log"
            sink = stack.enter_context(log.open("ab"))
            process = popen(command, env=place.variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=sink, text=True)
            stack.callback(_end, process)
            started.append((process, log))
        yield [Process(_url(process, log), process, log) for process, log in started]


def _url(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("gateway on http://"), log.read_text()
    return line.split()[2].rstrip(";")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@dataclass(frozen=True)
class Answered:
    """An answer that a client has read to its end."""

    request_id: str
    arm: str | None
    bundle: str | None
    at: float
    """When it was there, in seconds of the wall clock."""


def wait_until(is_so: Callable[[], object], *, within_s: float = 60) -> None:
    """Return when it is so; fail the test when it does not become so."""
    ends = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < ends, f"not within {within_s:g} s"
        time.sleep(0.01)


class Load:
    """Clients that ask until they are stopped. An answer counts once its last byte is read.

    Args:
        url: of the gateway.
        key: API key.
        clients: how many ask at once.
        pause_s: of each client after an answer.
        app: whom they ask.
        is_streamed: whether they read streams; an answer is then there when its last event is.
    """

    def __init__(self, url: str, key: str, *, clients: int = 4, pause_s: float = 0.0, app: str = APP, is_streamed: bool = False) -> None:
        self._netloc = urlsplit(url).netloc
        self._key = key
        self._pause_s = pause_s
        self._asked = {"model": app, "stream": is_streamed, "messages": [{"role": "user", "content": "Where is my order?"}]}
        self._ended = threading.Event()
        self.answered: list[Answered] = []
        self.refused: list[int] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        asked = 0
        connection = http.client.HTTPConnection(self._netloc, timeout=30)
        while not self._ended.wait(self._pause_s):
            asked += 1
            body = {**self._asked, "user": f"u-{number}-{asked}"}
            try:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {self._key}"})
                response = connection.getresponse()
                said = response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if self._ended.wait(0.02):
                    return
                continue
            if not self._asked["stream"] or response.status != 200 or said.endswith(b"data: [DONE]\n\n"):
                self._note(response.status, response.headers)
        connection.close()

    def _note(self, status: int, headers: Mapping[str, str]) -> None:
        if status != 200:
            self.refused.append(status)
            return
        self.answered.append(
            Answered(headers["x-request-id"], headers.get("x-workbench-arm"), headers.get("x-workbench-bundle"), time.time())
        )
