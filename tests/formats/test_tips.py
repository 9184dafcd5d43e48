"""Tables of tips as public sites write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tieline_client.errors import FormatError
from tieline_client.formats.record import Rejected
from tieline_client.formats.tips import TipRow, read_tips

CLUE = "ab12cd34ef56ab12cd34"


def _read(tmp_path: Path, data: bytes) -> list[TipRow | Rejected]:
    path = tmp_path / "tips.csv"
    path.write_bytes(data)
    return list(read_tips(path))


def test_rows_with_all_columns_in_any_order(tmp_path: Path) -> None:
    text = (
        f'Received,Clue,Text,Country,Source,Contact\r\n"2026-03-01T10:00:00+02:00",{CLUE},'
        '"Sold in Porto,\nin 2019",pt,site-7,ana@example.org\r\n'
    )
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert _read(tmp_path, data) == [
            TipRow(
                *(1, CLUE, "Sold in Porto,\nin 2019", "ana@example.org", "site-7", "PT"),
                datetime(2026, 3, 1, 8, tzinfo=UTC),
            )
        ]


def test_malformed_rows_are_named_by_their_number(tmp_path: Path) -> None:
    rows = [
        "clue;text;country;received",
        f"{CLUE};good;;",
        ";no clue;;",
        f"{CLUE};;;",
        f"{CLUE};bad country;XYZ;",
        f"{CLUE};bad time;;yesterday",
        f"{CLUE};too few",
        f"{CLUE};{'x ' * 1500};;",
        f"{'c' * 40};long clue;;",
        f"{CLUE};also good;ES;2026-03-01",
    ]
    found = _read(tmp_path, "\n".join(rows).encode())
    rejected = [one.record for one in found if isinstance(one, Rejected)]
    assert rejected == [2, 3, 4, 5, 6, 7, 8]
    assert [one.number for one in found if isinstance(one, TipRow)] == [1, 9]
    assert all(one.reason for one in found if isinstance(one, Rejected))


@pytest.mark.parametrize(
    "data", [b"", b"a;b\n1;2\n", b"clue;text;text\n", b'clue;text\n"open;' + b"x" * 70_000]
)
def test_what_is_no_table_of_tips_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FormatError):
        _read(tmp_path, data)
