"""`workbench release` and `workbench rollback`: bring a bundle into service by steps, and take it back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.readiness import EXIT_OF_VERDICT
from workbench.cli.shared import Json, print_json

if TYPE_CHECKING:
    from workbench.release.model import Release

group = typer.Typer(help="Bring a bundle into service by steps, with the approval of a second person.", no_args_is_help=True)
App = Annotated[str, typer.Argument(help="The app.")]
Id = Annotated[str, typer.Argument(metavar="RELEASE", help="The release's id, or the app for its open release.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
Maybe = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
Version = Annotated[
    int | None, typer.Option("--version", min=1, help="The version that you looked at; when the release is at another, nothing is done.")
]
Review = Annotated[str | None, typer.Option("--review", help="The review that you looked at; when it stands on another, nothing is done.")]
EXIT_OF_REPLAY = {"SAME": 0, "DIFFERENT": 1, "UNAVAILABLE": 3}
"""Exit code by what became of a release's decisions when they were made again."""
Steal = Annotated[bool, typer.Option("--steal", help="Take it from whoever holds it; the audit shows that.")]


@group.command("start")
def start(
    app: App,
    reason: Reason,
    bundle: Annotated[str | None, typer.Argument(help="The bundle; by default the newest.")] = None,
    baseline: Annotated[str | None, typer.Option(help="What the review compares it with, before anything is in service.")] = None,
    as_json: Json = False,
) -> None:
    """Review APP's BUNDLE and start its release. Exit 1 when it is stopped at its gates, 3 when there is not enough evidence."""
    from workbench import Workspace
    from workbench.release.model import State
    from workbench.views.tables import shown

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        release = ws.releases.start(app, bundle, reason=reason, baseline=baseline)
        left_open = () if as_json else ws.releases.left_open(release.release_id)
        code = 0
        if release.state is State.ABORTED and release.review_id is not None:
            code = EXIT_OF_VERDICT[ws.readiness.get(release.review_id).verdict] or 1
    _show(release, as_json=as_json)
    for line in left_open:
        typer.echo(shown(line))
    raise typer.Exit(code)


@group.command("status")
def status(
    app: App,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until the release has ended.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """What serves APP now, where its release stands, how the controller sees it, and what happens next."""
    import sys
    import time

    import click

    from workbench import Workspace
    from workbench.views.release import status_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        while True:
            found = ws.releases.status(app)
            if as_json:
                print_json(found)
            else:
                if watch and sys.stdout.isatty():
                    click.clear()
                typer.echo(status_text(found))
            if not watch or found.release is None or not found.release.is_open:
                return
            time.sleep(every)


@group.command("history")
def history(
    app: App,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, with every decision.")] = False,
    as_json: Json = False,
) -> None:
    """Every release of APP, the newest first."""
    from workbench import Workspace
    from workbench.views.release import history_text
    from workbench.views.release_watch import history_markdown

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        releases, alone = ws.releases.history(app), ws.releases.broken_glass(app)
        decisions = {release.release_id: ws.releases.decisions(release.release_id) for release in releases} if markdown else {}
    if as_json:
        print_json(releases)
    elif markdown:
        typer.echo(history_markdown(app, releases, decisions), nl=False)
    else:
        typer.echo(history_text(app, releases, alone))


@group.command("decisions")
def decisions(release: Id, as_json: Json = False) -> None:
    """What the controller decided about RELEASE, the newest first."""
    from workbench import Workspace
    from workbench.views.release_watch import decisions_text

    with Workspace.open(create=False) as ws:
        found = ws.releases.get(release)
        ws.require_view(found.app)
        decided = ws.releases.decisions(found.release_id)
    if as_json:
        print_json(decided)
    else:
        typer.echo(decisions_text(found.release_id, decided))


@group.command("explain")
def explain(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="RELEASE/NUMBER, or a release for its newest decision.")],
    as_json: Json = False,
) -> None:
    """Why the controller decided something, from what was stored with the decision."""
    from workbench import Workspace
    from workbench.views.release_watch import decision_text

    with Workspace.open(create=False) as ws:
        found = ws.releases.decision(decision)
        ws.require_view(ws.releases.get(found.release_id).app)
    if as_json:
        print_json(found)
    else:
        typer.echo(decision_text(found))


@group.command("replay")
def replay(release: Id, as_json: Json = False) -> None:
    """Make every decision about RELEASE again from the log. Exit 1 when one comes out differently, 3 when rows are gone.

    The same judge also reads two halves of the stable arm, which differ by nothing.
    """
    from workbench import Workspace
    from workbench.views.replay import replay_text

    with Workspace.open(create=False) as ws:
        found = ws.releases.get(release)
        ws.require_view(found.app)
        again = ws.releases.replay(found.release_id)
    if as_json:
        print_json(again)
    else:
        typer.echo(replay_text(again))
    raise typer.Exit(EXIT_OF_REPLAY[again.found])


@group.command("approve")
def approve(
    release: Id,
    break_glass: Annotated[bool, typer.Option("--break-glass", help="There is no second person: let it go alone, and say why.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why it cannot wait; with --break-glass.")] = "",
    review: Review = None,
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Approve RELEASE, as a second person. It is good for four hours, and void when what was approved changes.

    With --break-glass whoever operates the app or is on call lets it go alone, for one hour. Everybody on call and every approver is told,
    and another person has to review it within three days: `workbench release reviewed`.
    """
    from workbench import Workspace
    from workbench.errors import UsageError
    from workbench.views.broken_glass import called_text

    if reason and not break_glass:
        raise UsageError("--reason", seen="an approval by a second person has none", needed="--break-glass, or no reason")
    with Workspace.open(create=False) as ws:
        if not break_glass:
            done = ws.releases.approve(release, review_id=review, expected_version=version)
        else:
            done = ws.releases.break_glass(release, reason=reason, review_id=review, expected_version=version)
            owed = ws.releases.broken_glass(done.app)[-1]
            typer.echo(called_text(owed, ws.ownership.people(done.app)), err=True)
    _show(done, as_json=as_json)


@group.command("reviewed")
def reviewed(
    release: Id,
    verdict: Annotated[str, typer.Option("--verdict", metavar="VERDICT", help="justified or not_justified.")],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Say of RELEASE, which somebody let go alone, whether that was right; as another person. The release stays what it is."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.releases.reviewed(release, verdict=verdict, reason=reason)
    _show(done, as_json=as_json)


@group.command("reject")
def reject(release: Id, reason: Reason, review: Review = None, version: Version = None, as_json: Json = False) -> None:
    """End RELEASE, because you may approve it and do not."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.releases.reject(release, reason=reason, review_id=review, expected_version=version)
    _show(done, as_json=as_json)


@group.command("promote")
def promote(
    release: Id,
    early: Annotated[str, typer.Option("--early", metavar="REASON", help="Do not wait for the step's time and units, and say why.")] = "",
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Take RELEASE one step further: into its canary, to the next share, into service. Exit 3 when the present step is not over."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.releases.promote(release, early=early, expected_version=version)
    _show(done, as_json=as_json)


@group.command("hold")
def hold(release: Id, reason: Reason, version: Version = None, as_json: Json = False) -> None:
    """Hold the canary of RELEASE at its share."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.releases.hold(release, reason=reason, expected_version=version)
    _show(done, as_json=as_json)


@group.command("resume")
def resume(release: Id, version: Version = None, as_json: Json = False) -> None:
    """Let a held RELEASE go on."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.releases.resume(release, expected_version=version)
    _show(done, as_json=as_json)


@group.command("abort")
def abort(release: Id, reason: Reason, version: Version = None, as_json: Json = False) -> None:
    """Give RELEASE up; a candidate that serves is taken back."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.releases.abort(release, reason=reason, expected_version=version)
    _show(done, as_json=as_json)


@group.command("adopt")
def adopt(
    app: App, bundle: Annotated[str, typer.Argument(help="The bundle that serves already.")], reason: Reason, as_json: Json = False
) -> None:
    """Name the BUNDLE that serves APP already, before its first release by the workbench."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        done = ws.releases.adopt(app, bundle, reason=reason)
    _show(done, as_json=as_json)


@group.command("drill")
def drill(app: App, as_json: Json = False) -> None:
    """Rehearse a rollback of APP: how long until every gateway follows. It serves nobody otherwise. Exit 1: it failed, 3: no gateway."""
    from workbench import Workspace
    from workbench.views.drill import drill_text

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        found = ws.releases.drill(app)
    if as_json:
        print_json({**asdict(found), "slowest_s": found.slowest_s, "is_good": found.is_good})
    else:
        typer.echo(drill_text(found))
    raise typer.Exit(0 if found.is_good else 1)


@group.command("lock")
def lock(app: App, reason: Reason, steal: Steal = False, as_json: Json = False) -> None:
    """Keep everybody but you from releasing APP."""
    from workbench import Workspace
    from workbench.views.release import lock_text

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        done = ws.releases.lock(app, reason, steal=steal)
    if as_json:
        print_json(done)
    else:
        typer.echo(lock_text(done))


@group.command("unlock")
def unlock(app: App, reason: Maybe = "", steal: Steal = False) -> None:
    """Take the lock on releases of APP away; somebody else's only with --steal and a reason."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        ws.releases.unlock(app, reason, steal=steal)
    typer.echo(f"releases of {app} are not locked any more")


@group.command("freeze")
def freeze(app: App, reason: Reason, as_json: Json = False) -> None:
    """Stop releases of APP for everybody. Holding, aborting and rolling back stay possible."""
    from workbench import Workspace
    from workbench.views.release import lock_text

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        done = ws.releases.freeze(app, reason)
    if as_json:
        print_json(done)
    else:
        typer.echo(lock_text(done))


@group.command("unfreeze")
def unfreeze(app: App, reason: Maybe = "") -> None:
    """End the freeze of APP by hand; days on which its plan freezes stay frozen."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        ws.releases.unfreeze(app, reason)
    typer.echo(f"releases of {app} are not frozen any more")


def rollback(
    app: App,
    reason: Reason,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TARGET", help="last-good, fallback, off, or a bundle that was promoted before.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Put APP back on what served before, at once. It needs no log, no review and no approval, and no lock or freeze stops it."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        done = ws.releases.rollback(app, to=to, reason=reason, dry_run=dry_run)
    _show(done, as_json=as_json, before="nothing was done; a rollback would do this: " if dry_run else "")


def _show(release: Release, *, as_json: bool, before: str = "") -> None:
    from workbench.views.release import release_text

    if as_json:
        print_json(release)
    else:
        typer.echo(f"{before}{release_text(release)}")
