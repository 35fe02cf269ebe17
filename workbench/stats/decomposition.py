"""Why a product changed: each factor's part of the change, which add up to it exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping


def shapley_parts(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The part of `Π after - Π before` that each factor brought, in the factors' own order; the parts sum to the change.

    A factor's part is the mean, over all orders in which the factors could have changed, of what its change did at its turn. So no
    order is preferred, a factor that did not change brought nothing, and a factor may be 0.

    Args:
        before: name to factor.
        after: the same names.

    Raises:
        ValueError: the names differ.

    Source: Shorrocks (2013), J. Economic Inequality 11:99-126, "Decomposition procedures for distributional analysis: a unified
    framework based on the Shapley value".

    >>> shapley_parts({"volume": 100.0, "rate": 0.5}, {"volume": 120.0, "rate": 0.6})
    {'volume': 11.0, 'rate': 11.0}
    """
    if list(before) != list(after):
        raise ValueError(f"the factors differ: {', '.join(before)} and {', '.join(after)}")
    steps: dict[str, list[float]] = {name: [] for name in before}
    for order in itertools.permutations(before):
        now = dict(before)
        for name in order:
            others = math.prod(value for other, value in now.items() if other != name)
            steps[name].append(others * (after[name] - before[name]))
            now[name] = after[name]
    return {name: round(math.fsum(parts) / len(parts), 12) for name, parts in steps.items()}
