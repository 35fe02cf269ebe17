"""Where third-party data lies beside the checkout, for the tests that read it."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "realdata"


def real(*parts: str) -> Path:
    """A file or folder of the real data; the test is skipped where there is none."""
    path = FOLDER.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real data here ({'/'.join(parts)})")
    return path
