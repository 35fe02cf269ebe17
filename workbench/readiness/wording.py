"""Numbers in plain words, for the sentences of gates; the views use the same forms.

Rules:
- a share is a percentage with one decimal, with more where one decimal would show 0 or 100 and it is neither;
- milliseconds from 10 s on are seconds with one decimal, below that whole milliseconds;
- a change carries its sign, and a change of a share is in percentage points;
- a ratio has two decimals and the word `times`;
- a missing number is a dash.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta

DASH = "–"
CHANGE_OF = "change of "
"""Prefix of the unit of a difference: `change of share`."""

_SECONDS_FROM_MS = 10_000
_WHOLE_FROM_MS = 10
_MOST_DECIMALS = 6
_NOISE = 12
"""Decimals beyond which a number is the noise of floating point; adding 0.0 makes a negative zero plain."""
_SHARED_UNIT = re.compile(r" (?:%|s|ms|times|points)$")
_QUANTILE = re.compile(r"(?P<what>.+)_p(?P<percent>\d+)")


def number(value: float | None, unit: str, *, more_decimals: int = 0) -> str:  # noqa: PLR0911  # one line per unit reads best
    """One number with its unit: `85.0 %`, `62.7 s`, `1.79 times`, `+3.1 points`; a dash when there is none.

    Args:
        unit: `share`, `ms`, `usd`, `ratio`, a count's name, or any unit of a KPI; with the prefix `change of ` for a difference.
        more_decimals: added to the decimals of the rule, to tell two close numbers apart.
    """
    if value is None or not math.isfinite(value):
        return DASH
    value = round(value, _NOISE) + 0.0
    if unit.startswith(CHANGE_OF):
        return _change(value, unit.removeprefix(CHANGE_OF), more_decimals)
    match unit:
        case "share":
            return _percent(value, more_decimals)
        case "ms":
            return _milliseconds(value, more_decimals)
        case "USD" | "usd":
            return f"${value:,.{_decimals_of(value) + more_decimals}f}"
        case "ratio":
            return f"{value:.{2 + more_decimals}f} times"
        case "" | "count" | "requests" | "score" | "tokens":
            return _plain(value, more_decimals)
    return f"{_plain(value, more_decimals)} {unit}"


def apart(value: float, bar: float, unit: str) -> tuple[str, str]:
    """Both numbers in words, with enough decimals to differ when they differ."""
    for more in range(_MOST_DECIMALS):
        words = number(value, unit, more_decimals=more), number(bar, unit, more_decimals=more)
        if value == bar or words[0] != words[1]:
            break
    return words


def interval(low: float | None, high: float | None, unit: str) -> str:
    """`80.4 to 88.1 %`; an end that this n does not bound is named; a dash without both."""
    if low is None and high is None:
        return DASH
    if low is None:
        return f"up to {number(high, unit)}, no lower end"
    if high is None:
        return f"from {number(low, unit)}, no upper end"
    ends = number(low, unit), number(high, unit)
    shared = _SHARED_UNIT.search(ends[1])
    return f"{ends[0].removesuffix(shared[0]) if shared else ends[0]} to {ends[1]}"


def metric_words(metric: str, where: Mapping[str, str] | None = None) -> str:
    """`latency_p95` as people say it: `p95 latency`, with the filter in brackets."""
    quantile = _QUANTILE.fullmatch(metric)
    words = f"p{quantile['percent']} {quantile['what']}" if quantile else metric
    words = words.replace("_", " ").replace("ttft", "time to first token").replace("usd", "in USD")
    if where:
        words += " (" + ", ".join(f"{name} {value}" for name, value in sorted(where.items())) + ")"
    return words


def counted(n: int, one: str, many: str | None = None) -> str:
    """`1 gate`, `2 gates`, `1,204 requests`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def span_words(span: timedelta) -> str:
    """A span for people: days, hours or minutes."""
    seconds = span.total_seconds()
    for unit, size in (("day", 86_400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= size:
            n = seconds / size
            text = f"{n:.0f}" if n >= 10 else f"{n:.1f}".removesuffix(".0")  # noqa: PLR2004 - two digits say enough
            return f"{text} {unit}{'' if text == '1' else 's'}"
    return f"{seconds:.0f} s"


def _percent(value: float, more: int) -> str:
    percent = value * 100
    decimals = 1 + more
    while decimals < 1 + _MOST_DECIMALS and 0 < value < 1 and f"{percent:.{decimals}f}" in (f"{0:.{decimals}f}", f"{100:.{decimals}f}"):
        decimals += 1
    return f"{percent:.{decimals}f} %"


def _milliseconds(value: float, more: int) -> str:
    if abs(value) >= _SECONDS_FROM_MS:
        return f"{value / 1000:,.{1 + more}f} s"
    return f"{value:,.{(0 if abs(value) >= _WHOLE_FROM_MS or value == 0 else 1) + more}f} ms"


def _change(value: float, unit: str, more: int) -> str:
    sign = "+" if value > 0 else "-" if value < 0 else "±"
    size = abs(value)
    if unit == "share":
        return f"{sign}{_percent(size, more).removesuffix(' %')} points"
    return f"{sign}{number(size, unit, more_decimals=more)}"


def _plain(value: float, more: int) -> str:
    if value == round(value) and not more:
        return f"{value:,.0f}"
    return f"{value:,.{_decimals_of(value) + more}f}"


def _decimals_of(value: float) -> int:
    """Decimals that leave about three significant digits below 1, and two above."""
    size = abs(value)
    if size >= 1 or size == 0:
        return 2
    return min(_MOST_DECIMALS, 2 - math.floor(math.log10(size)))
