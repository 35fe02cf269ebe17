"""Block-paired betting against a walk through the rows one by one and products in exact arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.stats.betting import FRACTIONS, OpenBlock, close_blocks, e_values, grow, log_factors

rows_lists = st.lists(st.tuples(st.booleans(), st.integers(0, 100)), max_size=60)


def walk(rows):
    """Blocks as they are defined: a row at a time."""
    blocks, opened = [], {False: [], True: []}
    for at, (arm, value) in enumerate(rows):
        opened[arm].append(value / 100)
        if opened[False] and opened[True]:
            blocks.append((np.mean(opened[False]), np.mean(opened[True]), at))
            opened = {False: [], True: []}
    return blocks, opened


def columns(rows):
    return np.array([arm for arm, _ in rows], dtype=np.bool_), np.array([value / 100 for _, value in rows])


@given(rows=rows_lists)
def test_blocks_are_those_of_a_walk_row_by_row(rows):
    rest, blocks = close_blocks(OpenBlock(), *columns(rows))
    expected, opened = walk(rows)
    assert blocks.stable.tolist() == pytest.approx([one[0] for one in expected])
    assert blocks.candidate.tolist() == pytest.approx([one[1] for one in expected])
    assert blocks.closed_by.tolist() == [one[2] for one in expected]
    assert rest.n == len(opened[False]) + len(opened[True])
    assert rest.n == 0 or rest.total == pytest.approx(sum(opened[rest.is_candidate]))


@given(rows=rows_lists, cuts=st.lists(st.integers(0, 60), max_size=3))
def test_it_does_not_matter_how_rows_are_cut_into_batches(rows, cuts):
    whole_rest, whole = close_blocks(OpenBlock(), *columns(rows))
    opened, stable, candidate = OpenBlock(), [], []
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, end in itertools.pairwise(edges):
        opened, blocks = close_blocks(opened, *columns(rows[start:end]))
        stable += blocks.stable.tolist()
        candidate += blocks.candidate.tolist()
    assert (stable, candidate, opened) == (whole.stable.tolist(), whole.candidate.tolist(), whole_rest)


@given(hundredths=st.lists(st.integers(-100, 100), max_size=20), margin=st.sampled_from([0.0, 0.02, 0.25]), is_safe=st.booleans())
def test_capital_is_the_mean_product_of_what_each_round_pays(hundredths, margin, is_safe):
    loss = np.array([one / 100 for one in hundredths])
    paths = grow((0.0,) * len(FRACTIONS), log_factors(loss, margin, is_safe=is_safe))
    total = Fraction(0)
    for fraction in FRACTIONS:
        one = Fraction(1)
        for d in hundredths:
            gain = (Fraction(d, 100) - Fraction(margin)) / (1 + Fraction(margin))
            one *= 1 + Fraction(fraction) * (-gain if is_safe else gain)
        total += one
    assert e_values(paths)[-1] == pytest.approx(float(total / len(FRACTIONS)), rel=1e-9)


def test_capital_is_never_lost_whole_and_no_round_can_bankrupt():
    for is_safe in (False, True):
        factors = log_factors(np.array([-1.0, 1.0]), 0.02, is_safe=is_safe)
        assert all(np.isfinite(factor).all() for factor in factors)


def test_a_loss_at_the_margin_is_not_called_harm_or_safe_more_often_than_promised():
    rng, runs, found = np.random.default_rng(3), 300, {False: 0, True: 0}
    for _ in range(runs):
        loss = rng.beta(6.4, 1.6, 400) - rng.beta(8 * 0.78, 8 * 0.22, 400)  # means .8 and .78
        for is_safe in found:
            paths = grow((0.0,) * len(FRACTIONS), log_factors(loss, 0.02, is_safe=is_safe))
            found[is_safe] += bool(e_values(paths).max() >= 20)
    assert max(found.values()) / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
