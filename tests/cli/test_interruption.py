"""Ctrl-C in any phase of the demo: one line, exit 130, and the next run begins anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.forks import run
from workbench.demo.place import fresh_workspace

DEMO = """
import asyncio, contextlib, os, signal, sys, threading, time

from workbench.cli import main, progress
from workbench.demo import place, story
from workbench.demo.resources import demo_folder
from workbench.observability.lake import Lake
from workbench.workspace import Workspace

home, phase = sys.argv[1:]


def press():
    os.kill(os.getpid(), signal.SIGINT)


def before(owner, name):
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: (press(), real(*args, **kwargs))[1])


def review(ws, **_):
    bundle = ws.versions.register(demo_folder() / "bundles" / "v1").bundle
    ws.readiness.review("support", bundle)


def slow_look(lake, work, look=Lake.look):
    def slow(cursor, snapshot):
        threading.Timer(0.3, press).start()
        cursor.execute("SET threads = 1")
        cursor.execute("SELECT count(*) FROM range(40000000) t(i) WHERE sin(i) > 2")
        return work(cursor, snapshot)

    return look(lake, slow)


class Cleared:
    def __del__(self):
        press()
        for _ in range(1000):
            pass


def clear_up(ws, **_):
    Cleared()
    time.sleep(60)


def serve(ws, **_):
    threading.Timer(0.3, press).start()
    asyncio.run(asyncio.sleep(60))


def reached(label, done, total):
    if label.startswith(phase):
        press()


progress.file_progress = lambda: contextlib.nullcontext(reached)
match phase:
    case "the old workspace goes":
        before(place, "_clear")
    case "a review begins":
        story.run_story = review
        before(Lake, "look")
    case "a query of a review":
        story.run_story = review
        Lake.look = slow_look
    case "something is cleared up":
        story.run_story = clear_up
    case "the gateway serves":
        story.run_story = serve
    case "the stores close":
        story.run_story = review
        before(Workspace, "close")
sys.argv = ["workbench", "demo", "--home", home]
main.main()
"""
PHASES = (
    "the old workspace goes",
    "bundles registered",
    "customers of",
    "a review begins",
    "a query of a review",
    "something is cleared up",
    "the gateway serves",
    "the stores close",
)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_is_one_line_and_the_next_run_begins_anew(tmp_path: Path, phase: str):
    home = tmp_path / "home"
    with fresh_workspace(home):
        pass
    ended = run([sys.executable, "-c", DEMO, str(home), phase], cwd=tmp_path)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "workbench: stopped\n", "")
    with fresh_workspace(home) as ws:
        assert ws.is_demo
        assert ws.versions.apps() == ()
