"""How words find their command: options may stand before it, and a group may have a default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

_WITH_VALUE = ("--profile", "--home", "--series", "--operation")


class Group(TyperGroup):
    """A group that takes --profile, --home and --json in front of the command's name too.

    ``default`` is the command meant when none is named; ``takes_words`` says that a first word
    that names no command is the default's first argument.
    """

    default: ClassVar[str] = ""
    takes_words: ClassVar[bool] = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name first, then parse as usual."""
        return super().parse_args(ctx, self._ordered(args))

    def names(self) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)

    def _ordered(self, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in parameter.opts} | {"--help"}
        first = 0
        while first < len(args) and args[first].startswith("-") and args[first] not in ("-", "--"):
            if args[first] in own:
                return args
            first += 2 if args[first] in _WITH_VALUE else 1
        if first < len(args) and args[first] in self.names():
            return [args[first], *args[:first], *args[first + 1 :]]
        if self.default and (first >= len(args) or self.takes_words or first > 0):
            return [self.default, *args]
        return args


def group(
    help_text: str, *, kind: type[Group] = Group, default: str = "", takes_words: bool = False
) -> typer.Typer:
    """Return a Typer app of such a group; one of a single command stays a group."""
    made = type("Group", (kind,), {"default": default, "takes_words": takes_words})
    app = typer.Typer(
        cls=made,
        no_args_is_help=not default,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback(help=help_text)(_nothing())
    return app


def _nothing() -> Callable[[], None]:
    def callback() -> None:
        """Take no options of its own."""

    return callback
