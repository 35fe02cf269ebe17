"""A shop that releases for real: gateways as processes that serve it and carry its releases, people who ask it, and processes that die."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.gateway.place import ROOT, Process
from tests.release.house import APP, SPECS, House, person
from tests.versions.folders import write_yaml
from workbench.ledger.leases import stored_lease
from workbench.ledger.settings import put
from workbench.ownership.model import Actor
from workbench.release.controller import LEASE
from workbench.settings import Settings
from workbench.workspace import DEMO, PURPOSE, Workspace, utc_now

FAILING = {"v1": 0.2, "good": 0.0, "bad": 0.95}
"""Share of units at which each bundle breaks down."""
PLAN = {
    "steps": [
        {"share": 0.2, "at_least": "1s", "min_units": 5, "margin": 3},
        {"share": 0.5, "at_least": "1s", "min_units": 10, "margin": 2},
    ],
    "rollback": {"target": "last_good", "criteria": [{"metric": "failure_rate", "ratio": 1.2, "role": "critical"}]},
}
_AGENT = '''"""Breaks down at as many units as its bundle says."""

import zlib


async def answer(messages, host):
    rate = float(host.bundle.file(host.bundle.part("prompts")["system"]).decode())
    if zlib.crc32(str(host.unit).encode()) < rate * 2**32:
        raise RuntimeError("it breaks down")
    return {"content": "Your parcel is on its way.", "finish_reason": "stop", "status": "ok", "blocked_rules": (), "case_number": None}
'''


class Shop(House):
    """The company, whose bundles can be served."""

    def bundle(self, name: str, *, by: Actor | None = None) -> str:
        folder = self.folder / "bundles" / name
        spec = {
            "app": APP,
            "name": name,
            "model": {"provider": "house", "name": "m", "version": "1"},
            "prompts": {"system": "rate.txt"},
            "orchestration": {"entry": "assistant.agent:answer", "code": ["../../assistant"]},
        }
        write_yaml(folder / "bundle.yaml", spec)
        (folder / "rate.txt").write_text(str(FAILING[name]), encoding="utf-8")
        code = self.folder / "assistant"
        code.mkdir(exist_ok=True)
        (code / "__init__.py").write_text("", encoding="utf-8")
        (code / "agent.py").write_text(_AGENT, encoding="utf-8")
        return self.versions.register(folder, actor=by or person("chief")).bundle.bundle_id


class Town:
    """The shop, its gateways and its customers.

    Args:
        ws: the workspace.
        shop: with v1 in service.
        key: opens the gateways.
    """

    def __init__(self, ws: Workspace, shop: Shop, key: str) -> None:
        self.ws, self.shop, self.key = ws, shop, key
        self.running: dict[str, Process] = {}
        self._starting: dict[str, threading.Thread] = {}
        self.answers: Counter[str] = Counter()
        """By status and arm."""
        self._numbers = itertools.count()
        self._ended = threading.Event()
        self._clients: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Of the ledger."""
        return self.ws.settings.ledger or f"sqlite:///{self.ws.home / 'ledger.sqlite'}"

    def start(self) -> str:
        """One more gateway, which is up some time later; its name."""
        name = f"gateway-{next(self._numbers)}"
        log = self.ws.home.parent / f"{name}.log"
        command = [sys.executable, "-m", "workbench", "serve", "--port", "0", "--notice", "0", "--no-access-log"]
        variables = {**os.environ, **self.ws.settings.stores(), "WORKBENCH_PROVIDER_HOUSE_URL": "http://127.0.0.1:9/v1"}
        with log.open("ab") as sink:
            process = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=sink, text=True)
        self.running[name] = Process("", process, log)
        self._starting[name] = threading.Thread(target=self._await, args=(self.running[name],))
        self._starting[name].start()
        return name

    def _await(self, gateway: Process) -> None:
        line = gateway.process.stdout.readline()
        if line.startswith("gateway on "):
            gateway.url = line.split()[2].rstrip(";")

    @property
    def up(self) -> tuple[str, ...]:
        """The gateways that serve."""
        return tuple(name for name, gateway in self.running.items() if gateway.url)

    def kill(self, name: str) -> None:
        gateway = self.running.pop(name)
        gateway.kill()
        self._starting.pop(name).join()
        gateway.process.stdout.close()

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """A gateway that stands still for the block."""
        process = self.running[name].process
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def leader(self) -> str | None:
        """The gateway that carries the releases now, by the lease; None where nobody of them does."""
        with self.ws.ledger.read() as connection:
            lease = stored_lease(connection, LEASE)
        pids = {str(gateway.process.pid): name for name, gateway in self.running.items()}
        return pids.get(lease.holder.split(":")[1]) if lease and lease.holder else None

    def faults(self) -> list[str]:
        """What the gateways wrote that nobody expects."""
        logs = sorted(self.ws.home.parent.glob("gateway-*.log"))
        return [f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines() if "Traceback" in line]

    def __enter__(self) -> Self:
        self._clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(3)]
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for client in self._clients:
            client.join()
        for name in tuple(self.running):
            self.kill(name)

    def _ask(self, number: int) -> None:
        """A customer of another name at each call, at any gateway."""
        rng, asked = random.Random(number), 0
        while not self._ended.wait(0.01):
            gateways = [gateway for gateway in tuple(self.running.values()) if gateway.url]
            if not gateways:
                continue
            connection = http.client.HTTPConnection(urlsplit(rng.choice(gateways).url).netloc, timeout=3)
            for _ in range(20):
                time.sleep(0.005)
                asked += 1
                body = {"model": APP, "user": f"u-{number}-{asked}", "messages": [{"role": "user", "content": "Where is my parcel?"}]}
                try:
                    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {self.key}"})
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException):
                    self.answers["cut off"] += 1
                    break
                self.answers[f"{response.status} {response.headers.get('x-workbench-arm')}"] += 1
            connection.close()


@contextmanager
def opened_town(tmp_path: Path, *, ledger_url: str = "", plan: Mapping[str, object] = PLAN) -> Iterator[Town]:
    """A town in `tmp_path` without gateways, which releases by this plan; `ledger_url` is empty for a file."""
    home = tmp_path / "home"
    home.mkdir()
    with ExitStack() as stack:
        ws = stack.enter_context(Workspace(Settings(home=home, ledger=ledger_url, person="chief")))
        with ws.ledger.write() as act:
            put(act, PURPOSE, DEMO)
        shop = Shop(ws.ledger, tmp_path / "shop", utc_now, specs={**SPECS, "plan": plan}, names=FAILING)
        shop.releases.adopt(APP, "v1", reason="it serves already", actor=person("approver"))
        key = ws.keys.create(APP, person="viewer", label="customers").text
        yield stack.enter_context(Town(ws, shop, key))
