"""The readiness workbench: may this AI application go live, and what if it goes wrong?

`Workspace.open()` is the one entry: it finds the stores and hands out the services.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.workspace import Workspace

__all__ = ["Workspace", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `Workspace` on first use, so that `import workbench` and the CLI's help stay fast."""
    if name == "Workspace":
        from workbench.workspace import Workspace

        return Workspace
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")
