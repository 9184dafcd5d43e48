"""Commands run in this process against a double of the node behind real mutual TLS."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from tieline_client.cli import main

from tests.cli.node_double import (
    NodeDouble,
    People,
    Result,
    Run,
    Served,
    listening,
    make_people,
)


@pytest.fixture(scope="session")
def people() -> People:
    return make_people()


@pytest.fixture(scope="session")
def _listener(people: People) -> Iterator[tuple[Any, str]]:
    with listening(people) as served:
        yield served


@pytest.fixture
def served(_listener: tuple[Any, str], people: People, tmp_path: Path) -> Served:
    """A fresh double, and Ana's profile for it."""
    front, address = _listener
    front.node = NodeDouble()
    path = tmp_path / "ana.json"
    people.profile(address).save(path)
    return Served(front.node, address, path, people)


@pytest.fixture
def run(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command as Ana; with ``--json`` stdout must be one document or nothing."""
    monkeypatch.setenv("TIELINE_PROFILE", str(served.profile))
    monkeypatch.setenv("COLUMNS", "240")

    def call(*words: object, stdin: bytes | None = None) -> Result:
        texts = [str(each) for each in words]
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        code = main(texts)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        document = json.loads(shown.out) if "--json" in texts and shown.out else None
        return Result(code, shown.out, shown.err, document)

    return call
