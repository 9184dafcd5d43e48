"""The ledger of what was erased: chained, durable, forgiving of a torn last line only."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tieline_client.errors import StorageCorrupt, StorageUnavailable
from tieline_server.storage.tombstone_ledger import FileLedger


def _entry(number: int, **more: object) -> dict[str, object]:
    return {"at": "2026-03-01T12:00:00+00:00", "kind": "series", "series": f"pt-pj/{number}"} | more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tombstones"


def _filled(path: Path, count: int) -> FileLedger:
    ledger = FileLedger(path)
    for number in range(count):
        ledger.append(_entry(number, retraction=f"r{number}"))
    return ledger


def test_entries_come_back_in_order_and_the_file_is_the_owners(path: Path) -> None:
    ledger = _filled(path, 3)
    assert [one["series"] for one in ledger.entries()] == ["pt-pj/0", "pt-pj/1", "pt-pj/2"]
    assert FileLedger(path).entries() == ledger.entries()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_again_changes_nothing(path: Path) -> None:
    _filled(path, 2)
    before = path.read_bytes()
    FileLedger(path).append(_entry(1, retraction="r1", at="later"))
    assert path.read_bytes() == before
    FileLedger(path).append(_entry(1, retraction="another"))
    assert len(FileLedger(path).entries()) == 3


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_dropped_by_the_next(path: Path, cut: int) -> None:
    _filled(path, 3)
    path.write_bytes(path.read_bytes()[:-cut])
    ledger = FileLedger(path)
    assert len(ledger.entries()) == 2
    ledger.append(_entry(7))
    assert [one["series"] for one in FileLedger(path).entries()][-1] == "pt-pj/7"
    assert len(FileLedger(path).entries()) == 3


@pytest.mark.parametrize("line", [0, 1])
def test_damage_elsewhere_is_named(path: Path, line: int) -> None:
    _filled(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"pt-pj", b"es-gc")
    path.write_bytes(b"".join(lines))
    with pytest.raises(StorageCorrupt, match=f"line {line + 1} "):
        FileLedger(path)


def test_a_line_that_was_cut_out_shows(path: Path) -> None:
    _filled(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(StorageCorrupt, match="line 2 "):
        FileLedger(path)


def test_every_line_is_json_with_its_chain(path: Path) -> None:
    _filled(path, 2)
    shown = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(one) for one in shown] == [{"at", "kind", "series", "retraction", "chain"}] * 2


def test_a_ledger_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "away" / "tombstones")
    with pytest.raises(StorageUnavailable, match="make room"):
        ledger.append(_entry(1))
    (tmp_path / "away").mkdir()
    ledger.append(_entry(1))
    assert len(ledger.entries()) == 1
