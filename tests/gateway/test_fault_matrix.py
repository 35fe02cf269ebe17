"""The fault matrix: no half answer passes for a whole one, nobody is asked too often, nothing outlives its deadline, all is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.faults import ANSWER, BEGUN, CANNED, GRACE_MS, WAITING, Outcome, cells, run_matrix, table
from workbench.controls.failures import FailureKind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NOT_AT_AN_ADDRESS = {"broken", "mid_stream", "throttled", "busy", "unfit"}
"""Kinds that no single provider at an address causes; `mid_stream` is what each of the others becomes."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    found = run_matrix(tmp_path_factory.mktemp("matrix"), cells())
    print("\n" + "\n".join(table(found)))
    return found


def those(outcomes: list[Outcome], are_so: Callable[[Outcome], bool]) -> list[tuple[object, ...]]:
    return [(*outcome.cell, outcome.text, outcome.output, outcome.asked) for outcome in outcomes if are_so(outcome)]


def test_every_kind_of_failure_has_its_cells():
    assert {str(kind) for kind in FailureKind} - NOT_AT_AN_ADDRESS == {str(cell.kind) for cell in cells()}
    assert max(Counter(cells()).values()) == 1


def test_no_half_answer_is_shown_as_a_whole_one_by_client_or_log(outcomes: list[Outcome]):
    assert those(outcomes, lambda outcome: outcome.is_half_shown_as_whole) == []


def test_nobody_is_asked_whom_the_table_leaves_alone(outcomes: list[Outcome]):
    assert those(outcomes, lambda outcome: outcome.is_asked_too_often) == []


def test_nothing_outlives_its_deadline(outcomes: list[Outcome], tmp_path: Path):
    """By more than 100 ms, and what the machine itself takes: as long as a request that asks for nothing took at the same time.

    Of so many cells a busy machine makes one or two late: those are asked once more, beside fewer, and what is wrong is late again.
    """
    late = [outcome.cell for outcome in outcomes if outcome.late_ms > GRACE_MS]
    assert len(late) <= 3, late
    again = run_matrix(tmp_path, late) if late else []
    assert [(*outcome.cell, outcome.late_ms) for outcome in again if outcome.late_ms > GRACE_MS] == []


def test_what_fails_the_candidate_is_never_answered_by_the_stable_bundle(outcomes: list[Outcome]):
    assert those(outcomes, lambda outcome: outcome.is_served_by_stable) == []


def test_every_start_has_its_end(outcomes: list[Outcome]):
    assert those(outcomes, lambda outcome: outcome.is_unended) == []


def test_client_and_log_tell_the_same_of_each_cell(outcomes: list[Outcome]):
    for outcome in outcomes:
        cell, end = outcome.cell, outcome.end
        if cell.kind not in WAITING:  # what time cuts may be cut before a provider on a busy machine has read it; the log knows of it
            assert outcome.asked[:2] == cell.asks, cell
        assert end["attempts"] == sum(cell.asks) == sum(span["kind"] == "model" for span in outcome.spans), cell
        if end["error_type"] == "guards_late":  # a busy machine took what is kept back for the guards and the record
            assert cell.kind in WAITING, cell
            assert (outcome.is_done, outcome.finish_reason, outcome.error, end["status"]) == (False, None, "deadline_passed", "timeout"), (
                cell
            )
            continue
        if cell.is_cut:
            assert BEGUN.startswith(outcome.text.removesuffix("and ")[: len(BEGUN)]), cell
            assert outcome.text, cell
            seen = (outcome.is_done, outcome.finish_reason, outcome.error)
            assert seen == (False, None, end["error_type"]), cell
            told, is_fallback = end["error_type"], False
        else:
            text = ANSWER if cell.is_served else CANNED
            seen = (outcome.text, outcome.finish_reason, outcome.is_done, outcome.error)
            assert seen == (text, "stop", True, None), cell
            told, is_fallback = (None if cell.is_served else end["error_type"]), True
            assert outcome.headers["x-workbench-fallback"] == "true", cell
        is_late = "timeout" in [span["error_type"] for span in outcome.spans]
        status = "ok" if told is None else "timeout" if is_late else "error"
        assert (end["status"], end["error_type"], end["is_fallback"]) == (status, told, is_fallback), cell
        assert (told is None) is cell.is_served, cell
        given = [span["action"] for span in outcome.spans if span["kind"] == "fallback" and span["action"] != "passed_over"]
        assert given == (["canned"] if told and not cell.is_cut else []), cell
