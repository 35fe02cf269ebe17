"""A trace as a tree, whatever is missing of it: who stands below whom, and which spans are requests.

Which spans are requests, by the first of these rules that says something:

1. Each span that its app marked with `workbench.request` is one; it ends where another begins below it.
2. In a trace whose root something from outside began (a server's or a consumer's span), the root is.
3. Where two or more agents stand beside each other below a root that has to do with no model (a conversation, a batch), each agent is.
4. Else the root is; several roots are several requests.

As long as a span's way up to a root is not known, it belongs to the request that was running when it began. So a trace of which parts are
still to come is one request, and no request that was once told of vanishes by what comes later: the first one in time bears the id of
the trace, each further one that id and its own span's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from workbench.observability.otlp.model import ENTRANCES, Facts


def once_each(spans: Iterable[Facts]) -> dict[str, Facts]:
    """The spans of a trace by id. Of one that came repeatedly, the one that knows its end, and the latest, with most attributes."""
    found: dict[str, Facts] = {}
    for facts in spans:
        known = found.get(facts.span_id)
        if known is None or (known is not facts and _weight(facts) > _weight(known)):
            found[facts.span_id] = facts
    return found


def _weight(facts: Facts) -> tuple[object, ...]:
    span = facts.span
    last = (span.start_us, span.name, repr(sorted(span.attributes.items())), repr(sorted((span.sealed or {}).items())))
    return (span.end_us is not None, span.end_us or 0, len(span.attributes) + len(span.events), *last, repr(span.events))


class Tree:
    """The spans of one trace, each below its parent where that is known.

    Args:
        spans: by id.
    """

    def __init__(self, spans: Mapping[str, Facts]) -> None:
        self.spans = spans
        self.order: list[Facts] = []
        """Parents before their children, else in the order of time."""
        self.children: dict[str, list[Facts]] = {}
        self.depth: dict[str, int] = {}
        self._parents: dict[str, Facts] = {}
        self._rooted: set[str] = set()
        """Spans whose way up to a root is known."""
        in_time = sorted(spans.values(), key=lambda facts: facts.place)
        for facts in in_time:
            parent = spans.get(facts.span.parent_span_id or "")
            if parent is not None and parent is not facts:
                self.children.setdefault(parent.span_id, []).append(facts)
                self._parents[facts.span_id] = parent
        self.tops = [facts for facts in in_time if facts.span_id not in self._parents]
        for top in self.tops:
            self._walk(top, is_root=top.span.parent_span_id is None)
        for facts in in_time:  # what no top reaches goes in a circle, which is opened at its first span
            if facts.span_id not in self.depth:
                self._parents.pop(facts.span_id)
                self.tops.append(facts)
                self._walk(facts, is_root=False)

    def parent(self, facts: Facts) -> Facts | None:
        return self._parents.get(facts.span_id)

    def _walk(self, top: Facts, *, is_root: bool) -> None:
        self.depth[top.span_id] = 0
        waiting = [top]
        while waiting:
            facts = waiting.pop()
            self.order.append(facts)
            if is_root:
                self._rooted.add(facts.span_id)
            below = [child for child in self.children.get(facts.span_id, ()) if child.span_id not in self.depth]
            self.children[facts.span_id] = below
            for child in reversed(below):
                self.depth[child.span_id] = self.depth[facts.span_id] + 1
                waiting.append(child)

    def entries(self) -> list[Facts]:
        """The spans that are requests, in the order of time; none where the whole trace is one whose root is not known."""
        marked = [facts for facts in self.order if facts.is_request]
        if marked:
            return sorted(marked, key=lambda facts: facts.place)
        with_ai = self._with_ai()
        rooted = [top for top in self.tops if top.span_id in self._rooted]
        roots = [top for top in rooted if top.span_id in with_ai] or (rooted if len(rooted) == 1 else [])
        found = [entry for root in roots for entry in self._below(root)]
        return sorted(found, key=lambda facts: facts.place)

    def _below(self, root: Facts) -> list[Facts]:
        """The requests in the tree of a root."""
        if root.is_ai or root.span.kind in ENTRANCES:
            return [root]
        agents: list[Facts] = []
        waiting = [root]
        while waiting:
            facts = waiting.pop()
            if facts.kind == "agent":
                agents.append(facts)
            elif not facts.is_ai and facts.span.kind not in ENTRANCES:
                waiting.extend(self.children.get(facts.span_id, ()))
        return agents if len(agents) > 1 else [root]

    def _with_ai(self) -> set[str]:
        """Spans that have to do with a model, or stand above one that has."""
        found: set[str] = set()
        for facts in reversed(self.order):
            parent = self.parent(facts)
            if facts.is_ai or facts.span_id in found:
                found.add(facts.span_id)
                if parent is not None:
                    found.add(parent.span_id)
        return found

    def groups(self) -> list[tuple[Facts | None, list[Facts]]]:
        """The requests: each its own span, None where that is not known, and its spans in the tree's order.

        A trace that has to do with no model has none.
        """
        if not any(facts.is_ai for facts in self.order):
            return []
        entries = self.entries()
        if not entries:
            return [(None, self.order)]
        groups: dict[str, list[Facts]] = {entry.span_id: [] for entry in entries}
        owner: dict[str, str] = {}
        for facts in self.order:
            parent = self.parent(facts)
            above = owner.get(parent.span_id) if parent is not None else None
            own = facts.span_id if facts.span_id in groups else above or (None if self._is_above(facts) else _running(entries, facts))
            if own is not None:
                owner[facts.span_id] = own
            groups[own or entries[0].span_id].append(facts)
        return [(entry, groups[entry.span_id]) for entry in entries]

    def _is_above(self, facts: Facts) -> bool:
        """Whether an entry may stand below it, so that what is below it is not its own."""
        return not facts.is_ai and facts.span_id in self._rooted and bool(self.children.get(facts.span_id))


def _running(entries: Sequence[Facts], facts: Facts) -> str:
    """The request that was running when the span began: the last that had begun, else the first."""
    begun = [entry for entry in entries if entry.span.start_us <= facts.span.start_us]
    return (begun[-1] if begun else entries[0]).span_id
