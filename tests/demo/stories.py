"""The story with fewer customers in its rehearsals; enough for the gates."""

from __future__ import annotations

from dataclasses import replace

from workbench.demo.story import REHEARSAL, SECOND_REHEARSAL

SHORT = tuple(replace(share, n=min(share.n, 1400)) for share in REHEARSAL)
EARLY = replace(SECOND_REHEARSAL, n=1400)
