"""When a person decides: the signs in one turn that the answer is not certain, and what they ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from workbench.controls.guards.matches import Rule
from workbench.controls.guards.model import Action, Finding
from workbench.controls.guards.phrases import Phrases
from workbench.spec.folding import plain
from workbench.spec.guards import Handoff


class HandoffMode(StrEnum):
    """How a person comes in, mildest first."""

    RELEASE_AND_FLAG = "release_and_flag"
    """The answer leaves, and a person looks at it afterwards."""
    HOLD = "hold"
    """The answer waits until a person decided; silence is never a yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One sign that a person should decide."""

    name: str
    """`needs_approval`, `unsure`, `missing_citations`, `retrieval_score`, `token_logprob`, `asked_for_person`
    or `session_failures`."""
    mode: HandoffMode
    sentence: str
    """For the person who decides; nothing of the talk is quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSigns:
    """What is known of one turn. None stands for what nobody measured, which is never a good sign and never a bad one."""

    findings: tuple[Finding, ...] = ()
    last_user_text: str = ""
    n_citations: int | None = None
    retrieval_scores: tuple[float, ...] | None = None
    """Of what was found; empty where a search found nothing."""
    least_logprob: float | None = None
    """Of the tokens of the answer, natural logarithm."""
    n_session_failures: int = 0
    """Turns of the session before this one that failed."""


class Uncertainty:
    """Reads the signs as a bundle's `handoff` says.

    Args:
        handoff: which signs count, and for what.
    """

    def __init__(self, handoff: Handoff) -> None:
        self._handoff = handoff
        asked = handoff.asked_for_person
        rule = Rule(rule_id="asked_for_person", action=Action.FLAG)
        self._phrases = Phrases([(phrase, rule) for phrase in asked.phrases] if asked else [])

    @property
    def may_hold_answers(self) -> bool:
        """Whether an answer may have to be held back for what only the whole of it shows."""
        handoff = self._handoff
        scores = (handoff.retrieval_score, handoff.token_logprob)
        modes = (handoff.missing_citations, *(each.mode for each in scores if each))
        return HandoffMode.HOLD in modes

    def may_speak(self, findings: Sequence[Finding], *, n_session_failures: int) -> bool:
        """Whether any sign can count; where none can, nobody has to look for them."""
        handoff = self._handoff
        if any((handoff.missing_citations, handoff.retrieval_score, handoff.token_logprob, self._phrases)):
            return True
        fails = handoff.session_failures is not None and n_session_failures > 0
        return fails or any(finding.action is Action.HANDOFF for finding in findings)

    def signals(self, signs: TurnSigns) -> tuple[Signal, ...]:
        """Every sign of the turn that counts."""
        return (*self._of_guards(signs.findings), *self._of_answer(signs), *self._of_session(signs))

    def _of_guards(self, findings: Sequence[Finding]) -> Iterator[Signal]:
        handed = [finding for finding in findings if finding.action is Action.HANDOFF]
        waiting = dict.fromkeys(finding.tool for finding in handed if finding.reason == "needs_approval")
        for tool in waiting:
            yield _signal("needs_approval", self._handoff.needs_approval, f"The assistant wants to call {tool}, which a person approves.")
        unsure = sorted({finding.rule_id for finding in handed if finding.reason != "needs_approval"})
        if unsure:
            yield _signal("unsure", self._handoff.unsure, f"A person is asked for by the guards {', '.join(unsure)}.")

    def _of_answer(self, signs: TurnSigns) -> Iterator[Signal]:
        handoff = self._handoff
        if handoff.missing_citations and signs.n_citations == 0:
            yield _signal("missing_citations", handoff.missing_citations, "The answer cites nothing.")
        score, scores = handoff.retrieval_score, signs.retrieval_scores
        if score and scores is not None and not any(found >= score.below for found in scores):
            best = f"{max(scores):.3g}" if scores else "nothing was found"
            yield _signal("retrieval_score", score.mode, f"The best search result has a score below {score.below:g}: {best}.")
        token = handoff.token_logprob
        if token and signs.least_logprob is not None and not signs.least_logprob >= token.below:
            yield _signal("token_logprob", token.mode, f"A token of the answer has a log probability below {token.below:g}.")

    def _of_session(self, signs: TurnSigns) -> Iterator[Signal]:
        asked, failures = self._handoff.asked_for_person, self._handoff.session_failures
        if asked and self._phrases and next(self._phrases.find(plain(signs.last_user_text)), None) is not None:
            yield _signal("asked_for_person", asked.mode, "The user asks for a person.")
        if failures and signs.n_session_failures >= failures.at_least:
            yield _signal("session_failures", failures.mode, f"{signs.n_session_failures} turns of this session failed before.")


def mode_of(signals: Sequence[Signal]) -> HandoffMode | None:
    """What counts of several signals: to hold beats to flag; None where there is none."""
    modes = {signal.mode for signal in signals}
    return HandoffMode.HOLD if HandoffMode.HOLD in modes else HandoffMode.RELEASE_AND_FLAG if modes else None


def _signal(name: str, mode: str, sentence: str) -> Signal:
    return Signal(name=name, mode=HandoffMode(mode), sentence=sentence)
