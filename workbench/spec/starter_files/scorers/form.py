"""Scorers of live answers. A request has `question`, `answer`, `input`, `output`, `steps`, `workflow`, `status` and `is_fallback`."""

from typing import Any

LONGEST = 1200
"""Characters that somebody reads."""


def is_plain(request: Any) -> float:
    """Whether the answer is there, is short, and is not about the assistant: 1 or 0."""
    answer = request.answer.strip()
    return float(0 < len(answer) <= LONGEST and "as an ai" not in answer.lower())
