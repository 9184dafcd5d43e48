"""What every command shares: inert text, one JSON document, one line per error."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.cli import output
from tieline_client.errors import (
    InvalidInput,
    RefusedError,
    TielineError,
    Unreachable,
    UsageError,
)
from tieline_client.inert import inert
from typer.testing import CliRunner, Result

app = typer.Typer()


@app.command()
@output.run
def show(value: str, as_json: output.Json = False) -> None:
    output.say(f"showing {value}")
    document = {"value": value, "at": datetime(2026, 1, 2, tzinfo=UTC), "to": Path("x")}
    output.emit(as_json, document, lambda: output.line(value))


@app.command()
@output.run
def fail(kind: Annotated[str, typer.Argument()]) -> None:
    errors: dict[str, Exception] = {
        "root": TielineError("one\nline \x1b[31mred"),
        "input": InvalidInput("bad input"),
        "usage": UsageError("bad usage"),
        "refused": RefusedError("refused"),
        "unreachable": Unreachable("away"),
        "file": FileNotFoundError(2, "No such file or directory", "/nowhere"),
        "full": OSError(28, "No space left on device"),
        "full-file": OSError(28, "No space left on device", "/home/x"),
        "bug": RuntimeError("the password is hunter2"),
    }
    raise errors[kind]


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env=environment)


@given(st.text())
def test_inert_text_is_printable_and_stable(text: str) -> None:
    shown = inert(text)
    assert shown.isprintable()
    assert inert(shown) == shown
    if text.isprintable():
        assert shown == text


def test_what_becomes_inert() -> None:
    assert inert("a\x1b[2Jb\r\nc") == "a\\x1b[2Jb\\x0d\\x0ac"
    assert inert("\u202eevil\u2028\ud800\U000e0001\x9b") == (
        "\\u202eevil\\u2028\\ud800\\U000e0001\\x9b"
    )
    assert inert("Polícia Judiciária 警察") == "Polícia Judiciária 警察"


def test_people_get_a_line_and_programs_one_document() -> None:
    plain = invoke("show", "[red]x[/red] :smile: " + "y" * 200)
    assert plain.stdout == "[red]x[/red] :smile: " + "y" * 200 + "\n"
    assert plain.stderr.startswith("showing [red]x")
    strange = "\x1b[31m\x7f\x9b\n"
    result = invoke("show", strange, "--json")
    assert json.loads(result.stdout) == {
        "value": strange,
        "at": "2026-01-02T00:00:00Z",
        "to": "x",
    }
    assert all(char.isprintable() or char == "\n" for char in result.stdout)


@pytest.mark.parametrize(
    ("kind", "exit_code", "line"),
    [
        ("root", 1, "error: one\\x0aline \\x1b[31mred"),
        ("input", 1, "error: bad input"),
        ("usage", 2, "error: bad usage"),
        ("refused", 3, "error: refused"),
        ("unreachable", 4, "error: away"),
        ("file", 1, "error: /nowhere: No such file or directory"),
        ("full", 1, "error: No space left on device; make room and run it again"),
        ("full-file", 1, "error: /home/x: No space left on device; make room and run it again"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(kind: str, exit_code: int, line: str) -> None:
    result = invoke("fail", kind)
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", f"{line}\n")


def test_an_unforeseen_error_tells_its_kind_only() -> None:
    result = invoke("fail", "bug")
    assert result.exit_code == 1
    assert "RuntimeError" in result.stderr
    assert "hunter2" not in result.stdout + result.stderr
    traced = invoke("fail", "bug", TIELINE_DEBUG="1")
    assert isinstance(traced.exception, RuntimeError)


def test_values_of_documents(capsys: pytest.CaptureFixture[str]) -> None:
    east = timezone(timedelta(hours=2))
    document = {
        "moment": datetime(2026, 1, 2, 1, 30, 15, 999, tzinfo=east),
        "day": date(2026, 1, 2),
        "digest": b"\x01\xff",
        "codes": frozenset({"b", "a"}),
    }
    output.emit(True, document, lambda: None)
    assert json.loads(capsys.readouterr().out) == {
        "moment": "2026-01-01T23:30:15Z",
        "day": "2026-01-02",
        "digest": "01ff",
        "codes": ["a", "b"],
    }
    with pytest.raises(TypeError):
        output.emit(True, {"x": object()}, lambda: None)


def test_tables_fold_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.out.print(output.table(("name", "value"), [("a\x1b[1m", "v" * 300)], title="[b]t"))
    shown = capsys.readouterr().out
    assert shown.count("v") == 300 + 1
    assert "\x1b" not in shown
    assert "[b]t" in shown
