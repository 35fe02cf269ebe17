"""Where the demo's files and the notebooks lie: inside the installed package, else in the checkout around it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from workbench.errors import StoreError


def demo_folder() -> Path:
    """The demo's app folder, with `app.yaml` and `bundles/`.

    Raises:
        StoreError: neither an installed package nor a checkout holds it.
    """
    return _folder("demo", "data/demo")


def notebooks_folder() -> Path:
    """The folder with the notebooks.

    Raises:
        StoreError: neither an installed package nor a checkout holds it.
    """
    return _folder("notebooks", "notebooks")


def _folder(shipped: str, in_checkout: str) -> Path:
    package = Path(str(files("workbench")))
    for place in (package / "_shipped" / shipped, package.parent / in_checkout):
        if place.is_dir():
            return place
    raise StoreError(
        f"{shipped} files",
        seen=f"neither {package / '_shipped' / shipped} nor {package.parent / in_checkout} exists",
        needed="an installation with its data",
        next_step="reinstall the package",
    )
