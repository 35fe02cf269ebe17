"""`workbench lab`: the notebooks, in JupyterLab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def lab(
    folder: Annotated[Path, typer.Option(help="Where your copies of the notebooks are kept.")] = Path("notebooks"),
    allow_root: Annotated[
        bool, typer.Option("--allow-root", help="Run as root all the same; in a container that holds nothing else.")
    ] = False,
) -> None:
    """Open JupyterLab on the notebooks; in an empty place it first copies them there."""
    import sys

    _check_user(is_root_allowed=allow_root)
    if _copied(folder):
        typer.echo(f"copied the notebooks to {folder}")
    os.environ.setdefault("WORKBENCH_HOME", str(Path(".workbench").absolute()))
    options = [f"--ServerApp.root_dir={folder.absolute()}", "--LabApp.news_url=None", *(["--allow-root"] if allow_root else [])]
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *options])  # noqa: S606  # replaces this process by the notebook server


def _check_user(*, is_root_allowed: bool) -> None:
    """Return when JupyterLab will start for this user.

    Raises:
        UsageError: the user is root, whom it refuses.
    """
    from workbench.errors import UsageError

    if hasattr(os, "geteuid") and os.geteuid() == 0 and not is_root_allowed:
        raise UsageError(
            "workbench lab",
            seen="you are root, and whoever reached the notebooks could do anything on this machine",
            needed="another user",
            next_step="in a container that holds nothing else: `workbench lab --allow-root`",
        )


def _copied(folder: Path) -> bool:
    """Whether the notebooks were copied to the folder, whole or not at all; false when the folder was there already.

    Raises:
        UsageError: it is no folder, or this user cannot write there.
    """
    import shutil
    import tempfile

    from workbench.demo.resources import notebooks_folder
    from workbench.errors import UsageError

    try:
        if folder.exists():
            tempfile.TemporaryFile(dir=folder).close()
            return False
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".notebooks-") as draft:
            copy = shutil.copytree(notebooks_folder(), Path(draft) / "copy")
            copy.rename(folder)
    except OSError as error:
        raise UsageError(
            f"notebooks folder {folder}",
            seen=error.strerror or str(error),
            needed="a folder that this user can write, because JupyterLab saves there",
            next_step="`workbench lab --folder DIR` with another place",
        ) from error
    return True
