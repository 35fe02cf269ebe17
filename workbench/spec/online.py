"""`online.yaml`: which scorers judge live answers, and how many of them.

    sample: 0.2
    code: [scorers/rules.py]
    scorers:
      - {name: quality, entry: "scorers.rules:answer_quality"}

Both arms of a canary are scored alike: by the same code, with the same probability. A score named `quality` is what `quality_mean` reads.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from workbench.spec.app import Entry
from workbench.spec.base import Duration, Name, PositiveShare, Spec, Text, format_duration, twice

LONGEST = timedelta(seconds=30)
"""That a scorer may take for one answer."""


def _python_file(path: str) -> str:
    """The path, when it is a Python file's below the app folder.

    Raises:
        ValueError: otherwise.
    """
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or not path.endswith(".py") or PurePosixPath(path).as_posix() != path:
        raise ValueError(f"{path} is no Python file below the app folder; write for example scorers/rules.py")
    return path


CodeFile = Annotated[Text, AfterValidator(_python_file)]


class ScorerSpec(Spec):
    """One scorer: a callable that looks at an answer and gives a number from 0 to 1, a label, or nothing."""

    name: Name
    """Of the score; `quality` is what the metric `quality_mean` reads."""
    entry: Entry
    """`package.module:callable` in the files of `code`."""
    timeout: Duration = Field(default=timedelta(seconds=2), json_schema_extra={"default": "2s"})
    """After that long an answer stays without this score. At most 30s."""

    @model_validator(mode="after")
    def _soon_enough(self) -> Self:
        if self.timeout > LONGEST:
            raise ValueError(f"timeout: got {format_duration(self.timeout)}; a scorer may take {format_duration(LONGEST)} at most")
        return self


class OnlineSpec(Spec):
    """How live answers of an app are scored."""

    sample: PositiveShare
    """Probability with which an answer is scored, the same for each bundle and arm."""
    scorers: Annotated[tuple[ScorerSpec, ...], Field(min_length=1)]
    code: Annotated[tuple[CodeFile, ...], Field(min_length=1)]
    """The Python files of the scorers, relative to the app folder. Only these are there when a scorer runs."""
    files: SkipJsonSchema[dict[str, str]] = Field(default_factory=dict)
    """What the files of `code` hold, put in when they are declared, so that everybody who scores has the same; nobody writes it."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if again := twice([scorer.name for scorer in self.scorers]):
            raise ValueError(f"scorers: {', '.join(again)} is declared more than once")
        if again := twice(list(self.code)):
            raise ValueError(f"code: {', '.join(again)} stands there more than once")
        return self

    @model_validator(mode="after")
    def _entries_are_there(self) -> Self:
        modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in self.code}
        for scorer in self.scorers:
            module = scorer.entry.partition(":")[0]
            if module not in modules:
                raise ValueError(f"scorers: {scorer.name}: code has no file of the module {module}; it has {', '.join(sorted(modules))}")
        return self
