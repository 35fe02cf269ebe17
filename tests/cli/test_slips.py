"""A slip in the words of a command is answered with what was written and what is needed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from workbench.cli.main import app


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("feedback score shop r1 helpful --value great", "Invalid value for '--value': got 'great'; needed: a number, for example 0.5"),
        ("feedback outcome shop sold --unit u1 --value=12,50", "Invalid value for '--value': got '12,50'; needed: a number"),
        ("import csv calls.csv --workers many", "Invalid value for '--workers': got 'many'; needed: a whole number"),
        ("import csv calls.csv --workers 100", "got '100'; needed: input should be less than or equal to 64"),
        ("lake retention set -90d --reason tidy", "No such option: -9: what begins with a hyphen is read as an option."),
        ("lake retention set -90d --reason tidy", "Lengths of time have no sign, as in 90d;"),
        ("lake retention set 90d", "Missing option '--reason'. Why, for the audit."),
        ("export", "Missing option '--parquet'. --parquet DIR: A folder that is not there yet, or is empty, for example log-2026-11-01."),
        ("feedback score shop r1", "Missing argument 'name'. Name of the score, for example helpful."),
        ("impact shop --nope", "No such option: --nope"),
    ],
)
def test_a_slip_names_what_was_written_and_what_is_needed(words: str, says: str):
    result = CliRunner().invoke(app, words.split())
    said = " ".join(result.output.replace("│", " ").split())
    assert (result.exit_code, says in said) == (2, True), said


def test_a_negative_value_stands_behind_an_equals_sign():
    result = CliRunner().invoke(app, ["feedback", "score", "shop", "r1", "helpful", "--value=-1"])
    assert "there is none" in str(result.exception)  # it was read; there is no workspace
