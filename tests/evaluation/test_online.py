"""Which answers are scored: everybody chooses alike, with the declared probability, whichever arm answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.evaluation.online import is_chosen, score_id
from workbench.stats.proportion import wilson


@pytest.mark.parametrize("sample", [0.01, 0.2, 0.5, 0.9])
def test_as_many_are_chosen_as_declared(sample: float) -> None:
    n = 20_000
    k = sum(is_chosen(f"request-{number}", "quality", sample) for number in range(n))
    interval = wilson(k, n, level=0.9999)
    assert interval.low <= sample <= interval.high


def test_scores_of_two_names_are_chosen_independently() -> None:
    n = 20_000
    both = sum(is_chosen(str(k), "one", 0.3) and is_chosen(str(k), "two", 0.3) for k in range(n))
    interval = wilson(both, n, level=0.9999)
    assert interval.low <= 0.09 <= interval.high


@given(request_id=st.text(), name=st.text(min_size=1), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_greater_share_only_adds_requests(request_id: str, name: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert is_chosen(request_id, name, 1.0)
    assert not is_chosen(request_id, name, 0.0)
    assert is_chosen(request_id, name, high) or not is_chosen(request_id, name, low)


def test_a_request_has_one_score_of_a_name() -> None:
    ids = {score_id(request, name) for request in ("a", "b") for name in ("quality", "form")}
    assert len(ids) == 4
    assert score_id("a", "quality") == score_id("a", "quality")
