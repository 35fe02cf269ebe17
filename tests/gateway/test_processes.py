"""`workbench serve` as its user runs it: start, stop, what it refuses to start with, and a ledger that goes away."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.forks import run
from tests.gateway.place import APP, ROOT, Load, Place, model, opened_place, processes, put_in_canary, wait_until
from tests.gateway.standin import Got, ask, send
from tests.ledger.writers import raw
from tests.postgres import new_database, running_postgres

ASK = {"model": APP, "messages": [{"role": "user", "content": "Where is my order?"}]}


def serve_fails(place: Place, *words: str) -> tuple[int, str]:
    """Exit code and stderr of a gateway that does not start."""
    command = [sys.executable, "-m", "workbench", "serve", *words]
    done = run(command, env=place.variables, cwd=ROOT)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_stopped_gateway_answers_what_it_took_and_leaves_nothing_in_its_spool(place: Place):
    place.model.delay_s = 1.0
    got: list[Got] = []
    with processes(1, place, popen=subprocess.Popen) as [gateway]:  # as an operator starts it
        client = threading.Thread(target=lambda: got.append(ask(gateway.url, ASK, key=place.key)))
        client.start()
        wait_until(lambda: place.model.seen)
        assert gateway.stop() == 0
        client.join()
        assert "Traceback" not in gateway.log.read_text()
    assert [answer.status for answer in got] == [200]
    assert list((place.ws.home / "spool").glob("*.sqlite")) == []
    ends = place.ws.lake.read(lambda lake: lake.execute("SELECT request_id FROM lake.requests WHERE is_final").fetchall())
    assert ends == [(got[0].headers["x-request-id"],)]


@pytest.mark.slow
def test_a_bundle_whose_files_changed_is_not_started(place: Place):
    ledger = f"sqlite:///{place.ws.home / 'ledger.sqlite'}"
    raw(
        ledger, "UPDATE blobs SET content = X'00' WHERE digest = (SELECT digest FROM blobs WHERE CAST(content AS TEXT) LIKE 'You are v1.%')"
    )
    code, told = serve_fails(place, "--port", "0")
    assert code == 1
    assert place.v1 in told


@pytest.mark.slow
def test_a_place_that_is_taken_or_not_ours_is_named(place: Place):
    with processes(1, place) as [gateway]:
        port = gateway.url.rpartition(":")[2]
        code, told = serve_fails(place, "--port", port)
        assert code == 2
        assert f"127.0.0.1:{port}" in told
    code, told = serve_fails(place, "--host", "192.0.2.1", "--port", "0")
    assert code == 2
    assert "192.0.2.1" in told


@pytest.mark.slow
def test_a_new_key_opens_and_a_revoked_one_is_refused_within_two_seconds(place: Place):
    with processes(1, place) as [gateway]:
        made = place.ws.keys.create(APP, person="service")
        wait_until(lambda: ask(gateway.url, ASK, key=made.text).status == 200, within_s=10)
        place.ws.keys.revoke(made.key.key_id)
        wait_until(lambda: ask(gateway.url, ASK, key=made.text).status == 401, within_s=10)
        assert ask(gateway.url, ASK, key=place.key).status == 200
        log = gateway.log.read_text()
    assert made.key.key_id in log
    assert made.text not in log


@pytest.mark.slow
def test_with_the_ledger_out_of_reach_gateways_fall_to_stable_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with contextlib.ExitStack() as server, model() as told:
        url = new_database(server.enter_context(running_postgres(tmp_path)))
        monkeypatch.setenv("WORKBENCH_ROUTE_KEEP_S", "3")
        with opened_place(tmp_path, told, ledger_url=url) as place:
            put_in_canary(place.ws, place.v2, 0.5)
            with processes(1, place) as [gateway], Load(gateway.url, place.key, clients=2) as load:
                wait_until(lambda: any(answer.arm == "candidate" for answer in load.answered))
                assert send(gateway.url, "GET", "/readyz").status == 200
                server.close()
                wait_until(lambda: "s old, candidates serve nobody" in reasons(gateway.url))
                assert send(gateway.url, "GET", "/readyz").status == 503
                gone_at = time.time()
                wait_until(lambda: load.answered[-1].at > gone_at + 1)
                assert send(gateway.url, "GET", "/healthz").status == 200
    later = [answer for answer in load.answered if answer.at > gone_at + 0.5]
    assert {(answer.arm, answer.bundle) for answer in later} == {("stable", place.v1)}
    assert load.refused == [], "calls go on while nobody can change anything"


def reasons(url: str) -> str:
    return " ".join(send(url, "GET", "/readyz").json["reasons"])


@pytest.mark.slow
def test_a_gateway_that_stops_says_so_before_it_takes_nothing_new(place: Place):
    with processes(1, place, notice_s=100) as [gateway]:
        assert send(gateway.url, "GET", "/readyz").status == 200
        gateway.process.terminate()
        wait_until(lambda: send(gateway.url, "GET", "/readyz").status == 503)
        assert send(gateway.url, "GET", "/readyz").json["reasons"] == ["the gateway is stopping"]
        assert ask(gateway.url, ASK, key=place.key).status == 200
        assert gateway.stop() == 0  # whoever asks twice is not kept waiting
