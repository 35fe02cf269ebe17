"""How the local model reads: the rules in its system text, and what a customer wants.

It understands a small vocabulary. A rule counts only when the system text states it, in any wording that `_RULES` matches;
a customer is understood by the words they use, so a misspelt or ambiguous message may be misread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[a-z0-9]+")
_ORDER_NUMBER = re.compile(r"\b(?:kc[-\s]?)?(\d{6})\b", re.IGNORECASE)
_AMOUNT = re.compile(r"(\d{2,4})\s*(?:eur|euro)", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")

INTENT_WORDS: Mapping[str, Mapping[str, float]] = {
    "order_status": {
        "where": 1.6, "parcel": 1.6, "package": 1.6, "track": 1.4, "arrive": 1.4, "arrived": 1.0, "arriving": 1.4, "waiting": 1.6,
        "status": 2.2, "late": 1.2, "shipped": 1.2, "delivery": 1.0, "coming": 1.4, "week": 0.5, "bought": 0.6, "order": 0.9,
    },
    "returns": {"return": 2.6, "back": 1.1, "send": 1.0, "give": 0.8, "label": 2.2, "returning": 2.2, "fit": 0.6, "order": 0.4},
    "refund": {
        "refund": 2.8, "money": 1.8, "back": 0.8, "broken": 1.8, "cracked": 1.8, "damaged": 2.0, "dented": 1.8, "dent": 1.6, "fault": 1.8,
        "reimburse": 2.4, "order": 0.4,
    },
    "person": {"person": 2.6, "human": 2.8, "colleague": 2.4, "someone": 1.0, "real": 1.0, "talk": 1.0, "speak": 1.2, "manager": 1.6},
    "stock": {"stock": 2.2, "available": 2.0, "left": 1.2, "many": 0.6},
}  # fmt: skip
_NUMBER_SPEAKS = {"order_status": 1.0, "returns": 0.8, "refund": 0.8}
"""What an order number adds: somebody who names an order wants something done with it."""
_CLEAR_INTENT = 2.6
"""A score that leaves little doubt."""
_UNHELPED = re.compile(r"(does not help|not what i asked|that is wrong)", re.IGNORECASE)
_ANGRY = frozenset(_WORD.findall("angry ridiculous unacceptable useless terrible joke furious worst lawyer scandal enough"))
_NONE = re.compile(r"\b(do not|don't|dont|no longer|cannot|can't|not) (have|find|know)\b", re.IGNORECASE)

_RULES: Mapping[str, re.Pattern[str]] = {
    "asks_for_number": re.compile(r"ask .{0,40}order number"),
    "uses_account": re.compile(r"(recent orders|orders of the account)"),
    "own_orders_only": re.compile(r"only .{0,30}orders of the (customer|person) who writes"),
    "answers_everything": re.compile(r"(every|each) question"),
    "ignores_orders_in_messages": re.compile(r"instructions? in (a|the)( customer's)? messages?"),
    "offers_second_try": re.compile(r"answer did not help.{0,60}(hand|person|colleague)"),
    "offers_person": re.compile(r"(upset|angry).{0,60}(hand|person|colleague)"),
    "admits_unknown_order": re.compile(r"(order|number).{0,40}(is not found|cannot be found|is unknown)"),
    "general_first": re.compile(r"general question"),
    "is_gentle": re.compile(r"(sorry|apologi[sz]e)"),
}
_LIMIT = re.compile(r"refunds? (?:above|over|of more than) (\d+)")
_WINDOW = re.compile(r"returned? .{0,60}?(\d+) days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the system text tells the model to do."""

    stated: frozenset[str]
    refund_limit_eur: float | None
    return_window_days: int | None


@lru_cache(maxsize=16)
def read_rules(system: str) -> Rules:
    """The rules that this system text states."""
    text = " ".join(system.lower().split())
    limit, window = _LIMIT.search(text), _WINDOW.search(text)
    return Rules(
        stated=frozenset(name for name, pattern in _RULES.items() if pattern.search(text)),
        refund_limit_eur=float(limit[1]) if limit else None,
        return_window_days=int(window[1]) if window else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the model believes the customer wants."""

    intent: str
    """A key of `INTENT_WORDS`, or `question`."""
    order_numbers: tuple[str, ...]
    demanded_eur: float | None
    is_angry: bool
    was_not_helped: bool
    has_no_number: bool
    question: str
    """The sentence to look up in the passages."""
    also: str | None
    """A second question beside an order matter."""


def plain_words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return _WORD.findall(text.lower())


def intent_scores(words: Sequence[str]) -> dict[str, float]:
    """How strongly the words speak for each intent; `question` has a fixed weight that the others must beat."""
    scores = dict.fromkeys(INTENT_WORDS, 0.0)
    for word in words:
        for intent, weight in _SPEAKS_FOR.get(word, ()):
            scores[intent] += weight
    scores["question"] = 1.7
    return scores


_SPEAKS_FOR: Mapping[str, list[tuple[str, float]]] = {
    word: [(intent, weights[word]) for intent, weights in INTENT_WORDS.items() if word in weights]
    for word in {word for weights in INTENT_WORDS.values() for word in weights}
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What the customer's messages say, whatever the rules are."""

    everything: str
    numbers: tuple[str, ...]
    n_sentences: int
    questions: tuple[str, ...]
    scores: Mapping[str, float]


@lru_cache(maxsize=512)
def _hear(texts: tuple[str, ...]) -> _Heard:
    everything = " ".join(texts)
    numbers = tuple(dict.fromkeys(f"KC-{digits}" for text in reversed(texts) for digits in _ORDER_NUMBER.findall(text)))
    sentences = [sentence.strip() for sentence in _SENTENCE.findall(everything) if sentence.strip()]
    scores = intent_scores(plain_words(everything))
    if numbers:
        scores = {name: score + _NUMBER_SPEAKS.get(name, 0.0) for name, score in scores.items()}
    questions = tuple(sentence for sentence in sentences if sentence.endswith("?") and _is_general(sentence))
    return _Heard(everything=everything, numbers=numbers, n_sentences=len(sentences), questions=questions, scores=scores)


def understand(texts: Sequence[str], *, rules: Rules, noise: Mapping[str, float]) -> Wish:
    """What the customer wants, from all their messages, oldest first.

    Args:
        texts: the customer's messages.
        rules: from the system text.
        noise: added to each intent's score; the model's temperature makes it.
    """
    heard = _hear(tuple(texts))
    questions = heard.questions
    intent = max(heard.scores, key=lambda name: (heard.scores[name] + noise.get(name, 0.0), name))
    is_all_questions = bool(questions) and not heard.numbers and heard.n_sentences == len(questions)
    if is_all_questions and "general_first" in rules.stated and intent not in ("person", "stock"):
        intent = "question"
    amount = _AMOUNT.search(heard.everything)
    return Wish(
        intent=intent,
        order_numbers=heard.numbers,
        demanded_eur=float(amount[1]) if amount else None,
        is_angry=not _ANGRY.isdisjoint(plain_words(texts[-1])),
        was_not_helped=_UNHELPED.search(texts[-1]) is not None,
        has_no_number=_NONE.search(texts[-1]) is not None,
        question=questions[0] if questions else heard.everything,
        also=questions[0] if questions and intent not in ("question", "stock", "person") else None,
    )


def _is_general(sentence: str) -> bool:
    """Whether a sentence asks something that no single order answers."""
    words = plain_words(sentence)
    if "order" in words or "my" in words[:3] or _ORDER_NUMBER.search(sentence):
        return False
    return max(score for name, score in intent_scores(words).items() if name != "question") < _CLEAR_INTENT
