"""Bundles for people: lists, one bundle, and what changed between two."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.versions.model import Bundle, BundleDiff, FileChange, PartChange, RegisteredBundle
from workbench.views.page import Column, Page, Section, page_html, page_text
from workbench.views.tables import WIDTH, rows_text, shown

SHORT = 12
"""Hex digits of a digest that are shown."""


def bundles_text(bundles: Sequence[RegisteredBundle]) -> str:
    """One line per registered bundle, in the order given."""
    rows = [
        {
            "bundle": known.bundle.bundle_id,
            "name": known.bundle.name,
            "registered": known.registered_at,
            "by": known.registered_by,
            "external": ", ".join(known.bundle.external) or None,
            "not pinned": len(known.bundle.unpinned),
        }
        for known in bundles
    ]
    return rows_text(rows, empty="no bundles yet; `workbench bundle register DIR` or `workbench import` brings the first")


def registered_text(registered: RegisteredBundle) -> str:
    """What a registration did, and what is not pinned."""
    bundle = registered.bundle
    did = "registered" if registered.is_new else "known already, nothing changed:"
    lines = [f"{did} {bundle.name} as {bundle.bundle_id}"]
    if bundle.unpinned:
        lines += ["not pinned:", *(f"  - {sentence}" for sentence in bundle.unpinned)]
    return shown("\n".join(lines))


def bundle_text(bundle: Bundle, *, width: int = WIDTH) -> str:
    """One bundle with its parts and their digests."""
    return page_text(bundle_page(bundle), width=width)


def bundle_html(bundle: Bundle) -> str:
    """The same as an HTML fragment."""
    return page_html(bundle_page(bundle))


def bundle_page(bundle: Bundle) -> Page:
    """One bundle as a page: parts, what the client runs itself, what is not pinned."""
    rows = tuple(
        (name, _short(part.digest), "run by the client" if name in bundle.external else "", ", ".join(_files(part.content)))
        for name, part in bundle.parts.items()
    )
    columns = tuple(Column(title=title) for title in ("part", "digest", "note", "files"))
    return Page(
        title=f"{bundle.name} ({bundle.bundle_id})",
        sections=(
            Section(title="Parts", columns=columns, rows=rows),
            Section(title="Not pinned", lines=bundle.unpinned or ("Nothing: the digest decides the behaviour.",)),
        ),
        footer=(bundle.digest,),
    )


def diff_text(diff: BundleDiff, *, width: int = WIDTH) -> str:
    """Which parts changed, with settings and the text of files."""
    return page_text(diff_page(diff), width=width)


def diff_html(diff: BundleDiff) -> str:
    """The same as an HTML fragment."""
    return page_html(diff_page(diff))


def diff_page(diff: BundleDiff) -> Page:
    """The difference as a page: one sentence, then a section per changed part."""
    title = f"{diff.old.name} ({diff.old.bundle_id}) → {diff.new.name} ({diff.new.bundle_id})"
    if not diff.parts:
        labels = f"Only labels differ: {'; '.join(diff.labels)}. " if diff.labels else ""
        return Page(title=title, lead=(f"{labels}The same: every part has the same digest.",))
    changed = [f"{part.name} ({part.kind})" if part.kind != "changed" else part.name for part in diff.parts]
    same = [name for name in diff.new.parts if name not in {part.name for part in diff.parts}]
    lead = f"Changed: {', '.join(changed)}." + (f" The same: {', '.join(same)}." if same else "")
    return Page(title=title, lead=(lead,), sections=tuple(section for part in diff.parts for section in _part_sections(part)))


def _part_sections(part: PartChange) -> list[Section]:
    head = Section(title=f"{part.name}: {part.kind}", lines=part.settings)
    return [head, *(_file_section(change) for change in part.files)]


def _file_section(change: FileChange) -> Section:
    return Section(title=f"{change.path} ({change.kind})", literal=change.diff.rstrip("\n"))


def _files(content: object) -> list[str]:
    """Paths of the files in a part, in the order of its content."""
    if isinstance(content, dict):
        if isinstance(content.get("file"), str) and "sha256" in content:
            return [content["file"]]
        return [path for value in content.values() for path in _files(value)]
    if isinstance(content, list | tuple):
        return [path for value in content for path in _files(value)]
    return []


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]
