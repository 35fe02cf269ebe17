"""`workbench-bot`: says what is missing, starts with what is there, and stops when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.fake_slack import FakeSlack
from tests import forks
from tests.bot.office import CHANNEL, REQUESTER, SECRET, command_body, form, http, office, run, signed, until
from tests.release.house import APP
from workbench.workspace import utc_now

ROOT = Path(__file__).resolve().parents[2]
TOKENS = {"SLACK_BOT_TOKEN": "xoxb-a-token", "SLACK_SIGNING_SECRET": SECRET, "SLACK_APP_TOKEN": "xapp-a-token"}


def _environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLACK_")}
    return kept | {name: value for name, value in changes.items() if value}


def _bot(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bot", *arguments]
    return forks.run(command, cwd=ROOT, env=_environment(**environment))


@pytest.mark.parametrize(
    ("arguments", "given", "missing"),
    [
        ((), (), "SLACK_BOT_TOKEN"),
        ((), ("SLACK_BOT_TOKEN",), "SLACK_SIGNING_SECRET"),
        (("--mode", "socket"), ("SLACK_BOT_TOKEN",), "SLACK_APP_TOKEN"),
        (("--mode", "http"), ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"), "SLACK_SIGNING_SECRET"),
    ],
)
def test_a_token_that_is_missing_is_named_with_where_it_comes_from(arguments, given, missing):
    done = _bot("run", *arguments, **{name: TOKENS[name] for name in given})
    assert done.returncode == 2
    assert done.stderr.startswith(f"workbench-bot: {missing}: it is not set; needed: ")
    assert "Traceback" not in done.stderr


def test_help_pays_for_no_heavy_import():
    heavy = ("duckdb", "polars", "sqlalchemy", "slack_bolt", "slack_sdk", "aiohttp", "numpy")
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom bot.main import app\n"
        f"assert CliRunner().invoke(app, ['--help']).exit_code == 0\nprint(sorted(set({heavy}) & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_running_bot_does_not_pay_for_the_log():
    script = (
        "import sys\nimport bot.running\nimport bot.chat\nimport bot.work\nimport workbench.release.service\n"
        "print(sorted({'duckdb', 'polars', 'ibis', 'numpy', 'scipy', 'pyarrow', 'plotly'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_importing_the_bot_says_and_does_nothing():
    modules = "bot, bot.main, bot.running, bot.console, bot.fake_slack"
    done = subprocess.run([sys.executable, "-W", "error", "-c", f"import {modules}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_manifest_is_printed_as_json():
    assert json.loads(_bot("manifest").stdout)["settings"]["socket_mode_enabled"] is True
    refused = _bot("manifest", "--mode", "http")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "https://" in refused.stderr


def test_there_is_no_bot_without_a_workspace(tmp_path):
    done = _bot("run", **TOKENS, WORKBENCH_HOME=str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "there is none" in done.stderr


@pytest.mark.slow
def test_the_command_serves_signed_requests_until_it_is_terminated(tmp_path):
    home = tmp_path / "home"
    with office(home, clock=utc_now):
        pass

    async def story() -> tuple[int, str]:
        async with FakeSlack([CHANNEL]) as slack, http() as session:
            environment = _environment(**TOKENS | {"SLACK_APP_TOKEN": ""}, WORKBENCH_HOME=str(home), SLACK_API_URL=slack.base_url)
            bot = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "bot", "run", "--port", "0"], env=environment, cwd=ROOT, stderr=subprocess.PIPE
            )
            lines = []
            while "ready" not in (lines or [""])[-1]:
                lines.append((await bot.stderr.readline()).decode())
                assert lines[-1], lines
            url = lines[-1].split(", ")[1].strip()
            body = form(command_body(REQUESTER, f"/owner oncall {APP}"))
            async with session.post(url, data=body, headers=signed(body)) as response:
                assert response.status == 200
            await until(lambda: slack.messages)
            assert "tier 1 is night" in slack.messages[0].text
            private = form(command_body(REQUESTER, f"/release start {APP} v2 --reason for ada@example.org", token="legacy-token"))
            for headers in (signed(private, secret="0" * 32), signed(private, age_s=600)):
                async with session.post(url, data=private, headers=headers) as response:
                    assert response.status == 401
            bot.terminate()
            return await bot.wait(), "".join(lines) + (await bot.stderr.read()).decode()

    code, log = run(story())
    assert code == 0, log
    assert all(token not in log for token in TOKENS.values())
    assert all(word not in log for word in ("legacy-token", "ada", "v0="))
    assert log.count("a request was refused: Slack did not sign it, or not just now") == 2
    assert "Traceback" not in log


@pytest.mark.slow
def test_a_bot_token_that_slack_does_not_take_is_said_clearly(tmp_path):
    home = tmp_path / "home"
    with office(home, clock=utc_now):
        pass

    async def story() -> tuple[int, str]:
        async with FakeSlack([CHANNEL]) as slack:
            tokens = TOKENS | {"SLACK_BOT_TOKEN": "somebody-elses"}
            environment = _environment(**tokens, WORKBENCH_HOME=str(home), SLACK_API_URL=slack.base_url)
            bot = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "bot", "run", "--mode", "http"], env=environment, cwd=ROOT, stderr=subprocess.PIPE
            )
            _, log = await bot.communicate()
            return bot.returncode, log.decode()

    code, log = run(story())
    assert code == 2
    assert 'workbench-bot: SLACK_BOT_TOKEN: Slack answered "invalid_auth"' in log
    assert "somebody-elses" not in log
