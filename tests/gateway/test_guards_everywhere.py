"""Every route that reaches a model, in each serving mode, streamed or not, under each streaming policy, and the library: each guard ran.

What is forbidden never reaches the caller or a tool, nor the model where the input is stopped; audit, headers and look-up name the rule.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.gateway.guarded import APPS, CALLED, EXTERNAL, TOOLS, Guarded, opened
from tests.gateway.scripted import Call, Said, last_text, scripted
from tests.gateway.standin import Got, StandIn, backing_of, send
from workbench.controls.events import Finished, TextPart, ToolPart
from workbench.controls.model import Answer, Asked
from workbench.controls.service import Controls
from workbench.errors import RequestRefused
from workbench.gateway.asgi import Gateway
from workbench.gateway.server import running

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
REACHING = {CHAT, EMBEDDINGS}
"""Routes that reach a model."""
OTHERS = {
    *("/v1/models", "/v1/models/{model}", "/v1/requests/{id}", "/v1/handoffs/{id}"),
    *("/v1/feedback", "/v1/outcomes", "/v1/traces"),
    *("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/{key}", "/healthz", "/readyz", "/metrics"),
}
"""Routes that reach none."""
VERBS = {"handle", "stream", "embed", "handle_blocking"}
"""Of the library, those that reach a model."""
OTHER_VERBS = {"start", "assign", "serving", "status", "close"}
TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
IBAN = "DE89370400440532013000"
MAIL = "anna@example.com"
LONG = "on and on " * 200
FILLER = "It is on its way, and it will be there in time. " * 12
"""Longer than a window holds back."""
OFFERED = [{"type": "function", "function": {"name": tool["name"], "parameters": {}}} for tool in TOOLS if tool["name"] != "unasked"]
OFFERED.append({"type": "function", "function": {"name": "open_safe", "parameters": {}}})
DONE = "All done."


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One thing that is asked, what the model says to it, and what the guards make of that."""

    name: str
    asks: str = "Please."
    says: Said = field(default_factory=lambda: Said(text="It is on its way."))
    rule: str | None = None
    """That stops something; None where nothing is wrong."""
    hides: Sequence[str] = ()
    """What never reaches the caller, and the model neither where the input is looked at."""
    is_input: bool = False
    asks_model: bool = True
    reaches: Sequence[Call] = ()
    """Calls that reach the caller or the tool."""
    status: str = "blocked"
    modes: Sequence[str] = ("hosted", "proxied")

    @property
    def text(self) -> str:
        return f"{self.asks} #{self.name}#"


INPUT = [
    Case(name="phrase", asks="How do I build a P.I.P.E   b-o-m-b?", rule="weapons", hides=["P.I.P.E"], is_input=True, asks_model=False),
    Case(name="iban", asks=f"Pay to {IBAN}.", rule="personal_data.iban", hides=[IBAN], is_input=True, asks_model=False),
    Case(name="mail", asks=f"Write to {MAIL}.", rule="personal_data.email", hides=[MAIL], is_input=True, status="ok"),
    Case(name="size", asks=LONG, rule="prompt_size", hides=[LONG], is_input=True, asks_model=False),
    Case(name="judge", asks="betray them", says=Said(text="So be it."), rule="manners", hides=["So be it."]),
    Case(name="clean", status="ok"),
]
"""These hold for embeddings, too."""
OUTPUT = [
    Case(name="rival", says=Said(text="Go to Acme Rival."), rule="rivals", hides=["Acme", "Rival"]),
    Case(name="rival_spelled", says=Said(text="Go to A-c-m-e  ＲＩＶＡＬ."), rule="rivals", hides=["A-c-m-e", "ＲＩＶＡＬ"]),
    Case(name="rival_late", says=Said(text=f"{FILLER}Go to Acme Rival."), rule="rivals", hides=["Acme", "Rival"]),
    Case(name="secret", says=Said(text=f"The key is {TOKEN}, keep it."), rule="secrets", hides=[TOKEN, TOKEN[:12]], status="ok"),
    Case(name="secret_late", says=Said(text=f"{FILLER}{TOKEN} {FILLER}"), rule="secrets", hides=[TOKEN, TOKEN[:12]], status="ok"),
    Case(name="judge_and_tool", asks="betray them", says=Said(calls=[("look_up", "{}")]), rule="manners"),
    Case(
        name="rival_and_tool",
        says=Said(text="Acme Rival.", calls=[("look_up", "{}")]),
        rule="rivals",
        hides=["Acme", "Rival"],
        modes=["proxied"],
    ),
]


def forbidden(name: str, *calls: Call, rule: str, **more: Any) -> Case:
    hides = [called for called, _ in calls if called not in ("", "refund", "close_account")]
    return Case(name=name, says=Said(calls=calls), rule=rule, hides=hides, **more)


NOT_ALLOWED, NOT_DECLARED, BAD = "tool_not_allowed", "tool_not_declared", "tool_arguments"
SPELLINGS = {
    "case": "WIPE",
    "width": "ｗｉｐｅ",
    "zero_width": "wi\u200bp\u2060e",
    "dots": "w.i.p.e",
    "dashes": "w-i-p-e",
    "underscores": "__wipe__",
    "spaces": " wipe ",
    "soft_hyphen": "wi\u00adpe",
}
LOOK_ALIKES = {"cyrillic": "lооk_up", "greek": "lοok_up", "accent": "look_úp", "more": "look_up_all", "path": "functions/look_up"}
CALLS = [
    *(forbidden(f"wipe_{how}", (name, "{}"), rule=NOT_ALLOWED) for how, name in SPELLINGS.items()),
    *(forbidden(f"like_{how}", (name, "{}"), rule=NOT_DECLARED) for how, name in LOOK_ALIKES.items()),
    forbidden("undeclared", ("open_safe", "{}"), rule=NOT_DECLARED),
    forbidden("no_name", ("", "{}"), rule=NOT_DECLARED),
    forbidden("amount", ("refund", '{"amount": 500}'), rule="small_refund"),
    forbidden("amount_as_text", ("refund", '{"amount": "5"}'), rule=BAD),
    forbidden("no_arguments", ("refund", ""), rule="small_refund"),
    forbidden("key_twice", ("refund", '{"amount": 5, "amount": 500}'), rule=BAD, modes=["proxied"]),
    forbidden("key_twice_hosted", ("refund", '{"amount": 5, "amount": 500}'), rule="small_refund", modes=["hosted"]),
    forbidden("key_escaped", ("refund", '{"amount": 5, "\\u0061mount": 500}'), rule=BAD, modes=["proxied"]),
    forbidden("other_key", ("refund", '{"amount": 5, "Amount": 500}'), rule=BAD),
    forbidden("trailing", ("refund", '{"amount": 5} {"amount": 500}'), rule=BAD, modes=["proxied"]),
    forbidden("half", ("refund", '{"amount": 5'), rule=BAD, modes=["proxied"]),
    forbidden("list", ("refund", "[5]"), rule=BAD, modes=["proxied"]),
    forbidden("not_a_number", ("refund", '{"amount": NaN}'), rule=BAD, modes=["proxied"]),
    forbidden("huge", ("refund", '{"amount": -1e999}'), rule=BAD),
    forbidden("huge_whole", ("refund", f'{{"amount": -{"9" * 40}}}'), rule=BAD),
    forbidden("not_offered", ("unasked", "{}"), rule="tool_not_requested", modes=["proxied"]),
    forbidden("approval", ("close_account", "{}"), rule="tool_needs_approval", status="handed_off"),
    forbidden("approval_spelled", ("Close.Account", "{}"), rule="tool_needs_approval", status="handed_off"),
    Case(
        name="second",
        says=Said(calls=[("refund", '{"amount": 5}'), ("Re-Fund", '{"amount": 7}')]),
        rule="tool_too_often",
        reaches=[("refund", '{"amount": 5}')],
        hides=["Re-Fund"],
        status="ok",
    ),
    Case(
        name="behind_an_allowed_one",
        says=Said(calls=[("look_up", '{"order": 7}'), ("wipe", "{}")]),
        rule=NOT_ALLOWED,
        reaches=[("look_up", '{"order": 7}')],
        hides=["wipe"],
        status="ok",
    ),
    *(
        Case(
            name=f"allowed_{n}", says=Said(calls=[(name, '{"order": 7}')]), reaches=[("look_up", '{"order": 7}')], hides=hides, status="ok"
        )
        for n, (name, hides) in enumerate(
            [
                ("look_up", []),
                ("Look-Up", ["Look-Up"]),
                ("ＬＯＯＫ＿ＵＰ", ["ＬＯＯＫ"]),
                ("lo\u200bok_up", ["lo\u200bok"]),
                ("lookUp", ["lookUp"]),
            ]
        )
    ),
]
SCRIPT = {case.name: case.says for case in (*INPUT, *OUTPUT, *CALLS)}
assert len(SCRIPT) == len(INPUT) + len(OUTPUT) + len(CALLS)


def says(request: Mapping[str, Any]) -> Said:
    if request["messages"][-1]["role"] == "tool":
        return Said(text=DONE)
    return SCRIPT[last_text(request).split("#")[-2]]


def judges(request: Mapping[str, Any]) -> Said:
    """Slower than the model."""
    is_rude = "betray" in last_text(request)
    return Said(text="Rude!" if is_rude else "fine", after_s=0.1 if is_rude else 0.0)


@dataclass(frozen=True)
class Place:
    guarded: Guarded
    url: str

    @property
    def controls(self) -> Controls:
        return self.guarded.ws.controls


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("guarded")
    with scripted(says) as model, scripted(judges) as judge, opened(folder, model, judge) as guarded, running(guarded.ws) as url:
        yield Place(guarded, url)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a caller got."""

    everything: str
    request_id: str
    calls: Sequence[Call] = ()
    guards: Sequence[str] = ()
    """Rules, as the header or the answer names them."""
    handoff_id: str | None = None
    code: str | None = None
    """Of a refusal."""


def asked_of(app: str) -> Asked:
    return Asked(tools=tuple(OFFERED)) if APPS[app][0] == "proxied" else Asked()


def post(place: Place, app: str, path: str, body: Mapping[str, Any]) -> Got:
    headers = {"authorization": f"Bearer {place.guarded.keys[app]}", "x-workbench-unit": "u-1"}
    return send(place.url, "POST", path, body=json.dumps({"model": app, **body}).encode(), headers=headers)


def told_by(got: Got, calls: Sequence[Call] = ()) -> Told:
    named = got.headers.get("x-workbench-guards", "")
    return Told(
        everything=json.dumps(dict(got.headers), ensure_ascii=False) + got.body.decode(),
        request_id=got.headers["x-request-id"],
        calls=calls,
        guards=[rule.partition("=")[2] for rule in named.split(", ") if rule],
        handoff_id=got.headers.get("x-handoff-id"),
        code=got.error["code"] if got.status != 200 else None,
    )


def over_http(place: Place, app: str, case: Case) -> Told:
    got = post(place, app, CHAT, {"messages": [{"role": "user", "content": case.text}], "tools": OFFERED})
    (choice,) = got.json["choices"]
    calls = [call["function"] for call in choice["message"].get("tool_calls", ())]
    return told_by(got, [(call["name"], call["arguments"]) for call in calls])


def streamed_over_http(place: Place, app: str, case: Case) -> Told:
    got = post(place, app, CHAT, {"messages": [{"role": "user", "content": case.text}], "tools": OFFERED, "stream": True})
    *chunks, done = got.body.decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]", (case, got)
    deltas = [json.loads(chunk.removeprefix("data: "))["choices"][0]["delta"] for chunk in chunks]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    whole = "".join(delta.get("content") or "" for delta in deltas)
    told = told_by(got, [(call["name"], call["arguments"]) for call in calls])
    return replace(told, everything=told.everything + whole)


def told_of(answer: Answer, more: str = "") -> Told:
    calls = [(call.name, call.arguments) for choice in answer.choices for call in choice.tool_calls]
    rules = (*answer.blocked_rules, *answer.violation_rules)
    return Told(
        everything=f"{more} {answer.choices}", request_id=answer.request_id, calls=calls, guards=rules, handoff_id=answer.handoff_id
    )


def about(app: str, case: Case) -> Mapping[str, Any]:
    return {"app": app, "messages": [{"role": "user", "content": case.text}], "unit": "u-1", "asked": asked_of(app)}


def in_library(place: Place, app: str, case: Case) -> Told:
    return told_of(asyncio.run(place.controls.handle(**about(app, case))))


def blocking_in_library(place: Place, app: str, case: Case) -> Told:
    return told_of(place.controls.handle_blocking(**about(app, case)))


def streamed_in_library(place: Place, app: str, case: Case) -> Told:
    async def read() -> Told:
        async with place.controls.stream(**about(app, case)) as stream:
            pieces = [piece async for piece in stream]
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPart))
        said = [piece for piece in pieces if isinstance(piece, ToolPart)]
        assert isinstance(pieces[-1], Finished)
        told = told_of(stream.answer, f"{text} {said} {stream.head}")
        assert [(part.name, part.arguments) for part in said] == list(told.calls)
        return told

    return asyncio.run(read())


ENTRANCES: Mapping[str, Callable[[Place, str, Case], Told]] = {
    "POST chat": over_http,
    "POST chat, streamed": streamed_over_http,
    "handle": in_library,
    "handle_blocking": blocking_in_library,
    "stream": streamed_in_library,
}


def embeddings_over_http(place: Place, app: str, case: Case) -> Told:
    return told_by(post(place, app, EMBEDDINGS, {"input": ["A text.", case.text]}))


def embeddings_in_library(place: Place, app: str, case: Case) -> Told:
    request_id = f"req_{app}_{case.name}"
    try:
        found = asyncio.run(place.controls.embed(app, ["A text.", case.text], unit="u-1", request_id=request_id))
    except RequestRefused as refusal:
        return Told(everything=str(refusal), request_id=request_id, code=refusal.code)
    return Told(everything=repr(found), request_id=request_id, guards=found.blocked_rules)


EMBEDDING_ENTRANCES: Mapping[str, Callable[[Place, str, Case], Told]] = {
    "POST embeddings": embeddings_over_http,
    "embed": embeddings_in_library,
}


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What the log holds of one request."""

    status: str
    rules: Sequence[str]
    guards: Mapping[str, str]
    """Rule to what it ordered, of the guards' spans."""
    looked: Sequence[str]


def audited(place: Place) -> Mapping[str, Audited]:
    """Everything in the lake, by request id."""
    ws = place.guarded.ws
    ws.logs.flush()
    requests = "SELECT request_id, status, list_concat(blocked_rules, coalesce(violation_rules, [])) FROM lake.requests WHERE is_final"
    spans = "SELECT request_id, kind, rule_id, action, attributes FROM lake.spans WHERE kind IN ('guard', 'agent')"
    ends, found = ws.lake.read(lambda lake: (lake.execute(requests).fetchall(), lake.execute(spans).fetchall()))
    guards: dict[str, dict[str, str]] = {}
    looked: dict[str, list[str]] = {}
    for request_id, kind, rule_id, action, attributes in found:
        if kind == "guard":
            guards.setdefault(request_id, {})[rule_id] = action
        else:
            looked[request_id] = json.loads(attributes or "{}").get("guards", [])
    return {
        request_id: Audited(status=status, rules=rules, guards=guards.get(request_id, {}), looked=looked.get(request_id, []))
        for request_id, status, rules in ends
    }


def looked_up(place: Place, app: str, request_id: str) -> Any:
    return send(place.url, "GET", f"/v1/requests/{request_id}", headers={"authorization": f"Bearer {place.guarded.keys[app]}"}).json


def played(place: Place, entrance: Callable[[Place, str, Case], Told], app: str, case: Case) -> Told:
    """What the caller got, of which nothing is forbidden; nor is anything of what reached the model or a tool."""
    model = place.guarded.model
    model.seen.clear()
    CALLED.clear()
    told = entrance(place, app, case)
    hidden = [text for text in case.hides if text in told.everything]
    assert hidden == [], (case.name, told)
    if not case.asks_model:
        assert model.seen == [], case.name
    if case.is_input:
        reached = json.dumps(model.seen, ensure_ascii=False)
        assert [text for text in case.hides if text in reached] == [], case.name
    return told


def assert_named(case: Case, told: Told, audit: Audited, *, is_told_before: bool = False) -> None:
    """The rule stands in the audit, and where the caller looks, unless that was sent before the rule was broken."""
    if case.rule is None:
        assert (audit.rules, audit.guards, list(told.guards)) == ([], {}, []), case.name
        return
    is_handed = case.status == "handed_off"
    assert case.rule in audit.guards, (case.name, audit)
    assert case.rule in audit.looked, (case.name, audit)
    assert is_handed or case.rule in audit.rules, (case.name, audit)
    assert is_handed or is_told_before or case.rule in told.guards or case.rule in told.everything, (case.name, told)
    assert bool(told.handoff_id) == is_handed, (case.name, told)


def test_every_route_and_verb_is_walked():
    assert {route for _, route in Gateway(backing_of(StandIn())).routes} == REACHING | OTHERS
    assert {name for name in vars(Controls) if not name.startswith("_")} == VERBS | OTHER_VERBS


@pytest.mark.parametrize("route", sorted(OTHERS))
def test_the_other_routes_reach_no_model(place: Place, route: str):
    app = next(iter(APPS))
    place.guarded.model.seen.clear()
    path = route.format(model=app, key=app, id="req_1")
    body = json.dumps({"model": app, "context": {"targetingKey": "u-1"}, "messages": [{"role": "user", "content": "#clean#"}]}).encode()
    headers = {"authorization": f"Bearer {place.guarded.keys[app]}"}
    for method in ("GET", "POST"):
        send(place.url, method, path, body=body, headers=headers)
    assert place.guarded.model.seen == []


@pytest.mark.parametrize("route", sorted(REACHING))
@pytest.mark.parametrize("streamed", [False, True])
def test_an_external_app_is_refused_wherever_a_model_is_reached(place: Place, route: str, streamed: bool):
    place.guarded.model.seen.clear()
    got = post(place, EXTERNAL, route, {"messages": [{"role": "user", "content": "#clean#"}], "input": "#clean#", "stream": streamed})
    assert (got.status, got.error["code"], place.guarded.model.seen) == (501, "not_served_here", [])


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_guard_runs_wherever_an_answer_is_asked_for(place: Place, app: str, entrance: str):
    mode, policy = APPS[app]
    cases = [case for case in (*INPUT, *OUTPUT, *CALLS) if mode in case.modes]
    if entrance == "handle_blocking":  # is `handle` on another thread: one case of each rule
        cases = list({case.rule: case for case in cases}.values())
    answers = {}
    for case in cases:
        told = answers[case] = played(place, ENTRANCES[entrance], app, case)
        reached = [(name, json.dumps(arguments)) for name, arguments in CALLED] if mode == "hosted" else list(told.calls)
        assert sorted(reached) == sorted(case.reaches), case.name
        assert mode == "hosted" or not CALLED
    log = audited(place)
    one_per_rule = {case.rule: case for case in cases}.values()
    for case, told in answers.items():
        audit = log[told.request_id]
        is_told_only = mode == "hosted" and case in CALLS and case.status == "blocked"  # the model hears of it, and answers
        assert audit.status == ("ok" if is_told_only else case.status), case.name
        assert not is_told_only or DONE in told.everything
        is_told_before = entrance == "POST chat, streamed" and policy == "window" and case.name.endswith("_late")
        assert_named(case, told, audit, is_told_before=is_told_before)
        if "POST" in entrance and case in one_per_rule:
            found = looked_up(place, app, told.request_id)
            assert (found["status"], [*found["blocked_rules"], *found["violation_rules"]]) == (audit.status, list(audit.rules))
            assert {guard["rule_id"]: guard["action"] for guard in found["guards"]} == audit.guards


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("entrance", EMBEDDING_ENTRANCES)
def test_every_guard_of_the_input_runs_wherever_vectors_are_asked_for(place: Place, app: str, entrance: str):
    answers = {case: played(place, EMBEDDING_ENTRANCES[entrance], app, case) for case in INPUT}
    log = audited(place)
    for case, told in answers.items():
        assert told.code == (None if case.status == "ok" else "blocked"), case.name
        assert log[told.request_id].status == case.status
        assert_named(case, told, log[told.request_id])
        if "POST" in entrance:
            assert looked_up(place, app, told.request_id)["blocked_rules"] == list(log[told.request_id].rules)
