"""What a spec found wrong, said in plain words: from pydantic's findings to one sentence each, with line and path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from workbench.spec.document import Document, Fault, Path, shorten

_SECRET = re.compile(r"(^|[_-])(token|secret|password|passwd|passphrase|credential|key)s?($|[_-])", re.IGNORECASE)

_NEEDED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "date_type": "a day such as 2026-10-31",
    "date_parsing": "a day such as 2026-10-31",
    "date_from_datetime_parsing": "a day such as 2026-10-31",
    "date_from_datetime_inexact": "a day without a time of day, such as 2026-10-31",
    "time_type": "a time of day such as 18:30",
    "time_parsing": "a time of day such as 18:30",
    "datetime_type": "a day and time such as 2026-10-31T18:30",
    "datetime_parsing": "a day and time such as 2026-10-31T18:30",
    "datetime_from_date_parsing": "a day and time such as 2026-10-31T18:30",
    "timezone_aware": "a time with its offset, such as 2026-10-31T18:30+01:00",
    "timezone_naive": "a time without an offset",
}


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known word that was most likely meant, or None when none is near."""
    lowered = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(word.casefold(), lowered, n=1, cutoff=cutoff)
    return lowered[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean "metric"?` where a known word is near, else the known words, else nothing."""
    words = sorted(known)
    near = nearest(word, words)
    if near is not None:
        return f'; did you mean "{near}"?'
    return f"; known: {shorten(', '.join(words), 200)}" if words else ""


def path_text(path: Path) -> str:
    """The path as people write it: `gates[2].at_least`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{shorten(step)}"
    return text


def faults_of(errors: Sequence[ErrorDetails], *, model: type[BaseModel], document: Document) -> list[Fault]:
    """One fault per wrong place. What several branches of a union say of one value becomes one sentence."""
    mistyped: dict[tuple[Path, str], list[str]] = {}
    others: dict[tuple[Path, str], str] = {}
    for error in errors:
        if error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]:
            continue  # pydantic counts the entries that are right; each wrong one has its own finding
        finding = _Finding(error=error, path=_path_in(document.value, error), model=model, document=document)
        if error["type"] in _NEEDED:
            mistyped.setdefault((finding.path, finding.seen), []).append(_NEEDED[error["type"]])
        else:
            others[finding.path, _sentence(finding)] = error["type"]
    faults = [
        Fault(line=document.line_of(path), path=path, text=f"got {seen}; needed {_either(needed)}{_quote_hint(path, needed, document)}")
        for (path, seen), needed in mistyped.items()
    ]
    faults += [
        Fault(line=document.line_of(path, is_key=kind == "extra_forbidden"), path=path, text=text) for (path, text), kind in others.items()
    ]
    return sorted(faults, key=lambda fault: (fault.line or 0, path_text(fault.path)))


def _either(needed: list[str]) -> str:
    words = list(dict.fromkeys(needed))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    return " or ".join(words)


def _quote_hint(path: Path, needed: list[str], document: Document) -> str:
    place = document.places.get(path)
    if "text" in needed and place is not None and place.text and place.is_plain:
        return f': put it in quotes, "{shorten(place.text)}"' if not _is_secret(path) else ": put it in quotes"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """One of pydantic's findings with what it takes to put it into words."""

    error: ErrorDetails
    path: Path
    model: type[BaseModel]
    document: Document

    @property
    def context(self) -> Mapping[str, Any]:
        return self.error.get("ctx", {})

    @property
    def seen(self) -> str:
        return _seen(self.error["input"], self.path, self.document)

    @property
    def key(self) -> str:
        return str(self.path[-1])


def _sentence(finding: _Finding) -> str:
    error = finding.error
    if error["loc"] and error["loc"][-1] == "[key]":
        return f"this key is not allowed; needed {_pattern_words(finding.context)}"
    words = _SENTENCES.get(error["type"])
    return words(finding) if words is not None else f"got {finding.seen}; {shorten(error['msg'], 200)}"


def _unknown_key(finding: _Finding) -> str:
    return f"unknown key {_quoted(finding.key)}{suggestion(finding.key, _allowed_keys(finding))}"


def _out_of_range(finding: _Finding) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    limits = " and ".join(f"{words[key]} {value:g}" for key, value in finding.context.items() if key in words)
    return f"got {finding.seen}; needed {limits}"


def _own_words(finding: _Finding) -> str:
    """The sentence of a spec's own check; not where it could repeat a secret."""
    return "not an allowed value (hidden)" if _is_secret(finding.path) else shorten(finding.error["msg"].removeprefix("Value error, "), 300)


def _not_a_choice(finding: _Finding) -> str:
    return f"got {finding.seen}; {_choices(finding.error['input'], str(finding.context.get('expected', '')))}"


def _not_a_tag(finding: _Finding) -> str:
    tag = str(finding.context.get("tag", ""))
    return f"got {_quoted(tag)}; {_choices(tag, str(finding.context.get('expected_tags', '')))}"


_SENTENCES: dict[str, Callable[[_Finding], str]] = {
    "missing": lambda finding: f"missing{_description(finding)}",
    "extra_forbidden": _unknown_key,
    "literal_error": _not_a_choice,
    "enum": _not_a_choice,
    "union_tag_invalid": _not_a_tag,
    "union_tag_not_found": lambda finding: f"missing; {_tags_of(finding)}",
    "greater_than_equal": _out_of_range,
    "greater_than": _out_of_range,
    "less_than_equal": _out_of_range,
    "less_than": _out_of_range,
    "too_short": lambda finding: f"got {finding.context['actual_length']} entries; needed at least {finding.context['min_length']}",
    "string_too_short": lambda finding: f"got {finding.seen}; needed text that is not empty",
    "string_pattern_mismatch": lambda finding: f"got {finding.seen}; needed {_pattern_words(finding.context)}",
    "value_error": _own_words,
}


_PATTERNS = {
    r"^[a-z][a-z0-9_-]{0,62}$": "a name of lower-case letters, digits, _ and -, beginning with a letter, at most 63 long",
    r"^sha256:[0-9a-f]{64}$": "sha256: and 64 hexadecimal digits",
    r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$": "a module and a callable in it, as in shop.support:open_tools",
}


def _pattern_words(context: Mapping[str, Any]) -> str:
    pattern = str(context.get("pattern", ""))
    return _PATTERNS.get(pattern, f"text that matches {pattern}")


def _quoted(text: str) -> str:
    return f'"{shorten(text)}"'


def _is_secret(path: Path) -> bool:
    return any(isinstance(step, str) and _SECRET.search(step) for step in path)


def _seen(value: object, path: Path, document: Document) -> str:
    """The value in short form; its text as it stands in the file, hidden under a key that names a secret."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if value is None:
        return "nothing"
    if _is_secret(path):
        return "a hidden value"
    if isinstance(value, str):
        return _quoted(value)
    place = document.places.get(path)
    text = place.text if place is not None and place.text else str(value)
    return shorten(text.lower() if isinstance(value, bool) else text)


def _choices(value: object, expected: str) -> str:
    options = re.findall(r"'([^']*)'", expected)
    if not options:
        return f"needed {expected}"
    near = nearest(value, options) if isinstance(value, str) else None
    return f"allowed: {', '.join(options)}" + (f'; did you mean "{near}"?' if near else "")


def _path_in(value: object, error: ErrorDetails) -> Path:
    """The path of the finding in the document: its location without the names of union branches."""
    steps = error["loc"]
    if steps and steps[-1] == "[key]":
        return steps[:-1]
    walks = _walks(value, steps, is_absent=error["type"] == "missing", is_last_used=True)
    path = max(walks, key=lambda walk: (walk[0], len(walk[1])))[1]
    if error["type"].startswith("union_tag_"):
        return (*path, str(error["ctx"]["discriminator"]).strip("'"))
    return path


def _walks(value: object, steps: Sequence[int | str], *, is_absent: bool, is_last_used: bool) -> Iterator[tuple[bool, Path]]:
    """Every way to follow the steps, each either into the value or passed over as a branch's name; true where the last one is used."""
    if not steps:
        yield is_last_used, ()
        return
    step, rest = steps[0], steps[1:]
    if is_absent and not rest:
        yield isinstance(value, Mapping) and step not in value, (step,)
        return
    is_inside = step in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(step, int) and step < len(value)
    if is_inside:
        for is_good, path in _walks(_child(value, step), rest, is_absent=is_absent, is_last_used=True):
            yield is_good, (step, *path)
    yield from _walks(value, rest, is_absent=is_absent, is_last_used=False)


def _child(value: object, step: int | str) -> object:
    if isinstance(value, Mapping):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


def _members(annotation: object) -> Iterator[object]:
    """The types that an annotation admits, unions taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _models_at(annotations: Iterable[object], path: Path, value: object) -> list[type[BaseModel]]:
    """The models that may stand at the path; of tagged ones only those whose tag the value carries, when it carries one."""
    members = [member for annotation in annotations for member in _members(annotation)]
    models = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
    models = [model for model in models if _has_tag_of(model, value)] or models
    if not path:
        return models
    step = path[0]
    inner: list[object] = [model.model_fields[step].annotation for model in models if isinstance(step, str) and step in model.model_fields]
    inner += [get_args(member)[0] for member in members if get_origin(member) in {tuple, list}]
    inner += [get_args(member)[1] for member in members if get_origin(member) is dict]
    return _models_at(inner, path[1:], _child(value, step))


def _has_tag_of(model: type[BaseModel], value: object) -> bool:
    if not isinstance(value, Mapping):
        return True
    tags = {name: get_args(info.annotation) for name, info in model.model_fields.items() if get_origin(info.annotation) is Literal}
    return all(value[name] in options for name, options in tags.items() if len(options) == 1 and name in value)


def _allowed_keys(finding: _Finding) -> set[str]:
    models = _models_at([finding.model], finding.path[:-1], finding.document.value)
    return {name for model in models for name in model.model_fields}


def _description(finding: _Finding) -> str:
    """`; needed: …` from the docstring under the field."""
    for model in _models_at([finding.model], finding.path[:-1], finding.document.value):
        info = model.model_fields.get(finding.key)
        if info is not None and info.description:
            return "; needed: " + shorten(" ".join(info.description.split()), 160)
    return ""


def _tags_of(finding: _Finding) -> str:
    """The tags among which the value must choose: `path` ends with the tag's key."""
    models = _models_at([finding.model], finding.path[:-1], finding.document.value)
    return "allowed: " + ", ".join(str(tag) for model in models for tag in get_args(model.model_fields[finding.key].annotation))
