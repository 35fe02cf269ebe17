"""A bundle's code leaves the process when the bundle is forgotten; what still runs on it goes on."""

from __future__ import annotations

import sys

from workbench.controls.modules import forget_modules, load_entry

FILES = {
    "assistant/__init__.py": b"",
    "assistant/words.py": b"HELLO = 'hello'",
    "assistant/agent.py": b"from .words import HELLO\n\ndef answer():\n    return HELLO\n",
}
FIRST = "0123456789ab" + "c" * 52


def loaded(digest: str, files: dict[str, bytes] = FILES):
    return load_entry("assistant.agent:answer", files, digest=f"sha256:{digest}", subject="bundle")


def modules(digest: str) -> list[str]:
    return [name for name in sys.modules if digest[:12] in name]


def test_a_forgotten_bundle_leaves_no_module_and_running_calls_go_on():
    other = "f" * 64
    running, stays = loaded(FIRST), loaded(other)
    assert len(modules(FIRST)) == 4
    forget_modules(f"support@{FIRST[:12]}")
    assert modules(FIRST) == []
    assert len(modules(other)) == 4
    assert (running(), stays()) == ("hello", "hello")
    again = loaded(FIRST)
    assert again is not running
    assert again() == "hello"
    for digest in (FIRST, other):
        forget_modules(f"support@{digest[:12]}")


def test_forgetting_what_was_never_loaded_is_nothing():
    before = set(sys.modules)
    forget_modules("support@000000000000")
    assert set(sys.modules) == before
