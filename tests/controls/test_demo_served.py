"""The demo's assistant behind the controls: the shop's tools for each customer, in the process and over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from tests.controls.tiny import NOW, put_route
from workbench.controls.clock import RealClock
from workbench.controls.tools import ToolContext
from workbench.demo.clock import VirtualClock
from workbench.demo.resources import demo_folder
from workbench.demo.shop import VISITOR, Shop, desk_of_session, open_desk
from workbench.demo.upstream import local_upstream, running
from workbench.ledger.settings import get_or_create
from workbench.workspace import DEMO, PURPOSE, Workspace

SHOP = Shop(seed=7)
CUSTOMER = next(number for number in range(100) if SHOP.orders_of(number)[0].status == "shipped")
NUMBER = SHOP.orders_of(CUSTOMER)[0].number
ASKED = [{"role": "user", "content": f"where is my parcel {NUMBER}?"}]
UNIT = f"customer-{CUSTOMER:06d}"


@pytest.fixture
def shop(tmp_path):
    with Workspace.open(tmp_path / "home", clock=lambda: NOW, turn_clock=VirtualClock) as ws:
        get_or_create(ws.ledger, PURPOSE, lambda: DEMO)
        put_route(ws, stable=ws.versions.register(demo_folder() / "bundles" / "v2").bundle.bundle_id)
        yield ws


def context(**about):
    return ToolContext(**{"unit": UNIT, "session_id": None, "metadata": {}, "clock": RealClock(), **about})


def test_a_customer_is_served_with_their_own_orders_on_virtual_time(shop):
    answer = asyncio.run(shop.controls.handle("support", ASKED, unit=UNIT, metadata={"signed_in": "yes"}))
    assert NUMBER in answer.content
    assert (answer.status, answer.model_served) == ("ok", "shop-assistant-small")
    assert answer.latency_ms > 300, "the model thinks for a while, on its own clock"


def test_somebody_elses_order_is_not_told(shop):
    answer = asyncio.run(shop.controls.handle("support", ASKED, unit="customer-000099"))
    assert "only speak about orders" in answer.content


def test_over_http_the_same_bundle_says_the_same(shop, monkeypatch):
    here = asyncio.run(shop.controls.handle("support", ASKED, unit=UNIT))
    with running(local_upstream(key="sk-demo", turn_clock=VirtualClock)) as url:
        monkeypatch.setenv("WORKBENCH_PROVIDER_LOCAL_URL", url)
        monkeypatch.setenv("WORKBENCH_PROVIDER_LOCAL_KEY", "sk-demo")
        shop.controls.close()
        del shop.controls
        there = asyncio.run(shop.controls.handle("support", ASKED, unit=UNIT))
        shop.controls.close()
    assert (there.content, there.input_tokens, there.status) == (here.content, here.input_tokens, "ok")


@pytest.mark.parametrize(
    ("unit", "customer"), [(UNIT, CUSTOMER), ("customer-000000", 0), (None, VISITOR), ("somebody", VISITOR), ("customer-1", VISITOR)]
)
def test_the_unit_says_which_customer_it_is(unit, customer):
    assert open_desk(context(unit=unit)).customer == customer


def test_the_website_says_who_is_signed_in_and_which_shop_it_is():
    assert open_desk(context()).is_signed_in is False
    desk = open_desk(context(metadata={"signed_in": "yes", "shop": "9"}))
    assert (desk.is_signed_in, desk.shop.seed) == (True, 9)


def test_the_desk_of_a_session_knows_what_it_changed():
    clock = VirtualClock()
    first = open_desk(context(session_id="s-1", clock=clock))
    asyncio.run(first.refund({"order_number": NUMBER, "amount_eur": 5}, draws=_Still()))
    again = open_desk(context(session_id="s-1", clock=clock))
    assert again.effects == first.effects == desk_of_session("s-1", seed=7, customer=CUSTOMER).effects
    assert open_desk(context(session_id="s-2")).effects == []
    assert open_desk(context()).effects == []


class _Still:
    def spread(self, _sigma):
        return 1.0
