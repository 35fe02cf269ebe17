"""Specs from files, or every fault at once: `gates.yaml:14: gates[2].at_least: got "high"; needed a number`."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from workbench.errors import SpecError
from workbench.spec.agreement import Disagreement, disagreements
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.document import Document, Fault, read_document, shorten
from workbench.spec.document import Path as FaultPath
from workbench.spec.faults import faults_of, nearest, path_text
from workbench.spec.gates import GatesSpec
from workbench.spec.metrics import MetricsSpec
from workbench.spec.online import OnlineSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec
from workbench.spec.slo import SloSpec

MAX_BYTES = 1024 * 1024
"""Largest file that is read as a spec."""

S = TypeVar("S", bound=Spec)

_STARTER = "`workbench init DIR` writes a starter app that shows every key"
_OPTIONAL = ("people.yaml", "gates.yaml", "plan.yaml", "rota.yaml", "slo.yaml", "metrics.yaml", "online.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFolder:
    """What an app's folder declares. A file that is not there is None."""

    folder: Path
    app: AppSpec
    people: PeopleSpec | None = None
    gates: GatesSpec | None = None
    plan: PlanSpec | None = None
    rota: RotaSpec | None = None
    slo: SloSpec | None = None
    metrics: MetricsSpec | None = None
    online: OnlineSpec | None = None


def load_spec(model: type[S], path: Path) -> S:
    """The spec that the file holds.

    Raises:
        SpecError: when the file cannot be read or anything in it is wrong; `seen` has one line per fault.
    """
    spec, _, faults = _read(model, path)
    if spec is None:
        raise _spec_error(path, [_line(path.name, fault) for fault in faults])
    return spec


def parse_spec(
    model: type[S],
    name: str,
    content: bytes,
    *,
    subject: str = "",
    check: Callable[[S], Iterable[tuple[FaultPath, str]]] = lambda _spec: (),
) -> S:
    """The spec that a file's content holds.

    Args:
        model: what it has to be.
        name: of the file, for the message.
        content: its bytes.
        subject: what the message is about; the file where that is empty.
        check: finds what disagrees with other files, as the path in this one and a sentence.

    Raises:
        SpecError: when anything in it is wrong; `seen` has one line per fault.
    """
    text, fault = _decoded(content)
    if fault is None:
        spec, document, faults = _read_text(model, text)
        if spec is not None:
            faults = [Fault(line=document.line_of(path), path=path, text=said) for path, said in check(spec)]
        if spec is not None and not faults:
            return spec
    else:
        faults = [fault]
    raise SpecError(subject or name, seen="\n".join(_line(name, fault) for fault in faults))


def load_app_folder(folder: Path) -> AppFolder:
    """All specs of an app's folder, checked one by one and against each other.

    Raises:
        SpecError: with the faults of all files; `seen` has one line per fault, each with its file and line.
    """
    if not folder.is_dir():
        raise SpecError(str(folder), seen="no such folder" if not folder.exists() else "is a file, not a folder", next_step=_STARTER)
    reading = _Reading(folder)
    app = reading.read(AppSpec, "app.yaml")
    people = reading.read_if_there(PeopleSpec, "people.yaml")
    gates = reading.read_if_there(GatesSpec, "gates.yaml")
    plan = reading.read_if_there(PlanSpec, "plan.yaml")
    rota = reading.read_if_there(RotaSpec, "rota.yaml")
    slo = reading.read_if_there(SloSpec, "slo.yaml")
    metrics = reading.read_if_there(MetricsSpec, "metrics.yaml")
    online = reading.read_if_there(OnlineSpec, "online.yaml")
    reading.look_for_misnamed_files()
    if app is not None:
        reading.look_for_foreign_bundles(app.app)
    reading.note(disagreements(app=app, people=people, gates=gates, plan=plan, rota=rota, slo=slo, metrics=metrics))
    if app is None or reading.lines:
        raise _spec_error(folder, reading.lines)
    return AppFolder(folder=folder, app=app, people=people, gates=gates, plan=plan, rota=rota, slo=slo, metrics=metrics, online=online)


class _Reading:
    """One pass over an app's folder: the documents read so far and a line for each fault."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._documents: dict[str, Document] = {}
        self.lines: list[str] = []

    def read(self, model: type[S], name: str) -> S | None:
        spec, document, faults = _read(model, self._folder / name)
        self._documents[name] = document
        self.lines += [_line(name, fault) for fault in faults]
        return spec

    def read_if_there(self, model: type[S], name: str) -> S | None:
        path = self._folder / name
        return self.read(model, name) if path.exists() or path.is_symlink() else None

    def note(self, found: Iterable[Disagreement]) -> None:
        for each in found:
            line = self._documents[each.file].line_of(each.path)
            self.lines.append(_line(each.file, Fault(line=line, path=each.path, text=each.text)))

    def look_for_misnamed_files(self) -> None:
        """Report `gate.yaml` or `people.yml`: what is meant as a spec must not be passed over in silence."""
        absent = [name for name in _OPTIONAL if not (self._folder / name).exists()]
        for path in sorted(self._folder.iterdir()):
            meant = (
                nearest(path.name, absent, cutoff=0.85) if path.suffix in {".yaml", ".yml"} and path.name not in self._documents else None
            )
            if meant is not None:
                self.lines.append(f'{path.name}: nothing reads a file of this name; did you mean "{meant}"? rename it')

    def look_for_foreign_bundles(self, app: str) -> None:
        for path in sorted(self._folder.glob("bundles/*/bundle.yaml")):
            text, fault = _text_of(path)
            document = read_document(text) if fault is None else Document()
            named = document.value.get("app") if isinstance(document.value, dict) else None
            if isinstance(named, str) and named != app:
                fault = Fault(line=document.line_of(("app",)), path=("app",), text=f'got "{shorten(named)}"; app.yaml says "{app}"')
                self.lines.append(_line(str(path.relative_to(self._folder)), fault))


def _read(model: type[S], path: Path) -> tuple[S | None, Document, list[Fault]]:
    """The spec, or None and its faults; the document is there either way."""
    text, fault = _text_of(path)
    return (None, Document(), [fault]) if fault is not None else _read_text(model, text)


def _read_text(model: type[S], text: str) -> tuple[S | None, Document, list[Fault]]:
    document = read_document(text)
    if document.value is None and not document.faults:
        return None, document, [Fault(line=None, text=f"is empty; {_STARTER}")]
    if document.value is not None and not isinstance(document.value, dict):
        what = "a list" if isinstance(document.value, list) else "a single value"
        return (
            None,
            document,
            [*document.faults, Fault(line=1, text=f"got {what}; needed a mapping (key: value) with the keys {_keys(model)}")],
        )
    try:
        spec = model.model_validate(document.value) if document.value is not None else None
    except ValidationError as error:
        found = faults_of(error.errors(include_url=False), model=model, document=document)
        told = [fault.path for fault in document.faults]
        news = [fault for fault in found if not any(path[: len(fault.path)] == fault.path for path in told)]
        return None, document, sorted([*document.faults, *news], key=lambda fault: fault.line or 0)
    return (None if document.faults else spec), document, document.faults


def _text_of(path: Path) -> tuple[str, Fault | None]:
    """The file's text without a byte-order mark, or why it cannot be had."""
    try:
        content = _content_of(path)
    except FileNotFoundError:
        return "", Fault(line=None, text=_missing(path))
    except OSError as error:
        return "", Fault(line=None, text=f"cannot be read: {error.strerror or error}")
    return ("", Fault(line=None, text=content)) if isinstance(content, str) else _decoded(content)


def _decoded(content: bytes) -> tuple[str, Fault | None]:
    if len(content) > MAX_BYTES:
        return "", Fault(line=None, text=f"is larger than {MAX_BYTES // 1024} KiB, which no spec needs")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "", Fault(line=None, text="is UTF-16; save it as UTF-8")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8"), None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return "", Fault(line=line, text=f"holds the byte 0x{content[error.start]:02x}, which is not UTF-8; save it as UTF-8")


def _content_of(path: Path) -> bytes | str:
    """The file's bytes, or a sentence that says why they cannot be a spec."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        return "is a folder; needed a file" if stat.S_ISDIR(mode) else "is not a regular file"
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _missing(path: Path) -> str:
    beside = [other.name for other in path.parent.iterdir() if other.is_file()] if path.parent.is_dir() else []
    near = nearest(path.name, beside, cutoff=0.85)
    return f"no such file; {near} is there: rename it" if near else f"no such file; {_STARTER}"


def _keys(model: type[Spec]) -> str:
    return ", ".join(model.model_fields)


def _line(name: str, fault: Fault) -> str:
    where = name if fault.line is None else f"{name}:{fault.line}" if fault.column is None else f"{name}:{fault.line}:{fault.column}"
    return f"{where}: {path_text(fault.path)}: {fault.text}" if fault.path else f"{where}: {fault.text}"


def _spec_error(subject: Path, lines: Sequence[str]) -> SpecError:
    return SpecError(str(subject), seen="\n".join(lines))
