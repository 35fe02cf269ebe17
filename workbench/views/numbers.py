"""How numbers look in tables; the same forms as in the sentences of a review. See `readiness.wording` for the rules."""

from __future__ import annotations

from workbench.readiness.wording import CHANGE_OF, DASH, apart, counted, interval, metric_words, number

__all__ = ["CHANGE_OF", "DASH", "apart", "count_cell", "counted", "interval", "metric_words", "number", "rate_cell", "sized"]


def rate_cell(value: float | None, count: int | None, n: int | None) -> str:
    """`4.0 % (12/299)`; only the percentage where the counts are unknown; a dash without data."""
    words = number(value, "share")
    return words if value is None or count is None or n is None else f"{words} ({count:,}/{n:,})"


def sized(value: float | None, unit: str, n: int | None) -> str:
    """`62.7 s (n 40)`: a number that is not a rate, with its observations."""
    words = number(value, unit)
    return words if value is None or n is None else f"{words} (n {n:,})"


def count_cell(n: int | None) -> str:
    """A count with thousands separated; a dash when it is unknown."""
    return DASH if n is None else f"{n:,}"
