"""What the command-line library says of a slip in the words, said with what was written and what is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

_NEEDED = {"float_parsing": "a number, for example 0.5", "int_parsing": "a whole number, for example 3", "int_from_float": "a whole number"}
"""By pydantic's word for the fault."""


def explain(error: BaseException) -> None:
    """Add to the error of the command-line library what the user needs to go on; any other error stays as it is."""
    if isinstance(error, typer.BadParameter):
        if hasattr(error, "param_type"):
            _explain_missing(error)
        elif faults := getattr(error.__cause__, "errors", None):
            error.message = _value_words(faults()[0])
    elif _is_negative_number(getattr(error, "option_name", "")):
        error.message += (  # type: ignore[attr-defined]
            ": what begins with a hyphen is read as an option. Lengths of time have no sign, as in 90d; a number with one "
            "stands after =, as in --value=-1"
        )


def _explain_missing(error: typer.BadParameter) -> None:
    """What the missing option or argument is for, in the words of its help."""
    param: Any = error.param
    about = getattr(param, "help", None)
    if about and not error.message:
        named = f"{param.opts[0]} {param.metavar}: " if getattr(param, "metavar", None) and param.opts[0].startswith("-") else ""
        error.message = f"{named}{about}"


def _value_words(fault: Mapping[str, Any]) -> str:
    """What was given and what is needed, from a fault as pydantic describes it."""
    message = fault["msg"]
    return f"got {fault['input']!r}; needed: {_NEEDED.get(fault['type'], message[:1].lower() + message[1:])}"


def _is_negative_number(option: str) -> bool:
    return option[:1] == "-" and option[1:2].isdigit()
