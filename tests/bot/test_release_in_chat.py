"""A whole release from Slack by three people, refusals included, and every delivery twice."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from bot.buttons import Click, Seal
from tests.bot.office import APPROVER, BOTH, CHANNEL, NIGHT, REQUESTER, STRANGER, acts, audit, click_body, declare, desk, run
from tests.release.house import APP, SPECS
from workbench.errors import UnknownSubject
from workbench.ledger.audit import verify
from workbench.ledger.routes import stored_route
from workbench.ledger.tables import inbox
from workbench.readiness.model import ReviewVerdict
from workbench.release.model import State

RELEASE = f"{APP}.2"


def _route(ws):
    with ws.ledger.read() as connection:
        return stored_route(connection, APP)


async def _ready(at, *, bundle: str = "v2") -> None:
    await at.type(REQUESTER, f"/release start {APP} {bundle} --reason better answers")


async def _canary(at) -> None:
    await _ready(at)
    await at.click(APPROVER, "Approve")
    await at.click(REQUESTER, "Promote to 5 %")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_whole_release_by_three_people_is_in_the_audit_once_however_often_each_delivery_arrives(ws, clock, times):
    async def story() -> None:
        async with desk(ws) as at:
            at.times = times
            await _ready(at)
            await at.click(REQUESTER, "Approve")
            assert "needs the role approver" in at.told(REQUESTER)
            await at.click(STRANGER, "Approve")
            assert "belongs to nobody" in at.told(STRANGER)
            await at.click(APPROVER, "Approve")
            await at.click(BOTH, "Promote to 5 %")
            await at.type(REQUESTER, f"/release promote {APP}")
            assert "lasts at least 30m" in at.told(REQUESTER)
            clock.forward(minutes=31)
            await at.type(BOTH, f"/release hold {APP} --reason a strange answer")
            await at.click(BOTH, "Resume")
            clock.forward(minutes=30)
            await at.bot.worker.drain()
            await at.click(REQUESTER, "Promote to 25 %")
            clock.forward(hours=2)
            await at.type(REQUESTER, f"/release promote {RELEASE}")
            clock.forward(hours=2)
            await at.bot.worker.drain()
            await at.click(REQUESTER, "Promote to stable")
            await at.type(NIGHT, f"/rollback {APP} --reason wrong refunds at night")
            assert acts(ws) == [
                ("release.start", "requester"),
                ("release.ready", "requester"),
                ("release.approve", "approver"),
                ("release.promote", "both"),
                ("release.hold", "both"),
                ("release.resume", "both"),
                ("release.promote", "requester"),
                ("release.promote", "requester"),
                ("release.promote", "requester"),
                ("rollback", "night"),
            ]
            refused = [(entry.actor, entry.detail["act"], entry.detail["reason"]) for entry in audit(ws) if entry.act == "release.refused"]
            assert refused == [("requester", "release.approve", "not_permitted"), ("requester", "release.promote", "not_yet")]
            assert all(entry.via == "slack" for entry in audit(ws))
            assert len(at.parents) == 2, "one message for the release, one for the rollback"
            assert len(at.replies(at.parents[0])) == 7
            assert len([message for message in at.slack.messages if message.is_broadcast]) == 2, "held and promoted, for all to see"

    run(story())
    assert _route(ws).stable == ws.versions.get("v1", app=APP).bundle_id
    with ws.ledger.read() as connection:
        verify(connection).require_whole()


def test_nothing_of_a_refusal_is_seen_by_anybody_else(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            before = at.channel
            await at.click(REQUESTER, "Approve")
            await at.click(STRANGER, "Approve")
            await at.type(STRANGER, f"/rollback {APP} --reason because")
            await at.type(REQUESTER, f"/release promote {APP}")
            assert "it is READY; needed: APPROVED" in at.told(REQUESTER)
            await at.type(APPROVER, f"/release start {APP} v3 --reason mine is better")
            assert "needs the role" in at.told(APPROVER)
            await at.type(REQUESTER, f"/release start {APP} v3 --reason mine is better")
            assert "one release of an app at a time" in at.told(REQUESTER)
            assert at.channel == before

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester")]


def test_the_second_slack_id_of_the_requester_is_no_second_person(ws):
    people = ws.ownership.people(APP).model_dump(mode="json", exclude_none=True)
    people["people"]["both"]["slack"] = ["U3", "U33"]
    declare(ws, people=people)

    async def story() -> None:
        async with desk(ws) as at:
            await at.type("U3", f"/release start {APP} v2 --reason mine")
            await at.click("U33", "Approve")
            assert "both asked for this release" in at.told("U33")

    run(story())
    assert ("release.approve", "both") not in acts(ws)


def test_a_role_that_is_gone_at_the_click_is_gone(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            people = ws.ownership.people(APP).model_dump(mode="json", exclude_none=True)
            people["people"]["approver"]["roles"] = {APP: ["viewer"]}
            declare(ws, people=people)
            await at.click(APPROVER, "Approve")
            assert "needs the role approver" in at.told(APPROVER)

    run(story())


def test_an_approval_of_a_superseded_review_is_refused(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            ws.readiness.evidence += 1
            ws.readiness.verdict = ReviewVerdict.NO_GO
            ws.readiness.review(APP, "v2", actor=ws.ownership.actor_of_slack_id(REQUESTER))
            await at.click(APPROVER, "Approve")
            assert "superseded" in at.told(APPROVER)

    run(story())
    assert ws.releases.get(RELEASE).state is State.READY


def test_a_button_that_was_drawn_for_an_earlier_version_does_nothing(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await _canary(at)
            message, hold = at.button("Hold")
            await at.type(BOTH, f"/release hold {APP} --reason first")
            await at.click(BOTH, "Resume")
            await at.deliver(click_body(REQUESTER, message, hold))
            assert "somebody changed it first" in at.told(REQUESTER)

    run(story())
    assert ws.releases.get(RELEASE).state is State.CANARY


def test_two_people_who_press_the_same_button_promote_one_step(ws, clock):
    async def story() -> None:
        async with desk(ws) as at:
            await _canary(at)
            clock.forward(hours=1)
            await at.bot.worker.drain()
            message, button = at.button("Promote to 25 %")
            for user in (REQUESTER, BOTH):
                await at.deliver(click_body(user, message, button))
            assert "somebody changed it first" in at.told(BOTH)

    run(story())
    assert ws.releases.get(RELEASE).step == 1


@pytest.mark.parametrize("value", ["", "shop.2", "shop.2:1:0000000000000000", "shop.2:2:" + "f" * 16, "x" * 3000, "shop.2:1:\n"])
def test_a_button_that_the_bot_did_not_make_does_nothing(ws, value):
    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            message, button = at.button("Approve")
            await at.deliver(click_body(APPROVER, message, {**button, "value": value}))
            assert "not made by this bot" in at.told(APPROVER)

    run(story())
    assert ws.releases.get(RELEASE).state is State.READY


def test_a_button_s_seal_holds_for_its_own_act_release_version_and_workspace_only():
    made = Seal(b"k" * 32)
    value = made.value(Click(act="release.hold", release_id="shop.2", version=3))
    assert made.read("release.hold", value) == Click(act="release.hold", release_id="shop.2", version=3)
    for seal, act, altered in (
        (made, "release.promote", value),
        (made, "release.hold", value.replace("shop.2:3", "shop.2:4")),
        (made, "release.hold", value.replace("shop.2:", "shop.3:")),
        (Seal(b"j" * 32), "release.hold", value),
    ):
        with pytest.raises(Exception, match="not made by this bot"):
            seal.read(act, altered)


@pytest.mark.parametrize("changes", [{"team_id": "T999"}, {"team_id": None}])
def test_people_of_another_slack_workspace_are_refused_even_with_a_known_id(ws, changes):
    async def story() -> None:
        async with desk(ws) as at:
            response = await at.type(REQUESTER, f"/release start {APP} v2 --reason from outside", **changes)
            assert "another Slack workspace" in response.body
            await _ready(at)
            await at.click(APPROVER, "Approve", user={"id": APPROVER, **{k: v for k, v in changes.items() if v}})
            assert "another Slack workspace" in at.told(APPROVER)

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester")]


def test_a_bundle_that_is_stopped_at_its_gates_is_shown_as_that(ws):
    ws.readiness.verdict = ReviewVerdict.NO_GO

    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at, bundle="v3")
            assert "stopped at its gates" in at.channel[0]
            await at.type(REQUESTER, f"/release gates {APP}")
            assert "Success: success is bad." in at.told(REQUESTER)
            with pytest.raises(UnknownSubject):
                at.button("Approve")

    run(story())


def test_a_dry_rollback_does_nothing_and_says_what_it_would_do(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await _canary(at)
            before = at.channel
            await at.type(NIGHT, f"/rollback {APP} --reason what if --dry-run")
            assert at.told(NIGHT).startswith("Nothing was done. A rollback would do this: shop.2")
            assert at.channel == before

    run(story())
    assert ws.releases.get(RELEASE).state is State.CANARY


def test_a_rollback_works_with_the_log_unreadable(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await _canary(at)
            ws.metrics.units.is_readable = False
            await at.type(NIGHT, f"/rollback {APP} --reason wrong answers")

    run(story())
    assert (_route(ws).candidate, _route(ws).share) == (None, 0)


def test_locks_and_stand_ins_are_told_to_the_channel_with_who_and_why(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/release lock {APP} --reason database work")
            assert "requester holds the lock" in at.channel[0]
            assert "database work" in at.channel[0]
            await at.type(BOTH, f"/release unlock {APP}")
            assert "requester holds the lock" in at.told(BOTH)
            await at.type(BOTH, f"/release unlock {APP} --steal --reason requester went home")
            assert at.channel[1] == f"both took the lock off releases of {APP}: requester went home"
            await at.type(REQUESTER, f"/owner override {APP} <@{APPROVER}|anna> --until 4h --reason night is ill")
            assert "approver stands in at tier 1 from 2026-10-05 09:00 UTC" in at.channel[2]
            await at.type(REQUESTER, f"/owner override {APP} <@{STRANGER}> --until 4h --reason nobody")
            assert "has this Slack id" in at.told(REQUESTER)

    run(story())
    assert [shift.person for shift in ws.ownership.on_call(APP)] == ["approver"]


@pytest.mark.parametrize(
    "line",
    [
        "/release status shop",
        "/release history shop",
        "/release gates shop",
        "/owner show shop",
        "/owner oncall shop",
        "/owner gaps shop --days 3",
    ],
)
def test_looking_changes_nothing_and_only_the_asker_sees_it(ws, line):
    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            before = at.channel
            await at.type(REQUESTER, line)
            assert at.channel == before
            assert at.told(REQUESTER)
            await at.type(STRANGER, line)
            assert "belongs to nobody" in at.told(STRANGER)

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/release status nothing", 'app "nothing"'),
        ("/release start nothing --reason x", "nothing"),
        ("/release start shop v9 --reason x", "bundle v9"),
        ("/release promote nothing", "no release has this id"),
        ("/release promote shop", "no release has this id"),
        ("/rollback nothing --reason x", "nothing"),
        ("/owner gaps nothing", 'app "nothing"'),
        ("/owner gaps shop --days many", "a whole number from 1 to 366"),
        ("/owner override shop night --until yesterday --reason x", "it cannot be read"),
    ],
)
def test_what_is_not_there_is_said_to_the_asker(ws, line, says):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, line)
            assert says in at.told(REQUESTER)
            assert at.channel == []

    run(story())
    assert acts(ws) == []


def test_a_repeated_question_is_answered_with_the_stored_answer(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/owner oncall {APP}")
            first = at.told(REQUESTER)
            response = await at.deliver(at.last)
            assert first in response.body

    run(story())


def test_somebody_in_a_channel_without_the_bot_is_answered_directly(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/release start {APP} v2 --reason from afar", channel_id="C777")
            (message,) = at.slack.messages
            assert (message.channel, message.only_for) == (REQUESTER, None)
            assert "invite the bot" in message.text
            await at.type(REQUESTER, f"/release status {APP}")
            await at.click(APPROVER, "Approve")

    run(story())
    assert ws.releases.get(RELEASE).state is State.APPROVED
    assert CHANNEL != "C777"


def test_personal_data_and_secrets_in_somebody_s_words_are_stored_and_shown_nowhere(ws):
    secrets = ("mary.poppins@example.org", "+49 30 90182017", "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD")

    async def story() -> list[str]:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/release start {APP} v2 --reason {', '.join(secrets)}, they wrote")
            await at.type(NIGHT, f"/rollback {APP} --reason {secrets[0]}")
            return [repr(message) for message in at.slack.events]

    seen = run(story())
    assert ws.releases.get(RELEASE).reason.endswith("they wrote")
    stored = (ws.home / "ledger.sqlite").read_bytes() + (ws.home / "ledger.sqlite-wal").read_bytes()
    assert [secret for secret in secrets if secret.encode() in stored or any(secret in text for text in seen)] == []


@pytest.mark.parametrize("private", ["ada@example.org", "4111111111111111", "xoxb-0123456789-0123456789-abcdefghijklmnopqrstuvwx"])
@pytest.mark.parametrize(
    "line", ["/release status {}", "/release start {app} {} --reason better", "/owner override {app} {} --until 4h --reason swap"]
)
def test_personal_data_and_secrets_that_stand_in_the_wrong_place_are_not_stored(ws, line, private):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, line.format(private, app=APP))
            assert private not in at.told(REQUESTER)

    run(story())
    with ws.ledger.read() as connection:
        (row,) = connection.execute(select(inbox))
    assert private not in f"{row.intent} {row.outcome}"


def test_a_mention_stays_who_it_is(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/owner override {APP} <@{NIGHT}|ada@example.org> --until 4h --reason swap")

    run(story())
    assert [shift.person for shift in ws.ownership.stand_ins(APP)] == ["night"]


def test_words_that_would_wake_a_whole_channel_stay_words(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/release lock {APP} --reason <!channel> and &lt;!here&gt; and <@{APPROVER}>")
            await at.type(REQUESTER, f"/release start {APP} v2 --reason <!channel> *so* `there`")
            await at.type(REQUESTER, f"/release history {APP}")
            assert "<!channel> and <!here>" in at.channel[0], "as people read it"
            assert [message for message in at.slack.events if "<" in repr((message.text, message.blocks))] == []

    run(story())


def test_an_approval_that_expired_can_be_given_again_by_its_button(ws, clock):
    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            await at.click(APPROVER, "Approve")
            clock.forward(hours=5)
            await at.bot.worker.drain()
            assert [button["text"]["text"] for button in at.parents[0].buttons] == ["Approve again"]
            await at.type(REQUESTER, f"/release promote {APP}")
            assert "expired" in at.told(REQUESTER)
            await at.click(APPROVER, "Approve again")
            await at.click(REQUESTER, "Promote to 5 %")

    run(story())
    assert ws.releases.get(RELEASE).state is State.CANARY


def test_the_button_of_a_plan_with_a_shadow_stage_says_that_it_begins_with_that(ws, clock):
    shadow = {"share": 0.5, "at_least": "10m", "min_units": 1}
    declare(ws, plan={**SPECS["plan"], "shadow": shadow})

    async def story() -> None:
        async with desk(ws) as at:
            await _ready(at)
            await at.click(APPROVER, "Approve")
            await at.click(REQUESTER, "Begin its shadow stage")
            assert (ws.releases.get(RELEASE).is_shadowed, _route(ws).shadow_share) == (True, 0.5)
            clock.forward(minutes=11)
            await at.bot.worker.drain()
            await at.click(REQUESTER, "Promote to 5 %")
            assert not ws.releases.get(RELEASE).is_shadowed

    run(story())
