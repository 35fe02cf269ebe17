"""No spelling of a name and no form of arguments gets a call past the policy."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.guards.policies import LOOK_UP, REFUND, broken, guards
from workbench.controls.events import ToolCall
from workbench.controls.guards.arguments import LONGEST, BadArguments, read_arguments
from workbench.controls.guards.model import Action, Finding, Stage
from workbench.errors import UsageError

DEFAULT = guards()
STRICT = guards("""
tools:
  refund_order:
    most_per_request: 2
    arguments:
      - {id: refund_limit, field: amount_eur, op: "<=", threshold: refund_limit_eur, action: handoff, sentence: A person decides this.}
      - {id: real_order, field: order_number, op: matches, value: "[A-Z]-[0-9]{3,8}"}
      - {id: not_the_test_order, field: order_number, op: not_in, value: [A-000, B-000]}
  look_up: {allow: false}
""")


def call(name: str, arguments: object = None) -> ToolCall:
    text = arguments if isinstance(arguments, str) else json.dumps({"order_number": "A-123"} if arguments is None else arguments)
    return ToolCall(call_id="call_1", name=name, arguments=text)


def verdict(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return broken(findings)


@pytest.mark.parametrize(
    "name",
    [
        "refund_order",
        "REFUND_ORDER",
        "Refund-Order",
        "refund.order",
        "refund order",
        "refundOrder",
        "ｒｅｆｕｎｄ_order",
        "refund_\u200border",
        "ref\u00adund_order",
    ],
)
def test_a_spelling_of_an_allowed_name_is_that_tool_and_only_the_policy_s_name_is_passed_on(name: str) -> None:
    findings = DEFAULT.check_tool_call(call(name), {})
    assert verdict(findings) == []
    assert (findings[-1].tool, DEFAULT.canonical_tool(name)) == ("refund_order", "refund_order")


@pytest.mark.parametrize(
    "name",
    [
        "rеfund_order",
        "refund_оrder",
        "refund_0rder",
        "refund_orders",
        "refund",
        "",
        "_",
        "\u200b",
        "refund_order(",
        "refund_order\x00x",
        "x" * 10_000,
        "réfund_order",
        "\ud800",
    ],
    ids=range(13),
)
def test_a_name_that_only_looks_alike_is_refused(name: str) -> None:
    if name == "refund_order(":  # nothing but signs are added: it is the same name
        assert DEFAULT.canonical_tool(name) == "refund_order"
        return
    assert verdict(DEFAULT.check_tool_call(call(name), {})) == [("tool_not_declared", "block", "not_allowed")]
    assert DEFAULT.canonical_tool(name) is None


@pytest.mark.parametrize("name", ["look_up", "LOOK-UP", "Look Up", "ｌｏｏｋ＿ｕｐ", "l\u200book_up", "l.o.o.k.u.p"])
def test_a_forbidden_tool_is_refused_in_every_spelling(name: str) -> None:
    assert verdict(STRICT.check_tool_call(call(name), {})) == [("tool_not_allowed", "block", "not_allowed")]
    assert STRICT.canonical_tool(name) is None


@given(st.text(max_size=20))
def test_whatever_the_name_only_what_folds_to_an_allowed_one_passes(name: str) -> None:
    letters = "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())
    if DEFAULT.canonical_tool(name) is not None:
        assert letters in ("refundorder", "lookup")


def test_two_tools_that_fold_alike_are_told_apart_by_their_exact_names() -> None:
    twins = guards(tools=({"name": "get_user"}, {"name": "getuser"}))
    assert [twins.canonical_tool(name) for name in ("get_user", "getuser", "Get-User")] == ["get_user", "getuser", None]


def test_a_call_that_the_request_does_not_offer_is_refused() -> None:
    assert verdict(DEFAULT.check_tool_call(call("look_up"), {}, requested=("refund_order",))) == [
        ("tool_not_requested", "block", "not_requested")
    ]
    assert verdict(DEFAULT.check_tool_call(call("look_up"), {}, requested=("look_up",))) == []
    assert verdict(DEFAULT.check_tool_call(call("look_up"), {}, requested=())) == [("tool_not_requested", "block", "not_requested")]


def test_no_more_calls_than_allowed_in_one_request() -> None:
    verdicts = [
        verdict(STRICT.check_tool_call(call("refund-order", {"order_number": "A-123", "amount_eur": 1}), {"refund_order": n}))
        for n in range(4)
    ]
    assert verdicts == [[], [], *[[("tool_too_often", "block", "too_many")]] * 2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"order_number": "A-123", "amount_eur": 100}, []),
        ({"order_number": "A-123", "amount_eur": 100.01}, [("refund_limit", "handoff", "not_met")]),
        ({"order_number": "A-123"}, [("refund_limit", "handoff", "not_met")]),
        ({"order_number": "A-123; x", "amount_eur": 1}, [("real_order", "block", "not_met")]),
        ({"order_number": "A-000", "amount_eur": 1}, [("not_the_test_order", "block", "not_met")]),
        ({"order_number": "a 000", "amount_eur": 1}, [("not_the_test_order", "block", "not_met"), ("real_order", "block", "not_met")]),
        ({"order_number": "A-123", "amount_eur": "1"}, [("tool_arguments", "block", "bad_arguments")]),
        ({"order_number": "A-123", "amount_eur": True}, [("tool_arguments", "block", "bad_arguments")]),
        ({"order_number": "A-123", "amount_eur": 1, "to": "me"}, [("tool_arguments", "block", "bad_arguments")]),
        ({"amount_eur": 1}, [("tool_arguments", "block", "bad_arguments")]),
    ],
)
def test_arguments_fit_the_schema_and_every_predicate(arguments: dict, expected: list) -> None:
    assert verdict(STRICT.check_tool_call(call("refund_order", arguments), {})) == expected


@pytest.mark.parametrize(
    ("op", "value", "passes", "fails"),
    [
        ("<", "5", [4, 4.9, -1], [5, 6, "4", True, None, [1], 1e300]),
        (">=", "5", [5, 5.0, 9], [4.999, "9", False]),
        (">", "0", [0.1], [0, -1]),
        ("==", "EUR", ["EUR"], ["eur", "EUR ", 1, ["EUR"]]),
        ("==", "1", [1, 1.0], [True, "1", 2]),
        ("!=", "admin", ["user", 3], ["admin", "Admin", "ad-min", "ａｄｍｉｎ", ["admin"], {"role": "ADMIN"}]),
        ("in", "[a, b]", ["a", "b"], ["A", "c", ["a"]]),
        ("not_in", "[root, '7']", ["user", 8], ["Root", "r.o.o.t", "7", 7, {"x": ["ROOT"]}]),
        ("matches", "'[a-z]{1,8}'", ["abc", "ABC"], ["abc1", "", 5, "abc\n"]),
        ("contains", "x", ["axb", ["x", "y"]], ["ab", ["xx"], {"x": 1}, 5]),
    ],
)
def test_each_operator(op: str, value: str, passes: list, fails: list) -> None:
    policy = guards(f"tools: {{look_up: {{arguments: [{{id: rule, field: a.b, op: '{op}', value: {value}}}]}}}}")

    def holds(argument: object) -> bool:
        return not verdict(policy.check_tool_call(call("look_up", {"a": {"b": argument}}), {}))

    assert [argument for argument in passes if not holds(argument)] == []
    assert [argument for argument in fails if holds(argument)] == []


@pytest.mark.parametrize(
    "text",
    [
        '{"order_number": "A-1", "order_number": "B-1"}',
        '{"order_number": "A-1", "x": {"y": 1, "y": 2}}',
        '{"order_number": NaN}',
        '{"order_number": -Infinity}',
        '{"amount_eur": 1e999}',
        '{"amount_eur": 123456789012345678901234567890}',
        '{"amount_eur": 9007199254740993}',
        '{"order_number": "A-1"} {}',
        '{"order_number": "A-1"}x',
        '{"order_number": "A-1",}',
        "{'order_number': 'A-1'}",
        '{"order_number": "\\ud800"}',
        '{"order_number": "\n"}',
        '["A-1"]',
        '"A-1"',
        "null",
        "1",
        "{",
        '{"a":' * 60 + "1" + "}" * 60,
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": "' + "x" * LONGEST + '"}',
        "\ufeff{}",
        "{}\x00",
        "/**/{}",
    ],
    ids=range(24),
)
def test_arguments_that_two_readers_may_take_differently_are_refused(text: str) -> None:
    findings = guards(tools=({"name": "free"},)).check_tool_call(call("free", text), {})
    assert verdict(findings) == [("tool_arguments", "block", "bad_arguments")]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_what_is_plain_json_is_read_as_it_is(value: object) -> None:
    assert read_arguments(json.dumps({"a": value})) == {"a": value}


@given(st.text(alphabet='{}[]",:0123456789eE.-+ truefalsnN\\x', max_size=40))
def test_whatever_is_read_is_what_json_says(text: str) -> None:
    try:
        found = read_arguments(text)
    except BadArguments:
        return
    assert found == (json.loads(text) if text.strip() else {})


def test_no_arguments_at_all_are_an_empty_object() -> None:
    assert verdict(DEFAULT.check_tool_call(call("look_up", ""), {})) == []
    assert verdict(DEFAULT.check_tool_call(call("refund_order", ""), {})) == [("tool_arguments", "block", "bad_arguments")]


def test_what_the_model_is_told_quotes_none_of_the_arguments() -> None:
    text = json.dumps({"order_number": "A-123", "ann@example.org": "4111111111111111"})
    findings = DEFAULT.check_tool_call(call("refund_order", text), {})
    said = " ".join(finding.sentence for finding in findings)
    assert "refund_order" in said
    assert "ann@example.org" not in said
    assert "4111" not in said


def test_what_blocks_a_call_comes_before_what_a_person_would_decide() -> None:
    policy = guards("tools: {look_up: {needs_approval: true}}\npersonal_data: [{stages: [tool_call], action: block}]")
    findings = policy.check_tool_call(call("look_up", {"q": "ann@example.org"}), {})
    assert [finding.action.value for finding in findings] == ["block", "handoff", "allow"]


def test_a_tool_that_needs_approval_goes_to_a_person_and_a_wrong_call_does_not() -> None:
    policy = guards("tools: {refund_order: {needs_approval: true}}")
    assert verdict(policy.check_tool_call(call("refund_order"), {})) == [("tool_needs_approval", "handoff", "needs_approval")]
    assert verdict(policy.check_tool_call(call("refund_order", {}), {})) == [("tool_arguments", "block", "bad_arguments")]


@pytest.mark.parametrize(
    "text",
    [
        '{"note": "mail ann@example.org"}',
        r'{"note": "mail ann\u0040example.org"}',
        '{"note": "ann%40example.org"}',
        '{"ann@example.org": 1}',
    ],
)
def test_personal_data_in_arguments_is_found_however_it_is_written(text: str) -> None:
    policy = guards("personal_data: [{stages: [tool_call], action: block}]\ntopics: [{id: t, stages: [tool_call], phrases: [drop table]}]")
    assert verdict(policy.check_tool_call(call("look_up", text), {})) == [("personal_data.email", "block", "matched")]
    assert verdict(policy.check_tool_call(call("look_up", '{"q": "DROP  TABLE x"}'), {})) == [("t", "block", "matched")]


def test_of_a_request_s_tools_only_those_of_the_policy_are_offered() -> None:
    def tool(name: object, kind: str = "function") -> dict:
        return {"type": kind, "function": {"name": name, "parameters": {}}}

    requested = [
        tool("look_up"),
        tool("refund_order"),
        tool("Refund-Order"),
        tool("other"),
        tool(7),
        tool("refund_order"),
        {"type": "web_search"},
        {},
    ]
    assert DEFAULT.allowed_tools(requested) == (requested[0], requested[1])
    assert STRICT.allowed_tools(requested) == (requested[1],)


@pytest.mark.parametrize(
    ("text", "changes", "says"),
    [
        ("tools: {refnd: {}}", {}, "refnd"),
        ("tools: {look_up: {arguments: [{id: a, field: x, op: '<', threshold: limit}]}}", {}, "limit"),
        (None, {"tools": ({"name": "x", "parameters": {"type": "objekt"}},)}, "objekt"),
    ],
)
def test_what_cannot_be_enforced_cannot_be_served(text: str | None, changes: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        guards(text, **changes)


def test_a_policy_that_fails_lets_nothing_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    policy = guards(tools=(REFUND, LOOK_UP))
    monkeypatch.setattr(policy._tools, "check", lambda *_: 1 / 0)
    (finding,) = policy.check_tool_call(call("look_up"), {})
    assert (finding.stage, finding.action, finding.reason) == (Stage.TOOL_CALL, Action.BLOCK, "error")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("text", ["drop table", "dr\\u006fp table", "drop\\ntable", "drop\\u0009table"])
@pytest.mark.parametrize("form", ['{{"q": "{}"}}', '{{"q": [{{"r": "{}"}}]}}', '{{"{}": 1}}'])
def test_json_may_spell_a_topic_in_any_way(form: str, text: str) -> None:
    policy = guards("topics: [{id: t, stages: [tool_call], phrases: [drop table]}]")
    assert verdict(policy.check_tool_call(call("look_up", form.format(text)), {})) == [("t", "block", "matched")]
