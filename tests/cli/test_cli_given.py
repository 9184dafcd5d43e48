"""A value that cannot be sent is told by the option that a person gave, not by a message's field.

Options come from the command table, so a new one is tried too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from tieline_client.cli.app import app
from tieline_client.cli.given import name_of

from tests.cli.node_double import Run, Served
from tests.cli.test_cli_hostile_text import COMMANDS, SERIES, WHY

_OF_THE_WIRE = re.compile(r"\b([A-Z][a-z]+)+\.[a-z_]+|\b[a-z]+_[a-z_]+\b")
_LONG, _MANY = "x" * 20_000, 3_000
_NOT_TEXT = {"--help", "--profile", "--home", "--json", "--state", "--to"}


def _options(path: list[str]) -> Iterator[tuple[str, bool]]:
    """The options of a command that take a value, and whether they may be repeated."""
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.get_command(typer.Context(command, info_name="tieline"), name)
    for each in command.params:
        name = next((one for one in each.opts if one.startswith("--")), "--help")
        if name not in _NOT_TEXT and not each.is_flag:
            yield name, bool(each.multiple)


def _with(words: list[str], option: str, *values: str) -> list[str]:
    """The words with these values of an option, instead of what it had."""
    if option in words:
        at = words.index(option)
        words = words[:at] + words[at + 2 :]
    return [*words, *(part for one in values for part in (option, one))]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_error_names_a_field_of_a_message(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("da39a3ee5e6b4b0d3255bfef95601890afd80709\n")
    places = {
        **dict.fromkeys(("{list}", "{answer}"), str(tmp_path / "list.txt")),
        **{"{out}": str(tmp_path / "out"), "{folder}": str(tmp_path)},
        "{profile}": str(served.profile),
    }
    words = [*name.split(), *(places.get(word, word) for word in COMMANDS[name])]
    path = [word for word in name.split() if not word.startswith("--")]
    for option, repeated in _options(path):
        for values in ([_LONG], [f"x{n}" for n in range(_MANY)] if repeated else []):
            said = run(*_with(words, option, *values)).err
            assert not _OF_THE_WIRE.search(said), said[:300]
            if re.search(r"\d (characters|elements); at most", said):
                assert said.startswith(f"error: {option}"), said[:300]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("series", "show", _LONG), "ID: 20000 characters; at most 200"),
        (("export", _LONG, "x.csv", "--format", "csv", *WHY), "ID: 20000 characters; at most 200"),
        (
            ("broadcast", *("x",) * 3_000, "--group", "g", *WHY),
            "ID: 3000 elements; at most 1000",
        ),
        (("series", "merge", SERIES, _LONG), "PART: 20000 characters; at most 200"),
        (
            ("hashes", "import", "{list}", "--series", _LONG),
            "--series: 20000 characters; at most 200",
        ),
        (
            ("audit", "search", "--series", "a\x07"),
            "--series: holds control characters; take them out",
        ),
        (
            ("series", "create", "n", *("--reference", "icse:1") * 70),
            "--reference: 70 elements; at most 64",
        ),
    ],
)
def test_what_was_given_is_named(
    run: Run, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    file = tmp_path / "list.txt"
    file.write_text("da39a3ee5e6b4b0d3255bfef95601890afd80709\n")
    result = run(*(str(file) if word == "{list}" else word for word in words))
    assert (result.code, result.err) == (1, f"error: {told}\n")


def test_what_nobody_gave_has_no_name() -> None:
    def command(name: Annotated[str, typer.Option()] = "", other: str = "") -> None: ...

    assert name_of(command, {"name": "a ", "other": "b"}, "a") == "--name"
    for value in ("b", "c", "", 1):
        assert name_of(command, {"name": "a ", "other": "b"}, value) == ""
