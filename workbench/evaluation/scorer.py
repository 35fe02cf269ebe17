"""A scorer: looks at an answer and says what it is worth, or nothing. What it must not say is refused here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from workbench.evaluation.model import ScoredRequest, ScoreValue

FaultKind = Literal["failed", "late", "invalid", "ended", "not_loaded", "skipped"]
"""Why an answer stayed without a score: the scorer raised, took too long, said what is no score, its process ended, it could not be
loaded, or it failed so often in a row that the rest of the answers was not shown to it."""
_LONGEST_LABEL, _LONGEST_EXPLANATION = 200, 2000


class ScorerFault(Exception):
    """An answer has no score from this scorer. Its words never quote the answer."""

    def __init__(self, kind: FaultKind, words: str) -> None:
        super().__init__(words)
        self.kind: FaultKind = kind


class Scorer(Protocol):
    """Scores answers."""

    @property
    def scorer_id(self) -> str:
        """What scores, with the digest of its code or of its words: the same id is the same scorer."""

    @property
    def name(self) -> str:
        """Of the scores that it gives."""

    @property
    def source(self) -> Literal["rule", "judge"]:
        """What kind of scorer it is."""

    def score(self, request: ScoredRequest) -> ScoreValue | None:
        """What the answer is worth; None where the scorer has nothing to say of it.

        Raises:
            ScorerFault: it failed.
        """

    def close(self) -> None:
        """Let go of what it holds."""


def score_value(said: Any) -> ScoreValue | None:
    """What a scorer gave back: a number from 0 to 1, a truth value, a label, `{"value": …, "label": …, "explanation": …}`, or None.

    Raises:
        ScorerFault: it is nothing of these.
    """
    if said is None:
        return None
    if isinstance(said, Mapping):
        unknown = set(said) - {"value", "label", "explanation"}
        value, label, explanation = said.get("value"), said.get("label"), said.get("explanation")
        if unknown or (value is None and label is None):
            raise ScorerFault("invalid", "a mapping without value and label, or with other keys")
    else:
        value, label, explanation = (None, said, None) if isinstance(said, str) else (said, None, None)
    if value is not None and not _is_number(value):
        raise ScorerFault("invalid", f"a {type(value).__name__} that is no number from 0 to 1")
    for words in (label, explanation):
        if words is not None and not isinstance(words, str):
            raise ScorerFault("invalid", f"a {type(words).__name__} where words belong")
    return ScoreValue(
        value=None if value is None else float(value),
        label=label[:_LONGEST_LABEL] if label else None,
        explanation=explanation[:_LONGEST_EXPLANATION] if explanation else None,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1
