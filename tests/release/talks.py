"""Talks of many turns that go on while the share rises, as the log has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tests.release.judging import SHARES
from workbench.release.judge_model import Column, Observation

Logged = Literal["began", "present", "snap"]
"""`began`: a talk stays where it began, with the share of that moment. `present`: the same, with the share of each request's own moment.
`snap`: each request is where its unit's bucket is by the present share."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the candidate is like."""

    failure_ratio: float = 1.0
    quality_drop: float = 0.0
    from_turn: int = 0
    """It is like that from this turn of a talk on."""


def talks(n: int, seed: int, *, truth: Truth = Truth(), logged: Logged = "began", per_step: int = 150) -> Observation:
    """The requests of n talks. Users return unequally often, a fifth of the talks last for a step or more, and later turns go worse.

    Args:
        n: talks, which begin evenly over the steps.
        seed: of all chance.
        truth: of the candidate.
        logged: how requests are assigned, and with which share they are logged.
        per_step: turns that a talk would have in the time of one step.
    """
    rng = np.random.default_rng(seed)
    shares, n_steps = np.array(SHARES), len(SHARES)
    weights = rng.beta(0.3, 6.0, n // 3)
    user = rng.choice(n // 3, n, p=weights / weights.sum())
    bucket = rng.random(n // 3)[user]
    begun = np.sort(rng.uniform(0, n_steps, n))
    length = np.where(rng.random(n) < 0.2, rng.geometric(1 / per_step, n), rng.geometric(1 / 8, n))
    talk = np.repeat(np.arange(n), length)
    turn = np.arange(len(talk)) - np.repeat(np.cumsum(length) - length, length)
    at = begun[talk] + (turn + rng.random(len(talk))) / per_step
    order = np.argsort(at)
    order = order[at[order] < n_steps]
    talk, turn, at = talk[order], turn[order], at[order]
    present, first = at.astype(np.int64), begun[talk].astype(np.int64)
    decided = present if logged == "snap" else first
    arm = (bucket[talk] < shares[decided]).astype(np.int8)
    said = first if logged == "began" else present
    is_worse = (arm == 1) & (turn >= truth.from_turn)
    failed = rng.random(len(talk)) < np.minimum(0.002 + 0.0002 * turn, 0.02) * np.where(is_worse, truth.failure_ratio, 1.0)
    score = np.clip(0.9 - 0.4 * np.minimum(turn / 60, 1.0) + 0.05 * rng.standard_normal(len(talk)) - truth.quality_drop * is_worse, 0, 1)
    return Observation(
        batch_id=np.arange(len(talk)) // 100 + 1,
        seq=np.arange(len(talk)) % 100 + 1,
        arm=arm,
        share=shares[said],
        step=said,
        unit=user[talk].astype(np.uint64) * np.uint64(2654435761) + np.uint64(12345),
        values={"failure_rate": Column(values=failed.astype(float)), "quality": Column(values=score)},
    )
