"""What is shown of a document, field by field."""

from __future__ import annotations

import pytest
from tieline_client.cli.tables import show_fields


def test_bytes_are_shown_as_hex(capsys: pytest.CaptureFixture[str]) -> None:
    show_fields({"list_digest": b"\x9d\\\xf3", "none": b""}, ("list_digest", "none"))
    assert capsys.readouterr().out == "list digest: 9d5cf3\n"
