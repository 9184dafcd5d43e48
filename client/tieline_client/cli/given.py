"""Which option or argument of a command a value came from, so that an error can name it.

A message that cannot be sent names its field, which nobody who types a command knows. What is
wrong with it stands in a value that the person gave, and by that the option is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from tieline_client.errors import MalformedMessage, TielineError


def in_words(error: TielineError, command: Callable[..., Any], given: Mapping[str, object]) -> str:
    """Return an error's message, with the option in place of the field where one is at fault."""
    if isinstance(error, MalformedMessage) and error.value is not None:
        name = name_of(command, given, error.value)
        if name:
            return f"{name}: {error.message.partition(': ')[2]}"
    return error.message


def name_of(command: Callable[..., Any], given: Mapping[str, object], value: str | int) -> str:
    """Return the option or argument whose text this is, or that was given so many times; or ""."""
    hints = get_type_hints(command, include_extras=True)
    for name, one in given.items():
        for info in getattr(hints.get(name), "__metadata__", ()) if _holds(one, value) else ():
            if isinstance(info, OptionInfo):
                # Within Annotated the first word that is declared stands where a default would.
                words = map(str, (info.default, *(info.param_decls or ())))
                own = f"--{name.replace('_', '-')}"
                return next((word for word in words if word.startswith("--")), own)
            if isinstance(info, ArgumentInfo):
                return (info.metavar or name.upper()).strip("[].")
    return ""


def _holds(given: object, value: str | int) -> bool:
    if isinstance(value, int):
        return isinstance(given, list | tuple) and len(given) == value
    # Part of what was given is enough, as of SCHEME:VALUE: what is at fault is long or unprintable.
    texts = given if isinstance(given, list | tuple) else [given]
    return bool(value) and any(value in str(one) for one in texts)
