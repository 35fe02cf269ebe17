"""From what somebody typed after a slash command to what they ask for. Pure.

Text from a chat is not text from a shell: telephones write curly quotes and long dashes, Slack writes mentions as `<@U…>`, links
as `<…|…>` and three characters as entities, and nobody quotes a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bot.commands import HELP, Argument, Command, Kind, Option, Verb
from workbench.errors import UsageError
from workbench.spec.base import is_steering
from workbench.spec.faults import nearest

_PLAIN = str.maketrans(dict.fromkeys("“”„‟«»″", '"') | dict.fromkeys("‘’‚‛′", "'") | dict.fromkeys("\u200b\u2060\ufeff", ""))
_LONG_DASH = re.compile(r"^[–—―](?=[a-z])")
_OPTION = re.compile(r"--([a-z][a-z-]*)(?:=(.*))?", re.DOTALL)
_REFERENCE = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_MENTION = re.compile(r"<@([UW][A-Z0-9]+)>")
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for."""

    act: str
    """For example `release.start`."""
    arguments: Mapping[str, str]
    """Arguments and options by name, as typed; a flag that stands there is `yes`."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, or several in quotes."""

    text: str
    is_quoted: bool = False


def read(command: Command, text: str) -> Request | None:
    """What the text asks for; None when it asks for help.

    Args:
        command: the slash command.
        text: what stands behind it, as Slack sends it.

    Raises:
        UsageError: it cannot be understood; the message shows what was meant, or how the command is used.
    """
    words = list(split(text))
    if not words or words[0].text.lower() == HELP:
        return None
    verb, rest = _verb(command, words)
    values = _values(command, verb, rest)
    missing = [name for name in verb.required if not values.get(name)]
    if missing:
        raise _misread(command, verb, f"{', '.join(missing)} is missing")
    return Request(act=command.act(verb), arguments=values)


def split(text: str) -> Iterator[Word]:
    """The words of a text from Slack, in plain characters.

    A quote counts only where a word begins and if the same one ends a word later on: an apostrophe is an apostrophe.
    """
    plain = "".join(" " if is_steering(each) else each for each in _REFERENCE.sub(_reference, text).translate(_PLAIN))
    rest = plain.lstrip()
    while rest:
        quoted = re.match(r"""(["'])(.*?)\1(?=\s|$)""", rest, re.DOTALL)
        found = quoted[0] if quoted else rest.split(maxsplit=1)[0]
        yield Word(_unescaped(quoted[2]), is_quoted=True) if quoted else Word(_unescaped(_LONG_DASH.sub("--", found)))
        rest = rest[len(found) :].lstrip()


def slack_id(text: str) -> str | None:
    """The user id of a mention, None for any other text."""
    found = _MENTION.fullmatch(text)
    return found[1] if found else None


def _unescaped(text: str) -> str:
    """The text as its author typed it."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _reference(found: re.Match[str]) -> str:
    """What people see of a link; a mention stays as `<@U…>`, without the name that Slack may add."""
    target, label = found[1], found[2]
    if target.startswith("@"):
        return f"<{target}>"
    if target.startswith(("#", "!")):
        return label or f"<{target}>"
    return label or target.removeprefix("mailto:")


def _verb(command: Command, words: Sequence[Word]) -> tuple[Verb, Sequence[Word]]:
    """The verb, and the words after it."""
    if len(command.verbs) == 1 and not command.verbs[0].name:
        return command.verbs[0], words
    said = words[0].text
    try:
        return command.verb(said.lower()), words[1:]
    except KeyError:
        known = [verb.name for verb in command.verbs]
        near = nearest(said, known)
        hint = f'did you mean "{near}"?' if near else f"there are: {', '.join(known)}"
        raise UsageError(
            f"/{command.name} {said}", seen=f"there is no such thing; {hint}", next_step=f"see `/{command.name} {HELP}`"
        ) from None


def _values(command: Command, verb: Verb, words: Sequence[Word]) -> dict[str, str]:
    """Arguments and options by name."""
    place, left = 0, list(verb.arguments)
    values: dict[str, str] = {}
    while place < len(words):
        option = None if words[place].is_quoted else _OPTION.fullmatch(words[place].text)
        if option:
            name, value, place = _option(command, verb, words, place, option)
            if name in values:
                raise _misread(command, verb, f"--{name} stands there twice")
        else:
            name, value, place = _argument(command, verb, words, place, left)
        values[name] = value
    return values


def _option(command: Command, verb: Verb, words: Sequence[Word], place: int, found: re.Match[str]) -> tuple[str, str, int]:
    """The option's name, its value, and where the next word stands."""
    known = {option.name: option for option in verb.options}
    option = known.get(found[1])
    if option is None:
        near = nearest(found[1], known)
        raise _misread(command, verb, f'there is no "--{found[1]}"' + (f'; did you mean "--{near}"?' if near else ""))
    if option.kind is Kind.FLAG:
        if found[2] is not None:
            raise _misread(command, verb, f"--{option.name} takes no value")
        return option.name, "yes", place + 1
    given = [Word(found[2])] if found[2] else []
    value, after = _value(option, words, place + 1, given)
    if not value:
        raise _misread(command, verb, f"--{option.name} has no value")
    if len(value) > _LONGEST_TEXT:
        raise _misread(command, verb, f"--{option.name} has {len(value):,} characters; {_LONGEST_TEXT:,} are allowed")
    return option.name, value, after


def _value(option: Option, words: Sequence[Word], place: int, given: list[Word]) -> tuple[str, int]:
    """The value, one word or all up to the next option, and where the next word stands."""
    wanted = len(words) if option.kind is Kind.TEXT else 1
    while place < len(words) and len(given) < wanted and (words[place].is_quoted or not _OPTION.fullmatch(words[place].text)):
        given.append(words[place])
        place += 1
    return " ".join(word.text for word in given).strip(), place


def _argument(command: Command, verb: Verb, words: Sequence[Word], place: int, left: list[Argument]) -> tuple[str, str, int]:
    """The next argument's name, its value, and where the next word stands; it is taken from those that are left."""
    if not left:
        raise _misread(command, verb, f'"{words[place].text}" is one word too many')
    argument = left.pop(0)
    if argument.after:
        if words[place] != Word(argument.after):
            raise _misread(command, verb, f'"{words[place].text}" stands where "{argument.after} {argument.name.upper()}" is expected')
        place += 1
        if place == len(words):
            raise _misread(command, verb, f'nothing stands after "{argument.after}"')
    return argument.name, words[place].text, place + 1


def _misread(command: Command, verb: Verb, seen: str) -> UsageError:
    return UsageError(f"/{command.name} {verb.name}".strip(), seen=seen, next_step=f"usage: `{command.usage(verb)}`")
