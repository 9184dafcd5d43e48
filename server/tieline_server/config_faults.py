"""What is wrong with config.toml, in plain words; no value is repeated, it may be a secret."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

_TWICE = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate")
"""How tomllib begins what it says of a key or a section that is there already."""
_LINE = re.compile(r"at line (\d+)")
_KEY = re.compile(r"\s*(\[{1,2}[\w.-]{1,80}\]{1,2}|[\w.-]{1,80}(?=\s*=))")


def toml(error: tomllib.TOMLDecodeError, text: str) -> str:
    """Return why a text is no TOML, and what to do about it."""
    said = str(error)
    found = _LINE.search(said)
    if not said.startswith(_TWICE) or found is None:
        return f"it is no TOML: {said}; texts stand in quotes, one setting a line"
    number = int(found[1])
    # The fault is told where the second value ends.
    key = _KEY.match((text.split("\n")[number - 1 : number] or [""])[0])
    name = f"`{key[1]}`" if key else "a setting"
    return f"line {number}: {name} stands there a second time; keep one of them"


def setting(error: ValidationError, model: type[BaseModel]) -> str:
    """Return what is wrong with the first setting that is, by its name."""
    fault = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{name}: {_unknown(str(fault['loc'][-1]), model, fault['loc'][:-1])}"
    why = str(fault["msg"]).removeprefix("Value error, ")
    return f"{name}: {why}" if name else why


def _unknown(name: str, model: type[BaseModel], section: tuple[int | str, ...]) -> str:
    if section and name in model.model_fields:
        return "this setting is of no section; put it above the first line in brackets"
    alike = get_close_matches(name, _known(model, section), 1)
    meant = f"did you mean {alike[0]}? Correct it" if alike else "correct its name"
    return (
        f"there is no setting of this name; {meant}, or take it out (docs/operations.md#settings)"
    )


def _known(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the names of the settings in a section."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return sorted(model.model_fields)
