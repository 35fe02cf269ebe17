"""The work of `workbench app check`: every fault of an app folder and its bundles, in one message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench.errors import SpecError
from workbench.observability.bars import faults
from workbench.spec.guards import GuardsSpec
from workbench.spec.loading import AppFolder, load_app_folder
from workbench.versions.guards import declared_guards
from workbench.versions.reading import read_bundle
from workbench.versions.scorers import with_files

_MEANING = {
    "people": "nobody is declared, so nobody may decide",
    "gates": "no bars of its own",
    "plan": "no rollout plan",
    "rota": "nobody on call",
    "slo": "no objectives in service, so no alerts",
    "metrics": "no metrics of its own",
    "online": "no live answer is scored",
}


def check_folder(folder: Path) -> tuple[str, ...]:
    """What is well formed and what is not there, a line each.

    Raises:
        SpecError: with every fault of the folder's files, or else of the metrics they name and of the bundles.
    """
    loaded = load_app_folder(folder)
    found = [*faults(loaded.app, loaded.gates, loaded.plan, loaded.slo, loaded.metrics)]
    if loaded.online is not None:
        try:
            with_files(loaded.online, folder)
        except SpecError as error:
            found.append(str(error))
    bundles = sorted(path.parent for path in folder.glob("bundles/*/bundle.yaml"))
    for bundle in bundles:
        try:
            guards = declared_guards(read_bundle(bundle))
        except SpecError as error:
            found.append(str(error))
        else:
            found += _too_late(bundle, guards, loaded)
    if found:
        raise SpecError(str(folder), seen="\n  " + "\n  ".join(found), next_step="\nnothing was stored")
    return _summary(loaded, [bundle.name for bundle in bundles])


def _too_late(bundle: Path, guards: GuardsSpec | None, loaded: AppFolder) -> Iterator[str]:
    """Guards that look at an answer after it left, where the risk does not allow it."""
    if guards is not None and guards.streaming == "after" and loaded.app.risk_tier != "low":
        yield f"bundles/{bundle.name}: its guards say `streaming: after`, which needs `risk_tier: low`, not {loaded.app.risk_tier}"


def _summary(loaded: AppFolder, bundles: list[str]) -> tuple[str, ...]:
    present = [kind for kind in ("app", *_MEANING) if getattr(loaded, kind) is not None]
    missing = [f"{kind}.yaml is not there: {meaning}" for kind, meaning in _MEANING.items() if kind not in present]
    files = ", ".join(f"{kind}.yaml" for kind in present)
    return (f"{loaded.app.app}: {files} are well formed and agree with each other; bundles: {', '.join(bundles) or 'none'}", *missing)
