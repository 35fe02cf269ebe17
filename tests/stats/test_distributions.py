"""Quantiles and tails against the distributions of `scipy.stats`."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.stats import distributions as ours

LEVELS = st.floats(0.001, 0.999)


@given(p=LEVELS, df=st.floats(1, 1e6))
def test_student_and_normal_quantiles_are_those_of_scipy(p: float, df: float):
    assert ours.t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-12)
    assert ours.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-12, abs=1e-15)


@given(value=st.floats(-40, 40), df=st.integers(1, 100_000))
def test_tails_are_those_of_scipy(value: float, df: int):
    assert ours.t_tail(value, df) == pytest.approx(stats.t.sf(value, df), rel=1e-9, abs=1e-300)
    assert ours.chi_squared_tail(abs(value), df) == pytest.approx(stats.chi2.sf(abs(value), df), rel=1e-9, abs=1e-300)


@given(n=st.integers(1, 20_000), p=LEVELS, level=LEVELS, data=st.data())
def test_binomial_counts_are_those_of_scipy(n: int, p: float, level: float, data: st.DataObject):
    k = data.draw(st.integers(0, n))
    assert ours.binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9, abs=1e-100)  # beyond that scipy's has 8 digits
    found, theirs = ours.binomial_quantile(level, n, p), int(stats.binom.ppf(level, n, p))
    is_tie = stats.binom.cdf(min(found, theirs), n, p) == pytest.approx(level, rel=1e-12)  # then rounding decides between the two
    assert found == theirs or (is_tie and abs(found - theirs) == 1)


@pytest.mark.parametrize(
    ("k", "n", "p"), [(18, 2463, Fraction(1, 4)), (0, 1, Fraction(1, 2)), (37, 400, Fraction(1, 10)), (999, 1000, Fraction(63, 64))]
)
def test_binomial_tails_are_the_exact_sums(k: int, n: int, p: Fraction):
    exact = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    assert ours.binomial_cdf(k, n, float(p)) == pytest.approx(float(exact), rel=1e-9)
