"""What can be asked of the bot: one table, from which the parser, the help, Slack's manifest and the console's completion are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the value of an option is; how it is shown where the command is explained."""

    TEXT = '"…"'
    """Words up to the next option; quotes are welcome and not needed."""
    MOMENT = "TIME"
    """A time on the rota's clock or with its offset, or a span such as `4h`."""
    NUMBER = "N"
    FLAG = ""
    """Stands without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A value that is known by its place."""

    name: str
    is_required: bool = True
    after: str = ""
    """The word that must stand before it, as in `to v1`."""

    @property
    def usage(self) -> str:
        text = f"{self.after} {self.name.upper()}".strip()
        return text if self.is_required else f"[{text}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A value that is known by its name."""

    name: str
    kind: Kind
    is_required: bool = False

    @property
    def usage(self) -> str:
        text = f"--{self.name} {self.kind}".strip()
        return text if self.is_required else f"[{text}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing that can be asked for."""

    name: str
    """Empty where the command has only one."""
    help: str
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...] = ()
    while_working: str = ""
    """What is said at once where the answer takes seconds."""

    @property
    def usage(self) -> str:
        """`start APP [BUNDLE] --reason "…"`."""
        parts = [self.name, *(argument.usage for argument in self.arguments), *(option.usage for option in self.options)]
        return " ".join(part for part in parts if part)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of what must be given."""
        arguments = [argument.name for argument in self.arguments if argument.is_required]
        return (*arguments, *(option.name for option in self.options if option.is_required))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A slash command with its verbs."""

    name: str
    help: str
    verbs: tuple[Verb, ...]

    def verb(self, name: str) -> Verb:
        """The verb of this name.

        Raises:
            KeyError: there is none.
        """
        return {verb.name: verb for verb in self.verbs}[name]

    def act(self, verb: Verb) -> str:
        """The name under which the bot knows what was asked for, for example `release.start`."""
        return f"{self.name}.{verb.name}" if verb.name else self.name

    def usage(self, verb: Verb) -> str:
        """`/release start APP [BUNDLE] --reason "…"`."""
        return f"/{self.name} {verb.usage}"

    @property
    def hint(self) -> str:
        """What Slack shows beside the command while somebody types."""
        names = "|".join(verb.name for verb in self.verbs)
        return f"{names} …" if names else self.verbs[0].usage


HELP = "help"
"""Understood after every command; so is nothing at all."""

_APP = Argument(name="app")
_RELEASE = Argument(name="release")  # its id, or the app whose open release is meant
_REASON = Option(name="reason", kind=Kind.TEXT, is_required=True)
_STEAL = Option(name="steal", kind=Kind.FLAG)

RELEASE = Command(
    name="release",
    help="Release an app step by step",
    verbs=(
        Verb(
            name="start",
            help="review the bundle (by default the newest) and, if it may go, ask for an approval",
            arguments=(_APP, Argument(name="bundle", is_required=False)),
            options=(_REASON,),
            while_working="The readiness review runs; its verdict comes here.",
        ),
        Verb(name="status", help="where the app's release stands, and the buttons for what may come next", arguments=(_APP,)),
        Verb(name="gates", help="the gates of the review that the release stands on", arguments=(_APP,)),
        Verb(name="history", help="the app's releases, newest first", arguments=(_APP,)),
        Verb(
            name="approve",
            help="say yes, as a second person; `--break-glass` with a reason lets it go alone, where there is none",
            arguments=(_RELEASE,),
            options=(Option(name="break-glass", kind=Kind.FLAG), Option(name="reason", kind=Kind.TEXT)),
        ),
        Verb(name="reject", help="say no; the release ends", arguments=(_RELEASE,), options=(_REASON,)),
        Verb(
            name="reviewed",
            help="say of a release that went alone, as another person, whether that was `justified` or `not_justified`",
            arguments=(_RELEASE, Argument(name="verdict")),
            options=(_REASON,),
        ),
        Verb(
            name="promote",
            help="go to the next step; after the last the bundle serves everybody. `--early` skips the step's waiting",
            arguments=(_RELEASE,),
            options=(Option(name="early", kind=Kind.TEXT),),
        ),
        Verb(name="hold", help="stay at this step until somebody resumes", arguments=(_RELEASE,), options=(_REASON,)),
        Verb(name="resume", help="go on after a hold", arguments=(_RELEASE,)),
        Verb(name="abort", help="end the release; everybody gets the stable bundle", arguments=(_RELEASE,), options=(_REASON,)),
        Verb(
            name="lock",
            help="keep others from starting or promoting; `--steal` takes it from its holder",
            arguments=(_APP,),
            options=(_REASON, _STEAL),
        ),
        Verb(
            name="unlock",
            help="give the lock back; `--steal --reason` takes away somebody else's",
            arguments=(_APP,),
            options=(Option(name="reason", kind=Kind.TEXT), _STEAL),
        ),
        Verb(name="freeze", help="stop the app's releases for everybody; a rollback stays possible", arguments=(_APP,), options=(_REASON,)),
        Verb(name="unfreeze", help="end the freeze", arguments=(_APP,), options=(Option(name="reason", kind=Kind.TEXT),)),
        Verb(
            name="adopt",
            help="say which bundle serves the app already, as its first stable one",
            arguments=(_APP, Argument(name="bundle")),
            options=(_REASON,),
        ),
    ),
)
ROLLBACK = Command(
    name="rollback",
    help="Take a release back at once",
    verbs=(
        Verb(
            name="",
            help="restore the last good bundle, or the one that is named; `--dry-run` only says what it would do",
            arguments=(_APP, Argument(name="bundle", is_required=False, after="to")),
            options=(_REASON, Option(name="dry-run", kind=Kind.FLAG)),
        ),
    ),
)
OWNER = Command(
    name="owner",
    help="Who answers for an app, also at night",
    verbs=(
        Verb(name="show", help="the owner, the escalation path and everybody's roles", arguments=(_APP,)),
        Verb(name="oncall", help="who is on call now", arguments=(_APP,)),
        Verb(
            name="gaps",
            help="hours in which somebody must be on call and nobody is (by default in 14 days)",
            arguments=(_APP,),
            options=(Option(name="days", kind=Kind.NUMBER),),
        ),
        Verb(
            name="override",
            help="somebody stands in: from now or `--from`, until 2026-10-31T18:00 on the rota's clock or for a span such as 4h",
            arguments=(_APP, Argument(name="person")),
            options=(
                Option(name="until", kind=Kind.MOMENT, is_required=True),
                Option(name="from", kind=Kind.MOMENT),
                Option(name="tier", kind=Kind.NUMBER),
                _REASON,
            ),
        ),
    ),
)
COMMANDS = (RELEASE, ROLLBACK, OWNER)


def help_text(command: Command) -> str:
    """How a command is used."""
    lines = (f"  {command.usage(verb)}\n      {verb.help}" for verb in command.verbs)
    return "\n".join([f"/{command.name}: {command.help}", *lines])
