"""The entry point: one turn of a talk with a customer, from the messages to the answer.

Retrieve, ask the model, check and run the tools it asks for, ask again, until it answers or the turns are used up. The
host gives everything from outside (model, tools, clock, records); this file holds no state between turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from .guard import check
from .retrieval import Index, Passage


class Content(Protocol):
    """The registered bundle: its parts as declared, and the bytes of its files."""

    def part(self, name: str) -> Mapping[str, Any]: ...
    def file(self, reference: Any) -> bytes: ...


class Host(Protocol):
    """What the place that runs the assistant provides. `complete` and `call_tool` retry and are recorded by the host."""

    bundle: Content
    unit: str

    async def complete(self, request: Mapping[str, Any]) -> Mapping[str, Any]: ...
    async def call_tool(self, name: str, arguments: Mapping[str, Any], *, call_id: str) -> Mapping[str, Any]: ...
    async def search_time(self, n_documents: int) -> None:
        """Let the time of a search pass: a virtual clock sees no computing."""

    def record(self, kind: str, name: str, **details: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A bundle, read once."""

    system: str
    model: Mapping[str, Any]
    tools: tuple[Mapping[str, Any], ...]
    max_turns: int
    index: Index | None
    top_k: int
    limits: Mapping[str, float]


@dataclass(slots=True, kw_only=True)
class Talk:
    """What is known while one turn runs."""

    messages: list[Mapping[str, Any]]
    seen_orders: list[Mapping[str, Any]] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    case_number: str | None = None


async def answer(messages: Sequence[Mapping[str, Any]], host: Host) -> dict[str, Any]:
    """The answer to the customer's last message.

    Args:
        messages: the talk so far, `role` and `content`, oldest first; the last is the customer's.
        host: model, tools, clock and records.

    Returns:
        `content` for the customer; `finish_reason`; `status`, `ok` or `handed_off`; `blocked_rules`; `case_number` of a handover.
    """
    setup = read_bundle(host.bundle)
    passages = await retrieve(messages, setup, host)
    talk = Talk(messages=[{"role": "system", "content": setup.system}, {"role": "system", "content": _quoted(passages)}, *messages])
    for _ in range(setup.max_turns):
        response = await host.complete({**setup.model, "messages": talk.messages, "tools": setup.tools, "user": host.unit})
        choice = response["choices"][0]
        if not choice["message"].get("tool_calls"):
            return _result(talk, choice["message"]["content"], choice["finish_reason"])
        talk.messages.append(choice["message"])
        for call in choice["message"]["tool_calls"]:
            talk.messages.append(await run_tool(call, talk, setup, host))
    return _result(talk, "I could not finish this. Please write to us again in a moment.", "length")


async def retrieve(messages: Sequence[Mapping[str, Any]], setup: Setup, host: Host) -> tuple[Passage, ...]:
    """The articles that fit what the customer wrote in this talk."""
    if setup.index is None:
        return ()
    query = " ".join(str(message["content"]) for message in messages if message["role"] == "user")
    await host.search_time(len(setup.index.documents))
    passages = setup.index.search(query, top_k=setup.top_k)
    host.record("retrieval", "articles", query=query, retrieved=[{"doc_id": p.doc_id, "score": p.score, "rank": p.rank} for p in passages])
    return passages


async def run_tool(call: Mapping[str, Any], talk: Talk, setup: Setup, host: Host) -> dict[str, Any]:
    """The tool message that answers one tool call; a refused call is answered by the rule that refused it."""
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
    block = check(name, arguments, limits=setup.limits, seen_orders=talk.seen_orders)
    result: Mapping[str, Any]
    if block is not None:
        talk.blocked.append(block.rule_id)
        host.record("guard", "policy", rule_id=block.rule_id, action="block", tool=name)
        result = {"blocked": block.rule_id, "message": block.sentence}
    else:
        result = await host.call_tool(name, arguments, call_id=call["id"])
        talk.seen_orders.extend(result.get("orders", ()))
        talk.case_number = result.get("case_number", talk.case_number)
    return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": json.dumps(result)}


@lru_cache(maxsize=4)
def read_bundle(bundle: Content) -> Setup:
    """What this file needs of a bundle: system text (prompt and policy), model, tools, index, limits."""
    model, orchestration, policy = bundle.part("model"), bundle.part("orchestration"), bundle.part("policy")
    retrieval = bundle.part("retrieval")
    prompt = bundle.file(bundle.part("prompts")["system"]).decode()
    rules = bundle.file(policy["rules"]).decode() if policy.get("rules") else ""
    tools = [
        {
            "type": "function",
            "function": {"name": t["name"], "description": t.get("description", ""), "parameters": t.get("parameters", {})},
        }
        for t in orchestration["tools"]
    ]
    return Setup(
        system=f"{prompt.strip()}\n\nThe rules of the house:\n{rules.strip()}",
        model={"model": model["name"], **model["params"]},
        tools=tuple(tools),
        max_turns=int(orchestration["limits"]["max_turns"]),
        index=Index(bundle.file(retrieval["index"]["file"])) if retrieval.get("index") else None,
        top_k=int(retrieval.get("top_k") or 3),
        limits=policy.get("thresholds") or {},
    )


def _quoted(passages: Sequence[Passage]) -> str:
    return "Passages:\n" + "\n".join(f"[{passage.doc_id}] {passage.title}: {passage.text}" for passage in passages)


def _result(talk: Talk, content: str, finish_reason: str) -> dict[str, Any]:
    return {
        "content": content,
        "finish_reason": finish_reason,
        "status": "handed_off" if talk.case_number else "ok",
        "blocked_rules": talk.blocked,
        "case_number": talk.case_number,
    }
