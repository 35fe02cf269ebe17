"""The shop's systems: orders follow from the seed, tools change what they say, and only that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.tools import ToolError
from workbench.demo.chance import Draws
from workbench.demo.clock import VirtualClock
from workbench.demo.shop import Desk, Shop, pieces_in_stock
from workbench.demo.traffic import run_to_end

SHOP = Shop(seed=5)


def desk(customer: int = 10, *, is_signed_in: bool = True) -> Desk:
    return Desk(SHOP, customer=customer, is_signed_in=is_signed_in, clock=VirtualClock())


def call(at: Desk, name: str, **arguments):
    for _ in range(5):
        try:
            return run_to_end(at.call(name, arguments))
        except ToolError:
            continue
    raise AssertionError("five outages in a row")


@given(st.integers(0, SHOP.customers - 1))
def test_an_order_number_leads_back_to_its_customer(customer):
    for order in SHOP.orders_of(customer):
        assert SHOP.order(order.number) == order
        assert order.customer == customer


@given(st.integers(0, 10**6))
def test_an_unknown_number_is_well_formed_and_nobodys(label):
    number = SHOP.unknown_number(Draws("label", label))
    assert SHOP.order(number) is None
    assert number.startswith("KC-")
    assert len(number) == 9


def test_a_refund_and_a_label_are_effects_of_their_order():
    at, number = desk(), SHOP.orders_of(10)[0].number
    assert call(at, "refund", order_number=number, amount_eur=49.5)["amount_eur"] == 49.5
    assert call(at, "return_label", order_number=number)["label"].startswith("RL-")
    assert [(effect.kind, effect.order_number, effect.amount_cents) for effect in at.effects] == [
        ("refund", number, 4950),
        ("return_label", number, None),
    ]


def test_reading_tools_change_nothing():
    at = desk()
    call(at, "order_lookup", order_number=SHOP.orders_of(10)[0].number)
    call(at, "recent_orders")
    call(at, "stock", item="enamel kettle")
    assert at.effects == []


def test_an_unknown_order_is_an_empty_answer():
    assert call(desk(), "order_lookup", order_number=SHOP.unknown_number(Draws("x"))) == {"orders": []}


def test_the_order_of_somebody_else_is_marked():
    number = SHOP.orders_of(11)[0].number
    assert call(desk(10), "order_lookup", order_number=number)["orders"][0]["is_own"] is False
    assert call(desk(11), "order_lookup", order_number=number)["orders"][0]["is_own"] is True


def test_recent_orders_need_an_account():
    assert len(call(desk(), "recent_orders")["orders"]) == 2
    assert call(desk(is_signed_in=False), "recent_orders") == {"orders": []}


def test_the_three_order_systems_agree_and_differ_in_time_only():
    times, answers = {}, []
    for name in ("order_lookup", "order_service", "order_archive"):
        total = 0.0
        for customer in range(40):
            at = desk(customer)
            answers.append((customer, call(at, name, order_number=SHOP.orders_of(customer)[0].number)))
            total += at.clock.now()
        times[name] = total / 40
    assert all(answer == answers[customer][1] for customer, answer in answers)
    assert times["order_lookup"] < times["order_service"] < times["order_archive"]


def test_some_items_are_sold_out_and_some_are_not():
    from workbench.demo.shop import ITEMS

    counts = [pieces_in_stock(7, item) for item, _ in ITEMS]
    assert 0 in counts
    assert any(counts)


def test_a_tool_that_does_not_exist_is_a_key_error():
    with pytest.raises(KeyError):
        call(desk(), "open_safe")
