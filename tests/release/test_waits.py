"""When a step of the plan is over: never with less time or fewer units."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.release.house import START
from workbench.release.waits import unmet
from workbench.spec.plan import Step

STEP = Step(share=0.1, at_least=timedelta(minutes=30), min_units=100)


def waits(minutes: float, units: int | None, step: Step = STEP) -> int:
    return len(unmet(step, since=START, now=START + timedelta(minutes=minutes), units=units))


def test_a_step_is_over_at_its_last_moment_with_its_last_unit():
    assert [waits(minutes, units) for minutes, units in ((30, 100), (29.99, 100), (30, 99), (0, 0))] == [0, 1, 1, 2]


def test_what_nobody_can_count_is_not_enough():
    assert waits(30, None) == 1
    assert waits(30, None, STEP.model_copy(update={"min_units": 0})) == 0, "where no units are asked for nobody has to count"


@given(minutes=st.floats(0, 100), less=st.floats(0, 100), units=st.integers(0, 200), fewer=st.integers(0, 200))
def test_less_never_ends_a_step_earlier(minutes: float, less: float, units: int, fewer: int):
    assert waits(max(minutes - less, 0), max(units - fewer, 0)) >= waits(minutes, units)
