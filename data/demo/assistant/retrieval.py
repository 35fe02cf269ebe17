"""Search over the shop's articles: BM25 over an index file that the bundle names.

The index is built once, from the fields that the bundle declares, and committed beside the bundle. What an index does not
hold cannot be found: one built from titles only knows few of the words that customers use.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), equation 3.15.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

K1 = 1.2
B = 0.6
_WORD = re.compile(r"[a-z0-9]+")
_SHORTEST_STEM = 3
_STOP = frozenset(
    _WORD.findall(
        "a am an and are as at be been but by can could do does for from get had has have how i if in is it its may me my of on one or our "
        "please so some that the their them there they this to up us want was we what when where which who why will with would you your"
    )
)


def words(text: str, *, stem: bool) -> list[str]:
    """The searchable words of a text, in order. With `stem`, endings are cut so that `boxes` finds `box`."""
    found = [word for word in _WORD.findall(text.lower()) if word not in _STOP]
    return [stemmed(word) for word in found] if stem else found


def stemmed(word: str) -> str:
    """The word without its commonest English endings: `descaling` and `descaled` both give `descal`."""
    for ending in ("ing", "ies", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


def build_index(articles: Sequence[Mapping[str, Any]], *, fields: Sequence[str], stem: bool) -> dict[str, Any]:
    """An index of the articles: `{fields, stem, documents, postings}`, where postings are word to `[[document number, weight]]`."""
    contents = [words(" ".join(_field(article, name) for name in fields), stem=stem) for article in articles]
    mean_length = sum(map(len, contents)) / max(len(contents), 1)
    counts = [Counter(content) for content in contents]
    holders = Counter(word for count in counts for word in count)
    postings: dict[str, list[list[float]]] = {}
    for number, (content, count) in enumerate(zip(contents, counts, strict=True)):
        for word, times in count.items():
            rarity = math.log(1 + (len(contents) - holders[word] + 0.5) / (holders[word] + 0.5))
            weight = rarity * times * (K1 + 1) / (times + K1 * (1 - B + B * len(content) / mean_length))
            postings.setdefault(word, []).append([number, round(weight, 4)])
    documents = [{"id": article["id"], "title": article["title"], "text": article["text"]} for article in articles]
    return {"fields": list(fields), "stem": stem, "documents": documents, "postings": dict(sorted(postings.items()))}


def _field(article: Mapping[str, Any], name: str) -> str:
    value = article[name]
    return value if isinstance(value, str) else " ".join(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One article that a search found. `rank` starts at 1."""

    doc_id: str
    title: str
    text: str
    score: float
    rank: int


class Index:
    """A loaded index file."""

    def __init__(self, content: bytes) -> None:
        data = json.loads(content)
        self.stem: bool = data["stem"]
        self.documents: list[dict[str, str]] = data["documents"]
        self.postings: dict[str, list[list[float]]] = data["postings"]

    def search(self, query: str, *, top_k: int) -> tuple[Passage, ...]:
        """The best `top_k` articles, best first; fewer where fewer share a word with the query."""
        scores: dict[float, float] = {}
        for word in dict.fromkeys(words(query, stem=self.stem)):
            for number, weight in self.postings.get(word, ()):
                scores[number] = scores.get(number, 0.0) + weight
        best = sorted(scores.items(), key=lambda item: (-round(item[1], 9), item[0]))[:top_k]
        found = []
        for rank, (number, score) in enumerate(best, start=1):
            document = self.documents[int(number)]
            found.append(Passage(doc_id=document["id"], title=document["title"], text=document["text"], score=round(score, 4), rank=rank))
        return tuple(found)
