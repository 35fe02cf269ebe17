"""The table of acts and states, and what a route is in each."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.release.model import ENDED, SERVING, State
from workbench.release.states import FROM, Act, Position, Serving, after, serving

SHARES = (0.05, 0.25, 1.0)
TABLE = """
            DRAFT   READY    APPROVED CANARY      HELD        PROMOTED ROLLED_BACK ABORTED
ready       READY   -        -        -           -           -        -           -
stop        ABORTED -        -        -           -           -        -           -
approve     -       APPROVED APPROVED -           -           -        -           -
break_glass -       APPROVED APPROVED -           -           -        -           -
reject      -       ABORTED  ABORTED  -           -           -        -           -
promote     -       -        CANARY   CANARY      -           -        -           -
hold        -       -        -        HELD        -           -        -           -
resume      -       -        -        -           CANARY      -        -           -
abort       ABORTED ABORTED  ABORTED  ABORTED     ABORTED     -        -           -
rollback    -       -        -        ROLLED_BACK ROLLED_BACK -        -           -
"""
CELLS = [
    (line.split()[0], state, to)
    for line in TABLE.strip().splitlines()[1:]
    for state, to in zip(TABLE.split()[: len(State)], line.split()[1:], strict=True)
]


@pytest.mark.parametrize(("act", "state", "to"), CELLS)
def test_every_act_leads_where_the_table_says(act: str, state: str, to: str):
    which = Act("rollback" if act == "rollback" else f"release.{act}")
    at = Position(state=State(state), step=0 if state in SERVING else None)
    if to == "-":
        with pytest.raises(ValueError, match="leads nowhere"):
            after(which, at, n_steps=len(SHARES))
    else:
        assert after(which, at, n_steps=len(SHARES)).state == to


def test_the_table_is_whole():
    assert len(CELLS) == len(Act) * len(State) == len(FROM) * len(State)


@given(n=st.integers(min_value=1, max_value=6))
def test_a_release_is_promoted_through_each_step_once(n: int):
    at, steps = Position(state=State.APPROVED, step=None), []
    while at.state is not State.PROMOTED:
        at = after(Act.PROMOTE, at, n_steps=n)
        steps.append(at.step)
    assert steps == [*range(n), n - 1]


@pytest.mark.parametrize(("state", "step"), list(itertools.product(State, (None, 0, 1, 2))))
def test_who_serves_follows_from_the_state_alone(state: State, step: int | None):
    if state in SERVING and step is None:
        return
    route = serving(Position(state=state, step=step), bundle_id="new", previous_stable="old", shares=SHARES, release_id="shop.1")
    if state is State.PROMOTED:
        assert route == Serving(stable="new")
    elif state in SERVING:
        assert route == Serving(stable="old", candidate="new", share=SHARES[step], release_id="shop.1")
    else:
        assert route == Serving(stable="old")


def test_nothing_leads_out_of_an_end():
    assert not any(state in FROM[act] for act in Act for state in ENDED)
