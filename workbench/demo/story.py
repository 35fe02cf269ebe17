"""The demo's story: four bundles of one assistant, their traffic, and three reviews that come out differently.

    v1  serves today
    v2  truly better                                        GO
    v3  lost a rule, a good index and a fast order system   NO_GO
    v4  hardly used yet                                     NOT_ENOUGH_EVIDENCE

Nothing here decides a verdict: the reviews do, on the rows that the talks left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.demo.customers import customers
from workbench.demo.hosting import HostedBundle
from workbench.demo.resources import demo_folder
from workbench.demo.rows import RowWriter
from workbench.demo.shop import Shop
from workbench.demo.traffic import run_traffic
from workbench.observability.sealing import Sealer
from workbench.observability.tables import arrow_table
from workbench.ownership.model import Actor, Assurance
from workbench.readiness.model import Review, ReviewVerdict
from workbench.versions.model import Bundle

if TYPE_CHECKING:
    from workbench.workspace import Workspace

APP = "support"
BASELINE = "v1"
Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One bundle's part of the traffic."""

    name: str
    first_customer: int
    n: int


TRAFFIC = (
    Share(name="v1", first_customer=0, n=6000),
    Share(name="v2", first_customer=6000, n=6000),
    Share(name="v3", first_customer=12000, n=6000),
    Share(name="v4", first_customer=18000, n=40),
)
EXPECTED: Mapping[str, ReviewVerdict] = {
    "v2": ReviewVerdict.GO,
    "v3": ReviewVerdict.NO_GO,
    "v4": ReviewVerdict.NOT_ENOUGH_EVIDENCE,
}


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
    """Of v2, v3 and v4."""
    n_talks: int
    n_requests: int
    n_rows: int
    """Rows of all log tables."""
    seconds: float
    faults: tuple[str, ...]
    """One sentence for each review that came out otherwise than told; empty when all is well."""

    @property
    def is_as_told(self) -> bool:
        return not self.faults


def run_story(
    ws: Workspace, *, seed: int = 7, progress: Progress = lambda _label, _done, _total: None, traffic: tuple[Share, ...] = TRAFFIC
) -> StoryResult:
    """The whole story in a fresh demo workspace.

    Args:
        ws: an empty workspace that is marked as the demo's.
        seed: of the shop and its customers.
        progress: told of every step.
        traffic: who talks to which bundle.

    Raises:
        NotPermitted: the workspace is not the demo's, so nobody may act in the name of its people.
    """
    started = time.monotonic()
    actor = Actor(person="primary", via="demo", assurance=Assurance.CONSOLE)
    bundles = _registered(ws, actor, progress)
    shop = Shop(seed=seed)
    n_requests = n_rows = 0
    for share in traffic:
        tables = _served(ws, bundles[share.name], share, shop, progress)
        _store(ws, bundles[share.name], tables, seed)
        n_requests += tables["requests"].num_rows
        n_rows += sum(table.num_rows for table in tables.values())
    reviews = []
    for done, name in enumerate(EXPECTED, start=1):
        reviews.append(ws.readiness.review(APP, bundles[name], baseline=bundles[BASELINE].bundle_id, actor=actor))
        progress("readiness reviews", done, len(EXPECTED))
    return StoryResult(
        app=APP,
        home=ws.home,
        bundles=tuple(bundles.values()),
        baseline=bundles[BASELINE],
        reviews=tuple(reviews),
        n_talks=sum(share.n for share in traffic),
        n_requests=n_requests,
        n_rows=n_rows,
        seconds=time.monotonic() - started,
        faults=faults_of(reviews),
    )


def faults_of(reviews: list[Review]) -> tuple[str, ...]:
    """One sentence for each review that does not say what the story tells."""
    return tuple(
        f"{review.bundle_name} is {review.verdict} where {EXPECTED[review.bundle_name]} was expected: {review.sentence}"
        for review in reviews
        if review.verdict is not EXPECTED[review.bundle_name]
    )


def _registered(ws: Workspace, actor: Actor, progress: Progress) -> dict[str, Bundle]:
    """The four bundles by name, registered with what the app declares."""
    folders = sorted((demo_folder() / "bundles").iterdir())
    bundles = {}
    for done, folder in enumerate(folders, start=1):
        bundles[folder.name] = ws.versions.register(folder, actor=actor).bundle
        progress("bundles registered", done, len(folders))
    return bundles


def _served(ws: Workspace, bundle: Bundle, share: Share, shop: Shop, progress: Progress) -> dict[str, pa.Table]:
    """The rows of one bundle's talks, by table. What runs is what the registry holds."""
    hosted = HostedBundle(bundle, ws.versions.files(bundle.bundle_id))
    writer = RowWriter(seed=shop.seed, sealer=Sealer(ws.redactor, ws.unit_key))
    people = customers(shop, first=share.first_customer, n=share.n)
    parts: dict[str, list[pa.Table]] = {}
    label, done = f"customers of {share.name}", 0
    progress(label, done, share.n)
    for rows in run_traffic(hosted, people, shop=shop, now=ws.clock(), writer=writer):
        for name, entries in rows.items():
            parts.setdefault(name, []).append(arrow_table(name, entries))
        done = len({request["unit_hash"] for request in rows["requests"]}) + done
        progress(label, done, share.n)
    return {name: pa.concat_tables(tables) for name, tables in parts.items()}


def _store(ws: Workspace, bundle: Bundle, tables: Mapping[str, pa.Table], seed: int) -> None:
    """All rows of a bundle in one transaction, so that each day is one file."""
    longest = max(table.num_rows for table in tables.values())
    ws.logs.append(tables, source_id=f"demo:{seed}:{bundle.digest}", from_seq=1, to_seq=longest)
