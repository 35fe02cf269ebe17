"""The tilted-label e-process against products in exact arithmetic, and its promise over many streams."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.stats.tilted import HARM, NOTHING, SAFE, Cell, Events, e_path, e_value, number, ratio_interval, staked, tilted, update

SHARES = (Fraction(1, 20), Fraction(1, 4), Fraction(1, 2))
events_lists = st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40)


def events(rows: list[tuple[int, bool]]) -> Events:
    """Rows as (step, candidate?), each step at its share."""
    steps = np.array([step for step, _ in rows], dtype=np.int64)
    return Events(
        step=steps,
        share=np.array([float(SHARES[step]) for step, _ in rows]),
        is_candidate=np.array([candidate for _, candidate in rows], dtype=np.bool_),
    )


def product(rows: list[tuple[int, bool]], ratios: tuple[float, ...], null: float, since: int = 0) -> Fraction:
    """The mean over ratios of the product of each row's likelihood ratio, as it is defined, in exact arithmetic."""

    def q(share: Fraction, ratio: Fraction) -> Fraction:
        return share * ratio / (share * ratio + 1 - share)

    total = Fraction(0)
    for ratio in ratios:
        one = Fraction(1)
        for step, is_candidate in rows:
            if step >= since:
                new, old = q(SHARES[step], Fraction(null) * Fraction(ratio)), q(SHARES[step], Fraction(null))
                one *= new / old if is_candidate else (1 - new) / (1 - old)
        total += one
    return total / len(ratios)


@given(rows=events_lists, null=st.sampled_from([1.0, 1.5, 3.0]), ratios=st.sampled_from([HARM, SAFE]), since=st.integers(0, 2))
def test_the_e_value_is_the_mean_product_of_likelihood_ratios(rows, null, ratios, since):
    state = update(NOTHING, events(rows))
    assert e_value(state, ratios, null, since=since) == pytest.approx(float(product(rows, ratios, null, since)), rel=1e-9)


@given(rows=events_lists, every=st.sampled_from([1, 3]))
def test_the_path_is_the_weighted_e_value_of_every_prefix_bit_by_bit(rows, every):
    stakes = (0.6, 0.3, 0.1)
    path = e_path(NOTHING, events(rows), HARM, stakes=stakes, every=every)
    prefixes = [update(NOTHING, events(rows[: n + 1])) for n in range(len(rows)) if (n + 1) % every == 0]
    assert path.e.tolist() == [staked(prefix, HARM, 1.0, stakes) for prefix in prefixes]
    assert path.places.tolist() == [n for n in range(len(rows)) if (n + 1) % every == 0]
    expected = [sum(stake * e_value(prefix, HARM, since=since) for since, stake in enumerate(stakes)) for prefix in prefixes]
    assert path.e.tolist() == pytest.approx(expected)


@given(rows=events_lists, cut=st.integers(0, 40))
def test_it_does_not_matter_how_events_are_cut_into_batches(rows, cut):
    whole = e_path(NOTHING, events(rows), HARM, stakes=(0.6, 0.2, 0.2)).e.tolist()
    first = update(NOTHING, events(rows[:cut]))
    parts = [
        e_path(state, events(part), HARM, stakes=(0.6, 0.2, 0.2)).e.tolist() for state, part in ((NOTHING, rows[:cut]), (first, rows[cut:]))
    ]
    assert parts[0] + parts[1] == whole
    assert update(first, events(rows[cut:])) == update(NOTHING, events(rows))


@given(rows=events_lists)
def test_many_changes_of_share_give_the_same_as_few(rows):
    """Where share changes all the time the path is computed in one piece, otherwise stretch by stretch."""
    mixed = rows * 3
    path = e_path(NOTHING, events(mixed), HARM).e.tolist()
    one_by_one, state = [], NOTHING
    for row in mixed:
        one_by_one += e_path(state, events([row]), HARM).e.tolist()
        state = update(state, events([row]))
    assert path == one_by_one


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("null", [1.0, 1.5, 3.0])
def test_no_bet_gains_on_average_while_the_null_holds(share, null):
    """The mean of each factor over the label, by its definition, is 1 at the null's border and at most 1 beyond it."""
    for ratios, truths in ((HARM, (null, null / 2)), (SAFE, (null, null * 2))):
        for truth in truths:
            p = float(tilted(share, truth))
            mean = p * e_value((Cell(0, share, 0, 1),), ratios, null) + (1 - p) * e_value((Cell(0, share, 1, 0),), ratios, null)
            assert mean <= 1 + 1e-12
            assert truth != null or mean == pytest.approx(1)


def test_bayes_rule_gives_the_label_its_probability_whatever_the_base_rate():
    rng = np.random.default_rng(1)
    n, share, ratio = 400_000, 0.25, 2.0
    base = rng.uniform(0.01, 0.05, n)
    is_candidate = rng.random(n) < share
    happened = rng.random(n) < base * np.where(is_candidate, ratio, 1.0)
    assert is_candidate[happened].mean() == pytest.approx(float(tilted(share, ratio)), abs=0.012)


def test_false_alarms_stay_below_the_promise_at_every_look_while_shares_change():
    rng, limit, runs, alarms = np.random.default_rng(7), 20.0, 400, 0
    step = np.repeat(np.arange(3), 200)
    share = np.array([float(one) for one in SHARES])[step]
    for _ in range(runs):
        path = e_path(NOTHING, Events(step=step, share=share, is_candidate=rng.random(600) < share), HARM, stakes=(0.6, 0.2, 0.2))
        alarms += bool(path.e.max() >= limit)
    assert alarms / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_the_interval_excludes_a_ratio_exactly_when_its_test_rejects():
    state = (Cell(0, 0.05, 190, 30), Cell(1, 0.5, 100, 180))
    interval = ratio_interval(state)
    assert interval.low < interval.estimate < interval.high
    for border, ratios in ((interval.low, HARM), (interval.high, SAFE)):
        at = [e_value(state, ratios, border * factor) >= 40 for factor in (0.999, 1.001)]
        assert at == [ratios is HARM, ratios is SAFE]
    expected = sum((cell.stable + cell.candidate) * float(tilted(cell.share, interval.estimate)) for cell in state)
    assert expected == pytest.approx(210)


def test_nothing_seen_is_no_evidence_and_no_interval():
    assert e_value(NOTHING, HARM) == 1.0
    assert number(NOTHING) == 0
    assert ratio_interval(NOTHING).estimate is None
    one_sided = ratio_interval((Cell(0, 0.5, 0, 30),))
    assert one_sided.estimate == np.inf
    assert one_sided.low > 1
    assert one_sided.high is None


def test_overwhelming_evidence_is_infinite_and_no_error():
    assert e_value((Cell(0, 0.01, 0, 5000),), HARM) == np.inf
    assert e_value((Cell(0, 0.01, 500_000, 0),), HARM) < 1e-300
