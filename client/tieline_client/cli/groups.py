"""How words find their command: options may stand before it, and a group may have a default.

A command that is named by its `Place` is imported when its name is used, so that one command does
not wait for the imports of all the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from tieline_client.cli import uncollected
from tieline_client.cli.output import run
from tieline_client.errors import ConfigurationError

_WITH_VALUE = ("--profile", "--home", "--series", "--operation")


@dataclass(frozen=True)
class Place:
    """Where a command is defined: ``module:name`` of a function or of a Typer app."""

    at: str
    epilog: str | None = None


class _Commands(MutableMapping[str, Any]):
    """Commands by name; those that have a place are made when they are asked for."""

    def __init__(self, made: Mapping[str, Any], places: Mapping[str, Place]) -> None:
        self._made, self._places = dict(made), dict(places)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = load(name, self._places[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        self._places.pop(name, None)
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from (name for name in self._made if name not in self._places)

    def __len__(self) -> int:
        return len(self._places.keys() | self._made.keys())


def load(name: str, place: Place) -> Any:
    """Import a command; where a module that it needs is not installed, one that says so."""
    module, _, attribute = place.at.partition(":")
    try:
        with uncollected():
            found = getattr(import_module(module), attribute)
    except ImportError as error:
        return _absent(name, error.name or "a module")
    holder = group("")
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name, epilog=place.epilog)(found)
    held = typer.main.get_command(holder)
    assert isinstance(held, TyperGroup)
    return held.commands[name]


def _absent(name: str, missing: str) -> Any:
    """Return a command that says what to install."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(
        name,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        help="Not installed here: needs the node's parts, tieline[node].",
    )
    @run
    def tell() -> None:
        raise ConfigurationError(
            f"`tieline {name}` needs the node's parts ({missing} is missing); "
            "install them with: pip install 'tieline[node]'"
        )

    return typer.main.get_command(app)


class Group(TyperGroup):
    """A group that takes --profile, --home and --json in front of the command's name too.

    ``default`` is the command meant when none is named; ``takes_words`` says that a first word
    that names no command is the default's first argument; ``places`` has the commands that are
    imported when they are named.
    """

    default: ClassVar[str] = ""
    takes_words: ClassVar[bool] = False
    places: ClassVar[Mapping[str, Place]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = _Commands(self.commands, self.places)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name first, then parse as usual."""
        return super().parse_args(ctx, self._ordered(args))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As every command's, with an example: that of the default, else of the first command."""
        names = [self.default] if self.default else list(self.commands)
        for name in names:
            if self.epilog is None:
                self.epilog = _example(self.commands[name])
        super().format_help(ctx, formatter)

    def knows(self, word: str) -> bool:
        """Whether a command has this name."""
        return word in self.commands

    def _ordered(self, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in parameter.opts} | {"--help"}
        first = 0
        while first < len(args) and args[first].startswith("-") and args[first] not in ("-", "--"):
            if args[first] in own:
                return args
            first += 2 if args[first] in _WITH_VALUE else 1
        if first < len(args) and self.knows(args[first]):
            return [args[first], *args[:first], *args[first + 1 :]]
        if self.default and (first >= len(args) or self.takes_words or first > 0):
            return [self.default, *args]
        return args


def group(
    help_text: str,
    *,
    kind: type[Group] = Group,
    default: str = "",
    takes_words: bool = False,
    places: Mapping[str, Place] | None = None,
) -> typer.Typer:
    """Return a Typer app of such a group; one of a single command stays a group."""
    settings = {"default": default, "takes_words": takes_words, "places": places or {}}
    made = type("Group", (kind,), settings)
    app = typer.Typer(
        cls=made,
        no_args_is_help=not default,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback(help=help_text)(_nothing())
    return app


def _example(command: Any) -> str | None:
    """Return the example of a command, on one line; None where it shows none."""
    for text in (command.epilog, command.help):
        found = re.search(r"Example: .*", text or "", re.DOTALL)
        if found is not None:
            return " ".join(found.group().split("\n\n")[0].split())
    return None


def _nothing() -> Callable[[], None]:
    def callback() -> None:
        """Take no options of its own."""

    return callback
