"""Write a file, read its records: what every test of the readers does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tieline_client.formats import FileFormat, Record, Rejected, open_records

Read = Callable[..., list[Record | Rejected]]

VICS_2 = "http://github.com/VICSDATAMODEL/ProjectVic/DataModels/2.0.xml"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that writes bytes or text to a file and reads its records."""

    def read_content(
        content: bytes | str, stated: FileFormat | None = None, **options: Any
    ) -> list[Record | Rejected]:
        path = tmp_path / "sample"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(open_records(path, stated, **options))

    return read_content


@pytest.fixture
def read_one(read: Read) -> Callable[..., Record]:
    """Return a function that reads a file of exactly one sound record."""

    def read_single(
        content: bytes | str, stated: FileFormat | None = None, **options: Any
    ) -> Record:
        (record,) = read(content, stated, **options)
        assert isinstance(record, Record), record
        return record

    return read_single


@pytest.fixture
def vics() -> Callable[..., str]:
    """Return a function that makes VICS 2.0 JSON of media given as fields."""

    def make(*media: dict[str, Any], country: str = "/US", shape: str = "Media") -> str:
        context = f"{VICS_2}{country}/$metadata#{shape}"
        value: list[Any] = list(media)
        if shape == "Cases":
            value = [{"CaseID": "x", "CaseNumber": "1", "Media": value}]
        return json.dumps({"@odata.context": context, "value": value})

    return make


@pytest.fixture
def digest() -> Callable[[str, object], str]:
    """Return a function that makes a synthetic digest: algorithm and seed to hex."""

    def make(algorithm: str, seed: object) -> str:
        return hashlib.new(algorithm, str(seed).encode(), usedforsecurity=False).hexdigest()

    return make
