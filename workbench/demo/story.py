"""The demo's story: six bundles of one assistant, rehearsed in process, released by people from the chat, carried by the controller.

    v1  serves today                                        adopted
    v3  lost a rule, a good index and a fast order system   NO_GO, stopped at its gates
    v4  hardly rehearsed yet                                NOT_ENOUGH_EVIDENCE; after more of it GO, and taken back by hand in mid-canary
    v5  does not know new accounts, as no rehearsal shows   GO, begun, and taken back by the controller at its first share
    v6  does not know the accounts that a campaign brings   GO, carried to half of the users, and taken back when the campaign begins
    v2  truly better                                        GO, begun, and carried to everybody by the controller

Nothing here decides a verdict or a release: the reviews do, on the rows that the talks left, and the rules of the release.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import polars as pl
import pyarrow as pa

from workbench.controls.hosting import HostedBundle
from workbench.demo.customers import customers
from workbench.demo.live import Street, opened_street
from workbench.demo.resources import demo_folder
from workbench.demo.rows import RowWriter
from workbench.demo.shop import ACCOUNTS_BEFORE_CAMPAIGN, SPRING_ACCOUNTS, Shop
from workbench.demo.timeline import StoryClock
from workbench.demo.traffic import run_traffic
from workbench.errors import UnknownSubject
from workbench.gateway.server import running
from workbench.ledger.audit import AuditEntry, tail
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table
from workbench.ownership.model import Actor, Assurance
from workbench.readiness.model import Review, ReviewVerdict
from workbench.release.model import DecisionRecord, Kind, Release, State
from workbench.versions.model import Bundle

if TYPE_CHECKING:
    from workbench.workspace import Workspace

APP = "support"
BASELINE = "v1"
CONSOLES = "workbench.consoles"
"""Entry points that bring a chat in which a script can be played: name to callable(ws, write=…) that opens one."""
Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One bundle's part of the rehearsal."""

    name: str
    first_customer: int
    n: int
    days: float = 7.0
    """Before the story begins; the talks are spread over them."""


REHEARSAL = (
    Share(name="v1", first_customer=0, n=5000, days=21.0),
    Share(name="v2", first_customer=5000, n=5000),
    Share(name="v3", first_customer=10000, n=5000),
    Share(name="v4", first_customer=15000, n=40),
)
SECOND_REHEARSAL = Share(name="v4", first_customer=15040, n=2500)
LATER_REHEARSALS = (Share(name="v5", first_customer=17540, n=1500), Share(name="v6", first_customer=19040, n=1500))
FIRST_LIVE_CUSTOMER = SPRING_ACCOUNTS
CROWD = 100
"""Customers who come before somebody looks again."""
BY_HAND_AFTER = 4
"""Crowds until customers' complaints about v4 are heard."""
MOST_CROWDS = 120
"""In one canary; a candidate of which nothing can be shown does not keep the story waiting for ever."""
LOOK, LOOKS = timedelta(seconds=50), 5
"""Between two looks of the controller, and how many of them there are between two crowds."""
_MOST_ENTRIES = 10_000
METRICS = ("volume", "success_rate", "failure_rate", "latency_p95", "quality_mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one attempt to release a bundle comes out."""

    bundle: str
    kind: Kind
    state: State
    verdict: ReviewVerdict | None
    """Of the review that it stands on."""


EXPECTED = (
    Ending(bundle="v1", kind=Kind.ADOPT, state=State.PROMOTED, verdict=None),
    Ending(bundle="v3", kind=Kind.RELEASE, state=State.ABORTED, verdict=ReviewVerdict.NO_GO),
    Ending(bundle="v4", kind=Kind.RELEASE, state=State.ABORTED, verdict=ReviewVerdict.NOT_ENOUGH_EVIDENCE),
    Ending(bundle="v4", kind=Kind.RELEASE, state=State.ROLLED_BACK, verdict=ReviewVerdict.GO),
    Ending(bundle="v5", kind=Kind.RELEASE, state=State.ROLLED_BACK, verdict=ReviewVerdict.GO),
    Ending(bundle="v6", kind=Kind.RELEASE, state=State.ROLLED_BACK, verdict=ReviewVerdict.GO),
    Ending(bundle="v2", kind=Kind.RELEASE, state=State.PROMOTED, verdict=ReviewVerdict.GO),
)


class Console(Protocol):
    """A chat in which several people can be played."""

    async def play(self, lines: Iterable[str]) -> None:
        """Do what these lines say, as they would be typed."""


OpenConsole = Callable[..., AbstractAsyncContextManager[Console]]
"""`open(ws, write=…)`: a console for the length of the block; its transcript goes to `write`, line by line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryResult:
    """What happened."""

    app: str
    home: Path
    """The workspace."""
    bundles: tuple[Bundle, ...]
    """In the order of their registration."""
    baseline: Bundle
    reviews: tuple[Review, ...]
    """Those that the releases stood on, oldest first."""
    releases: tuple[Release, ...]
    """Oldest first."""
    transcript: tuple[str, ...]
    """What people typed and saw in the chat."""
    audit: tuple[AuditEntry, ...]
    """Every act, oldest first."""
    moves: tuple[DecisionRecord, ...]
    """What the controller decided and did, oldest first."""
    by_arm: pl.DataFrame
    """`METRICS` by arm and bundle, of the requests that came through the gateway."""
    units_by_arm: Mapping[str, int]
    """Customers who came to the gateway, by the arm that answered them first."""
    n_talks: int
    n_requests: int
    n_rows: int
    """Rows of the rehearsals, in all log tables."""
    seconds: float
    faults: tuple[str, ...]
    """One sentence for each release that came out otherwise than told; empty when all is well."""

    @property
    def is_as_told(self) -> bool:
        return not self.faults


def installed_console() -> OpenConsole:
    """The console that an installed package brings.

    Raises:
        UnknownSubject: there is none.
    """
    found = next(iter(entry_points(group=CONSOLES)), None)
    if found is None:
        raise UnknownSubject("console", seen="no installed package brings one", next_step="install readiness-workbench again, whole")
    opened: OpenConsole = found.load()
    return opened


def run_story(
    ws: Workspace,
    *,
    seed: int = 7,
    progress: Progress = lambda _label, _done, _total: None,
    open_console: OpenConsole | None = None,
    rehearsal: tuple[Share, ...] = REHEARSAL,
    second_rehearsal: Share = SECOND_REHEARSAL,
    later_rehearsals: tuple[Share, ...] = LATER_REHEARSALS,
) -> StoryResult:
    """The whole story in a fresh demo workspace.

    Args:
        ws: an empty workspace that is marked as the demo's, on a `StoryClock` and a `VirtualClock`.
        seed: of the shop and its customers.
        progress: told of every step.
        open_console: the chat; by default the installed one.
        rehearsal: who talks to which bundle before anything is released.
        second_rehearsal: of the bundle that was rehearsed too little.
        later_rehearsals: of the two whose faults no rehearsal shows.

    Raises:
        NotPermitted: the workspace is not the demo's, so nobody may act in the name of its people.
    """
    story = _Story(ws, seed=seed, progress=progress)
    story.prepare(rehearsal)
    return asyncio.run(story.told(open_console or installed_console(), second_rehearsal, later_rehearsals))


def faults_of(releases: Iterable[Release], *, names: Mapping[str, str], verdicts: Mapping[str, ReviewVerdict]) -> tuple[str, ...]:
    """One sentence for each release that did not come out as told.

    Args:
        releases: oldest first.
        names: bundle id to its name.
        verdicts: review id to its verdict.
    """
    seen = [
        Ending(
            bundle=names.get(release.bundle_id or "", "?"),
            kind=release.kind,
            state=release.state,
            verdict=verdicts.get(release.review_id or ""),
        )
        for release in releases
    ]
    missing = [f"{_words(ending)} was expected, and did not happen" for ending in EXPECTED[len(seen) :]]
    wrong = [f"{_words(found)} where {_words(told)} was expected" for found, told in zip(seen, EXPECTED, strict=False) if found != told]
    extra = [f"{_words(ending)} was not expected" for ending in seen[len(EXPECTED) :]]
    return (*wrong, *missing, *extra)


def _words(ending: Ending) -> str:
    review = f" on a review {ending.verdict}" if ending.verdict else ""
    return f"{ending.kind} of {ending.bundle} {ending.state}{review}"


class _Story:
    """One run of it."""

    def __init__(self, ws: Workspace, *, seed: int, progress: Progress) -> None:
        self.ws = ws
        self._started = time.monotonic()
        self.shop = Shop(seed=seed)
        self.progress = progress
        self.actor = Actor(person="primary", via="demo", assurance=Assurance.CONSOLE)
        self.bundles: dict[str, Bundle] = {}
        self.transcript: list[str] = []
        self.n_talks = self.n_requests = self.n_rows = 0
        self.units_by_arm: Counter[str] = Counter()
        self._next_customer = FIRST_LIVE_CUSTOMER

    def prepare(self, rehearsal: tuple[Share, ...]) -> None:
        """Register and rehearse; outside the event loop, which would heed Ctrl-C only when all of it is done."""
        self._register()
        for share in rehearsal:
            self._rehearse(share)

    async def told(self, open_console: OpenConsole, second_rehearsal: Share, later_rehearsals: tuple[Share, ...]) -> StoryResult:
        async with self._open(open_console) as (console, street):
            await self._cover_the_nights(console)
            await self._stop_the_bad_one(console)
            await self._take_the_third_back(console, street, second_rehearsal)
            for share in later_rehearsals:
                await asyncio.to_thread(self._rehearse, share)
            await self._let_two_fail(console, street)
            await self._release_the_good_one(console, street)
            await console.play(["# How it stands at the end.", "/release status support", "/release history support"])
            await street.settle()
        self.ws.logs.flush()
        return self._result(time.monotonic() - self._started)

    def _register(self) -> None:
        """The bundles by name, with what the app declares; the first is in service already."""
        folders = sorted((demo_folder() / "bundles").iterdir())
        for done, folder in enumerate(folders, start=1):
            self.bundles[folder.name] = self.ws.versions.register(folder, actor=self.actor).bundle
            self.progress("bundles registered", done, len(folders))
        approver = Actor(person="approver", via="demo", assurance=Assurance.CONSOLE)
        self.ws.releases.adopt(APP, self.bundles[BASELINE], reason="it serves the shop since spring", actor=approver)

    @asynccontextmanager
    async def _open(self, open_console: OpenConsole) -> AsyncIterator[tuple[Console, Street]]:
        """The gateway with its customers, and the chat."""
        key = self.ws.keys.create(APP, person="primary", label="the shop's website", actor=self.actor)
        with running(self.ws, is_carrying=False) as url:
            async with (
                open_console(self.ws, write=self.transcript.append) as console,
                opened_street(self.ws, url=url, key=key.text, app=APP, shop=self.shop) as street,
            ):
                yield console, street

    async def _cover_the_nights(self, console: Console) -> None:
        now = self.ws.clock()
        gaps = self.ws.ownership.gaps(APP, start=now, until=now + timedelta(days=14))
        stand_ins = [
            f'/owner override support secondary --from {gap.start.isoformat()} --until {gap.until.isoformat()} --reason "early shift"'
            for gap in gaps
        ]
        await console.play(
            [
                "# Nobody is on call early on Mondays, and no bundle goes out into such a gap. Somebody stands in.",
                "/owner gaps support",
                "as @secondary",
                *stand_ins,
                "/owner oncall support",
            ]
        )

    async def _stop_the_bad_one(self, console: Console) -> None:
        await console.play(
            ["# The simpler bundle v3 is stopped at its gates.", "as @primary", '/release start support v3 --reason "simpler and cheaper"']
        )

    async def _take_the_third_back(self, console: Console, street: Street, second_rehearsal: Share) -> None:
        await console.play(
            ["# v4 was hardly rehearsed: that is not enough to say anything.", '/release start support v4 --reason "a warmer tone"']
        )
        await asyncio.to_thread(self._rehearse, second_rehearsal)
        await console.play(
            ["# After a longer rehearsal it may go, once a second person agrees.", '/release start support v4 --reason "a warmer tone"']
        )
        await self._approve(console, lines=["click approve", "as @stranger", "click approve"])
        await console.play([f"/release promote {self._release().release_id}"])
        for _ in range(BY_HAND_AFTER):
            await self._serve_crowd(street)
            await asyncio.to_thread(self._look)
        await console.play(
            [
                "# Customers find the tone odd. The engineer on call takes it back, without asking anybody.",
                "as @night",
                '/rollback support --reason "customers find the new tone odd"',
            ]
        )
        await self._serve_crowd(street)

    async def _let_two_fail(self, console: Console, street: Street) -> None:
        await console.play(
            [
                "# v5 reads orders from a copy. Its rehearsal is fine; that new accounts are missing there only new customers can show.",
                "as @primary",
                '/release start support v5 --reason "spares the order system"',
            ]
        )
        await self._carry(console, street)
        await console.play(
            [
                "# v6 has a newer copy. When half of the users are on it a campaign begins, with accounts that the copy does not know.",
                '/release start support v6 --reason "spares the order system, with a newer copy"',
            ]
        )
        await self._carry(console, street, campaign_at=0.5)

    async def _release_the_good_one(self, console: Console, street: Street) -> None:
        await console.play(["# v2 goes out, step by step.", '/release start support v2 --reason "finds orders without a number"'])
        await self._carry(console, street)

    async def _carry(self, console: Console, street: Street, *, campaign_at: float = 1.0) -> None:
        """A person begins the canary; customers come, the controller looks, and does what it decides, until the release has ended.

        Args:
            console: the chat.
            street: the customers' way in.
            campaign_at: share from which on the customers of the campaign come; at 1 they never do.
        """
        await self._approve(console, lines=[])
        await console.play([f"/release promote {self._release().release_id}"])
        for done in range(MOST_CROWDS):
            release = self._release()
            step = release.present_step
            if step is None:
                break
            self.progress(f"{self._name(release.bundle_id)} at {step.share:.0%}", done, MOST_CROWDS)
            if step.share >= campaign_at:
                self._next_customer = max(self._next_customer, ACCOUNTS_BEFORE_CAMPAIGN)
            await self._serve_crowd(street)
            await asyncio.to_thread(self._look)
        await console.play(["# The controller has done the rest.", "/release status support"])

    def _look(self) -> None:
        """What came in is judged at once; then nobody comes for a while, and the controller looks on."""
        self.ws.logs.flush()
        self.ws.controller.turn()
        for _ in range(LOOKS):
            if isinstance(self.ws.clock, StoryClock):
                self.ws.clock.advance(LOOK)
            self.ws.controller.turn()

    async def _approve(self, console: Console, *, lines: list[str]) -> None:
        """The approver says yes, after the others tried; the delivery comes twice, as deliveries do."""
        await console.play([*lines, "as @approver", "click approve", "retry last", "as @primary"])

    async def _serve_crowd(self, street: Street) -> None:
        leg = await street.serve(customers(self.shop, first=self._next_customer, n=CROWD))
        self._next_customer += CROWD
        self.n_talks += leg.talks
        self.n_requests += leg.requests
        self.units_by_arm.update(leg.units_by_arm)

    def _rehearse(self, share: Share) -> None:
        """One bundle's rehearsal, in one transaction, so that each day is one file. What runs is what the registry holds."""
        bundle = self.bundles[share.name]
        tables = {name: pa.concat_tables(parts) for name, parts in self._rehearsed(bundle, share).items()}
        longest = max(table.num_rows for table in tables.values())
        self.ws.logs.append(tables, source_id=f"demo:{self.shop.seed}:{share.first_customer}:{bundle.digest}", from_seq=1, to_seq=longest)
        self.n_talks += share.n
        self.n_requests += tables["requests"].num_rows
        self.n_rows += sum(table.num_rows for table in tables.values())

    def _rehearsed(self, bundle: Bundle, share: Share) -> dict[str, list[pa.Table]]:
        hosted = HostedBundle(bundle, self.ws.versions.files(bundle.bundle_id))
        writer = RowWriter(seed=self.shop.seed, sealer=Sealer(self.ws.redactor, self.ws.unit_key))
        people = customers(self.shop, first=share.first_customer, n=share.n)
        parts: dict[str, list[pa.Table]] = {}
        label, done = f"customers of {share.name}", 0
        self.progress(label, done, share.n)
        for rows in run_traffic(hosted, people, shop=self.shop, now=self.ws.clock(), writer=writer, days=share.days):
            for name, entries in rows.items():
                parts.setdefault(name, []).append(arrow_table(name, entries))
            done += len({request["unit_hash"] for request in rows["requests"]})
            self.progress(label, done, share.n)
        return parts

    def _release(self) -> Release:
        """The release under way, or the newest."""
        return self.ws.releases.history(APP)[-1]

    def _name(self, bundle_id: str | None) -> str:
        return next((name for name, bundle in self.bundles.items() if bundle.bundle_id == bundle_id), "?")

    def _audit(self) -> tuple[AuditEntry, ...]:
        with self.ws.ledger.read() as connection:
            return tail(connection, _MOST_ENTRIES)

    def _reviews(self, releases: Iterable[Release]) -> Iterator[Review]:
        return (self.ws.readiness.get(release.review_id) for release in releases if release.review_id)

    def _result(self, seconds: float) -> StoryResult:
        releases = self.ws.releases.history(APP)
        reviews = tuple(self._reviews(releases))
        names = {bundle.bundle_id: name for name, bundle in self.bundles.items()}
        return StoryResult(
            app=APP,
            home=self.ws.home,
            bundles=tuple(self.bundles.values()),
            baseline=self.bundles[BASELINE],
            reviews=reviews,
            releases=releases,
            transcript=tuple(self.transcript),
            audit=self._audit(),
            moves=tuple(
                decision for release in releases for decision in self.ws.releases.decisions(release.release_id) if decision.inputs["act"]
            ),
            by_arm=self.ws.metrics.query(list(METRICS), by=["arm", "bundle"], where={"app": APP}).filter(pl.col("arm") != "none"),
            units_by_arm=dict(self.units_by_arm),
            n_talks=self.n_talks,
            n_requests=self.n_requests,
            n_rows=self.n_rows,
            seconds=seconds,
            faults=faults_of(releases, names=names, verdicts={review.review_id: review.verdict for review in reviews}),
        )
