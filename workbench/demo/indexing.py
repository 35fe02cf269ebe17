"""Builds the search indexes that the demo's bundles carry: `python -m workbench.demo.indexing` writes those that changed.

An index follows from the bundle's own `retrieval` part (sources, `params.fields`, `params.stem`) and from the assistant's code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from workbench.controls.modules import load_module
from workbench.demo.resources import demo_folder
from workbench.errors import SpecError
from workbench.spec.bundle import BundleSpec
from workbench.spec.loading import load_spec
from workbench.versions.canonical import digest


def index_content(bundle_folder: Path) -> bytes | None:
    """The index file of a bundle, one word a line; None when the bundle uses another bundle's index or none."""
    spec = load_spec(BundleSpec, bundle_folder / "bundle.yaml")
    retrieval = spec.retrieval
    if retrieval is None or retrieval.index is None or retrieval.index.file is None or "/" in retrieval.index.file:
        return None
    articles = [
        json.loads(line)
        for source in retrieval.sources
        if source.file is not None
        for line in (bundle_folder / source.file).read_text(encoding="utf-8").splitlines()
    ]
    if not articles:
        raise SpecError(f"{bundle_folder / 'bundle.yaml'}: retrieval.sources", seen="no articles", needed="a file with one article a line")
    code = {f"assistant/{path.name}": path.read_bytes() for path in sorted((demo_folder() / "assistant").glob("*.py"))}
    module = load_module(
        "assistant.retrieval", code, digest=digest({path: content.decode() for path, content in code.items()}), subject="demo index"
    )
    index = module.build_index(articles, fields=retrieval.params["fields"], stem=retrieval.params["stem"])
    return _lines(index)


def _lines(index: dict[str, object]) -> bytes:
    """JSON with one entry of each collection per line, so that a diff of two indexes can be read."""

    def compact(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    documents, postings = index["documents"], index["postings"]
    assert isinstance(documents, list)  # noqa: S101  narrows the type for the checker
    assert isinstance(postings, dict)  # noqa: S101
    text = (
        f'{{"fields":{compact(index["fields"])},"stem":{compact(index["stem"])},\n"documents":[\n'
        + ",\n".join(compact(document) for document in documents)
        + '\n],\n"postings":{\n'
        + ",\n".join(f"{compact(word)}:{compact(entries)}" for word, entries in postings.items())
        + "\n}}\n"
    )
    return text.encode()


def main() -> None:
    """Write the index of every demo bundle whose content changed, and say which."""
    for spec in sorted((demo_folder() / "bundles").glob("*/bundle.yaml")):
        content = index_content(spec.parent)
        path = spec.parent / "index.json"
        if content is not None and (not path.exists() or path.read_bytes() != content):
            path.write_bytes(content)
            sys.stdout.write(f"{path}: {len(content):,} bytes\n")


if __name__ == "__main__":
    main()
