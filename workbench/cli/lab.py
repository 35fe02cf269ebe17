"""`workbench lab`: the notebooks, in JupyterLab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def lab(folder: Annotated[Path, typer.Option(help="Where your copies of the notebooks are kept.")] = Path("notebooks")) -> None:
    """Open JupyterLab on the notebooks; in an empty place it first copies them there."""
    import shutil
    import sys

    from workbench.demo.resources import notebooks_folder

    if not folder.exists():
        shutil.copytree(notebooks_folder(), folder)
        typer.echo(f"copied the notebooks to {folder}")
    os.environ.setdefault("WORKBENCH_HOME", str(Path(".workbench").absolute()))
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.absolute()}", "--LabApp.news_url=None"])  # noqa: S606  # replaces this process by the notebook server
