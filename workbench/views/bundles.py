"""Bundles for people: lists, one bundle, and what changed between two."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from workbench.versions.model import Bundle, BundleDiff, FileChange, PartChange, RegisteredBundle
from workbench.views.page import Column, Page, Section, page_html, page_text
from workbench.views.tables import WIDTH, rows_text, shown

SHORT = 12
"""Hex digits of a digest that are shown."""


def bundles_text(bundles: Sequence[RegisteredBundle], *, width: int = WIDTH) -> str:
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
    return rows_text(rows, empty="no bundles yet; `workbench bundle register DIR` or `workbench import` brings the first", width=width)


def registered_text(registered: RegisteredBundle) -> str:
    """What a registration did, what its name means now, and what is not pinned."""
    bundle = registered.bundle
    did = "registered" if registered.is_new else "known already, nothing changed:"
    lines = [f"{did} {bundle.name} as {bundle.bundle_id}", *_shared_name(registered)]
    if bundle.unpinned:
        lines += ["not pinned:", *(f"  - {sentence}" for sentence in bundle.unpinned)]
    return shown("\n".join(lines))


def _shared_name(registered: RegisteredBundle) -> Iterator[str]:
    """A warning when the name alone no longer says which bundle is meant."""
    bundle, others = registered.bundle, ", ".join(registered.namesakes)
    if others:
        means = f"meant {others} until now, and now also" if registered.is_new else f"means {others}, and also"
        yield (
            f"warning: `{bundle.name}` {means} {bundle.bundle_id}; alone it is refused from here on. "
            "Name a bundle by its id, or give this one a name of its own in bundle.yaml"
        )


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


def diff_text(diff: BundleDiff, *, parts: Collection[str] = (), width: int = WIDTH) -> str:
    """Which parts changed, with settings and the text of files; details of those parts only, where some are named."""
    return page_text(diff_page(diff, parts=parts), width=width)


def diff_stat_text(diff: BundleDiff, *, parts: Collection[str] = (), width: int = WIDTH) -> str:
    """One line for each part that changed: how many settings, files and lines of text; of those parts only, where some are named."""
    head = page_text(Page(title=_title(diff), lead=(_lead(diff),)), width=width)
    rows = diff_stat(diff, parts=parts)
    return f"{head}\n\n{rows_text(rows, width=width)}" if rows else head


def diff_stat(diff: BundleDiff, *, parts: Collection[str] = ()) -> list[dict[str, str | int]]:
    """How much changed in each part. Binary and large files count as files, but have no lines."""
    return [_stat(part) for part in diff.parts if not parts or part.name in parts]


def _stat(part: PartChange) -> dict[str, str | int]:
    counts = [_line_counts(change.diff) for change in part.files]
    return {
        "part": part.name,
        "change": part.kind,
        "settings": len(part.settings),
        "files": len(part.files),
        "lines added": sum(added for added, _ in counts),
        "lines removed": sum(removed for _, removed in counts),
    }


def _line_counts(diff: str) -> tuple[int, int]:
    """Lines that a unified text difference adds and removes; none where it is a sentence. The first two lines name the files."""
    lines = diff.split("\n")[2:] if diff.startswith("--- ") else []
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def diff_html(diff: BundleDiff) -> str:
    """The same as an HTML fragment."""
    return page_html(diff_page(diff))


def diff_page(diff: BundleDiff, *, parts: Collection[str] = ()) -> Page:
    """The difference as a page: one sentence, then a section per changed part.

    Args:
        diff: the difference.
        parts: names of the parts to detail; without any, all that changed.
    """
    detailed = (part for part in diff.parts if not parts or part.name in parts)
    return Page(title=_title(diff), lead=(_lead(diff),), sections=tuple(section for part in detailed for section in _part_sections(part)))


def _title(diff: BundleDiff) -> str:
    return f"{diff.old.name} ({diff.old.bundle_id}) → {diff.new.name} ({diff.new.bundle_id})"


def _lead(diff: BundleDiff) -> str:
    """Which parts changed and which did not, in one sentence."""
    if not diff.parts:
        labels = f"Only labels differ: {'; '.join(diff.labels)}. " if diff.labels else ""
        return f"{labels}The same: every part has the same digest."
    changed = [f"{part.name} ({part.kind})" if part.kind != "changed" else part.name for part in diff.parts]
    same = [name for name in diff.new.parts if name not in {part.name for part in diff.parts}]
    return f"Changed: {', '.join(changed)}." + (f" The same: {', '.join(same)}." if same else "")


def _part_sections(part: PartChange) -> list[Section]:
    head = Section(title=f"{part.name}: {part.kind}", lines=part.settings)
    return [head, *(_file_section(change) for change in part.files)]


def _file_section(change: FileChange) -> Section:
    path = change.path if change.old_path is None else f"{change.old_path} → {change.path}"
    kind = "moved, with the same content" if change.kind == "moved" else change.kind
    return Section(title=f"{path} ({kind})", literal=change.diff.rstrip("\n"))


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
