"""How long a target may take for each part of its answer. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds that one attempt may wait; never beyond the deadline of the call."""

    connect_s: float = 5.0
    """To reach the target."""
    headers_s: float = 30.0
    """Until it begins to answer; of an answer that is not streamed, until it is there."""
    first_token_s: float = 30.0
    """Until the first word or tool call of a stream, counted from the request."""
    gap_s: float = 30.0
    """Between two events of a stream."""
    min_tokens_per_s: float = 0.0
    """Over any 5 s of a stream of which nothing was passed on yet."""

    def within(self, left_s: float, *, is_last: bool) -> Limits:
        """The limits of an attempt with so much time left.

        The last target is never cut by the limits of its beginning: there is nothing better to do with the rest of the time. An attempt
        that another target can follow gets at most half of the rest, so that the other one has the same.
        """
        share_s = left_s if is_last else left_s / 2
        return Limits(
            connect_s=min(self.connect_s, share_s),
            headers_s=math.inf if is_last else min(self.headers_s, share_s),
            first_token_s=math.inf if is_last else min(self.first_token_s, share_s),
            gap_s=self.gap_s,
            min_tokens_per_s=self.min_tokens_per_s,
        )
