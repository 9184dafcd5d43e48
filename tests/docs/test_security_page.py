"""The threat model names tests that exist, for every actor and every line of their tables."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.reading import ROOT, spans

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
ACTORS = (
    "A curious peer",
    "A malicious hub",
    "A stolen operator laptop",
    "An insider",
    "The network",
    "Whoever brings a file",
)
_TEST = re.compile(r"([\w/]+/test_\w+\.py)::(\w+)")


@cache
def _tests(path: Path) -> frozenset[str]:
    tree = ast.walk(ast.parse(path.read_text("utf-8")))
    return frozenset(node.name for node in tree if isinstance(node, ast.FunctionDef))


def _missing(text: str) -> list[str]:
    """Return the tests that a text names and that do not exist."""
    missing = []
    for span in spans(text):
        if "::" not in span:
            continue
        named = _TEST.fullmatch(span)
        path = ROOT / "tests" / named[1] if named else None
        if named is None or path is None or not path.is_file() or named[2] not in _tests(path):
            missing.append(span)
    return missing


def _rows(actor: str) -> list[str]:
    """Return the lines of an actor's table, without its head."""
    section = re.search(rf"^### {actor}$(.*?)^##", PAGE, re.M | re.S)
    assert section is not None, f"{actor} has no section"
    return re.findall(r"^\|.*\|$", section[1], re.M)[2:]


def test_every_test_that_the_page_names_exists() -> None:
    assert len(_TEST.findall(PAGE)) > 60
    assert _missing(PAGE) == []


@pytest.mark.parametrize("actor", ACTORS)
def test_every_line_of_an_actors_table_has_its_test(actor: str) -> None:
    rows = _rows(actor)
    assert len(rows) >= 4
    for row in rows:
        cells = row.strip("|").split("|")
        assert len(cells) == 3, row
        assert _TEST.search(cells[2]), f"nothing shows this: {row}"


def test_an_invented_test_would_be_found() -> None:
    assert _missing("`rpc/test_methods.py::test_unlisted_means_denied`") == []
    for invented in ("rpc/test_methods.py::test_no", "rpc/test_no.py::test_x", "test_x.py::x"):
        assert _missing(f"`{invented}`") == [invented]
