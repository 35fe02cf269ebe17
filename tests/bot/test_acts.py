"""An act whose process was killed is known by its own audit entry, and by no other."""

from __future__ import annotations

import pytest

from bot.acts import Acts
from bot.asks import Ask
from bot.board import Board
from bot.buttons import Seal
from tests.bot.office import CHANNEL, REQUESTER
from tests.release.house import APP, login

_START = {"app": APP, "bundle": "v2", "reason": "better"}
_OVERRIDE = {"app": APP, "person": "night", "until": "4h", "reason": "swap"}
_LOCK = {"app": APP, "reason": "mine"}
_ROLLBACK = {"app": APP, "reason": "wrong refunds"}


@pytest.fixture
def bot(ws) -> Acts:
    return Acts(ws, Board(ws, Seal(ws.button_key)), actor_of=ws.ownership.actor_of_slack_id)


def _ask(act: str, **arguments: str) -> Ask:
    return Ask(act=act, arguments=arguments, user=REQUESTER, channel=CHANNEL)


def _serve_v2(ws, clock) -> None:
    """The second bundle in service, after the first."""
    release = ws.releases.start(APP, "v2", reason="better", actor=login("bo"))
    ws.releases.approve(release.release_id, actor=login("anna"))
    while release.state != "PROMOTED":
        release = ws.releases.promote(release.release_id, early="no time", actor=login("bo"))
        clock.forward(minutes=1)


@pytest.mark.parametrize(
    ("act", "wanted", "change"),
    [
        ("release.start", _START, {"bundle": "v3"}),
        ("owner.override", _OVERRIDE, {"person": "both"}),
        ("owner.override", _OVERRIDE, {"until": "5h"}),
        ("owner.override", _OVERRIDE, {"reason": "ill"}),
        ("release.lock", _LOCK, {"reason": "an incident"}),
    ],
)
def test_a_later_similar_act_does_not_show_an_earlier_one_as_done(ws, bot, act, wanted, change):
    clock = ws.clock
    killed, later = bot.pinned(_ask(act, **wanted)), bot.pinned(_ask(act, **{**wanted, **change}))
    bot.do(later, at=clock())
    assert bot.done_before(killed, at=clock()) is None
    assert bot.done_before(later, at=clock()) is not None


@pytest.mark.parametrize("change", [{"bundle": "off"}, {"bundle": "v2"}, {"reason": "another"}, {"dry-run": "yes"}])
def test_a_later_rollback_does_not_show_another_one_as_done(ws, clock, bot, change):
    _serve_v2(ws, clock)
    killed, later = bot.pinned(_ask("rollback", **{**_ROLLBACK, **change})), bot.pinned(_ask("rollback", **_ROLLBACK, bundle="v1"))
    bot.do(later, at=clock())
    assert bot.done_before(killed, at=clock()) is None
    assert bot.done_before(later, at=clock()) is not None


def test_a_hold_at_a_later_step_does_not_show_an_earlier_one_as_done(ws, clock, bot):
    release = ws.releases.start(APP, "v2", reason="better", actor=login("bo"))
    ws.releases.approve(release.release_id, actor=login("anna"))
    ws.releases.promote(release.release_id, actor=login("bo"))
    killed = bot.pinned(_ask("release.hold", release=APP, reason="odd"))
    ws.releases.promote(release.release_id, early="no time", actor=login("bo"))
    later = bot.pinned(_ask("release.hold", release=APP, reason="odd"))
    bot.do(later, at=clock())
    assert bot.done_before(killed, at=clock()) is None
    assert bot.done_before(later, at=clock()) is not None


def test_an_unlock_for_another_reason_does_not_show_an_earlier_one_as_done(ws, clock, bot):
    bot.do(_ask("release.lock", **_LOCK), at=clock())
    killed, later = (bot.pinned(_ask("release.unlock", app=APP, reason=why)) for why in ("over", "done  with it"))
    bot.do(later, at=clock())
    assert bot.done_before(killed, at=clock()) is None
    assert bot.done_before(later, at=clock()) is not None
