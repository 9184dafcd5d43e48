"""Drops appear whole or not at all, once; what comes back is compared item by item."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline_client.dropping import MANIFEST, MEDIA, PICKED_UP, Drop, Dropping, drops_in, reconcile
from tieline_client.errors import FormatError, InvalidInput
from tieline_client.exporting import ExportReport
from tieline_client.formats import Record
from tieline_client.formats.outgoing import SeriesFacts
from tieline_client.formats.outgoing_tables import IcseWriter
from tieline_client.formats.outgoing_vics import VicsWriter

SERIES = "pt-pj/01920000-0000-7000-8000-000000000001"


def item(number: int, **changes: object) -> Record:
    digest = hashlib.sha256(str(number).encode()).digest()
    record = Record(number, md5=digest[:16], sha1=digest[:20], series=SERIES)
    return replace(record, **changes)  # type: ignore[arg-type]


def fill(made: Dropping, records: list[Record]) -> ExportReport:
    with made.path.open("wb") as stream:
        writer = VicsWriter(stream)
        writer.series(SeriesFacts(SERIES, ""))
        for one in records:
            writer.add(one)
        writer.finish()
    content = made.path.read_bytes()
    report = ExportReport(str(made.path), "vics", written=writer.written, size=len(content))
    report.sha256 = hashlib.sha256(content).hexdigest()
    return report


def dropped(folder: Path, records: list[Record]) -> tuple[Drop, bool]:
    with Dropping(folder) as made:
        return made.finish(fill(made, records), "pt-pj", "interpol")


def answer(path: Path, records: list[Record]) -> Path:
    with path.open("wb") as stream:
        writer = IcseWriter(stream)
        for one in records:
            writer.add(one)
        writer.finish()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shared"
    made.mkdir()
    return made


def test_a_drop_is_whole_and_says_what_it_holds(folder: Path) -> None:
    drop, known = dropped(folder, [item(1), item(2)])
    assert (known, drop.records, drop.picked_up) == (False, 2, False)
    manifest = json.loads((drop.folder / MANIFEST).read_text())
    media = (drop.folder / MEDIA).read_bytes()
    assert manifest["sha256"] == hashlib.sha256(media).hexdigest() == drop.sha256
    assert (manifest["from"], manifest["to"], manifest["bytes"]) == (
        "pt-pj",
        "interpol",
        len(media),
    )
    assert [one.name for one in folder.iterdir()] == [drop.name]
    assert drop.folder.stat().st_mode & 0o777 == 0o700


def test_the_same_content_is_the_same_drop(folder: Path) -> None:
    first, _ = dropped(folder, [item(1)])
    (first.folder / PICKED_UP).write_text("ICSE-77\n")
    again, known = dropped(folder, [item(1)])
    assert known
    assert (again.name, again.picked_up, again.reference) == (first.name, True, "ICSE-77")
    other, known = dropped(folder, [item(1), item(2)])
    assert not known
    assert {one.name for one in drops_in(folder)} == {first.name, other.name}


_DYING = """
import os, signal, sys
from pathlib import Path
from tests.client.test_dropping import Dropping, fill, item
import tieline_client.dropping as dropping
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
folder, where = Path(sys.argv[1]), sys.argv[2]
with Dropping(folder) as made:
    report = fill(made, [item(1)])
    if where == "manifest": dropping._write_durably = die
    if where == "rename": Path.rename = die
    if where == "after":
        real, calls = dropping.sync_folder, []
        dropping.sync_folder = lambda path: die() if calls else calls.append(real(path))
    made.finish(report, "pt-pj", "interpol")
"""


@pytest.mark.parametrize(("where", "there"), [("manifest", 0), ("rename", 0), ("after", 1)])
def test_killed_in_between_there_is_a_whole_drop_or_none(
    folder: Path, where: str, there: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _DYING, str(folder), where],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", str(Path.cwd())])},
    )
    assert ended.returncode == -signal.SIGKILL
    assert len(list(drops_in(folder))) == there
    drop, known = dropped(folder, [item(1)])
    assert known is bool(there)
    assert [one.name for one in drops_in(folder)] == [drop.name]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda drop: (drop / MEDIA).write_bytes(b"{}"),
        lambda drop: (drop / MEDIA).unlink(),
        lambda drop: (drop / MANIFEST).unlink(),
        lambda drop: (drop / MANIFEST).write_text("[" * 100_000),
        lambda drop: (drop / MANIFEST).write_text('{"version": 2}'),
        lambda drop: (drop / MANIFEST).write_bytes(b"\xff" * 2_000_000),
    ],
)
def test_a_drop_that_is_not_ours_is_refused(folder: Path, spoil: Callable[[Path], object]) -> None:
    drop, _ = dropped(folder, [item(1)])
    spoil(drop.folder)
    with pytest.raises(FormatError):
        list(drops_in(folder))


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no folder"):
        Dropping(tmp_path / "absent")


def test_what_comes_back_is_compared(folder: Path, tmp_path: Path) -> None:
    dropped(folder, [item(n, victim_identified=False) for n in range(5)])
    dropped(folder, [item(n, victim_identified=False) for n in range(3, 7)])
    theirs = [
        item(0, victim_identified=True, submissions=4, baseline=True),
        item(1, victim_identified=False, submissions=9),
        item(2, md5=None),
        item(1),
        item(99),
    ]
    found = reconcile(folder, answer(tmp_path / "icse.csv", theirs))
    assert (found.deposited, found.held, found.foreign, found.missing_count) == (7, 3, 1, 4)
    assert {one["item"] for one in found.missing} == {
        f"md5:{(item(n).md5 or b'').hex()}" for n in range(3, 7)
    }
    (difference,) = found.differences
    assert (difference["field"], difference["ours"], difference["theirs"]) == (
        "victim_identified",
        False,
        True,
    )
    tally = found.series[SERIES]
    assert (tally.deposited, tally.held, tally.submissions) == (7, 3, 9)
    assert (tally.baseline, tally.identified) == (1, 1)


def test_rows_of_an_answer_that_cannot_be_read_are_named(folder: Path, tmp_path: Path) -> None:
    """What they hold under a row that cannot be read must not be told as missing and no more."""
    dropped(folder, [item(1), item(2)])
    file = answer(tmp_path / "icse.csv", [item(1), item(2)])
    sha1 = (item(2).sha1 or b"").hex()
    file.write_text(file.read_text().replace(sha1, sha1[:-1]) + "too;short\n")
    found = reconcile(folder, file)
    assert (found.held, found.missing_count, found.foreign) == (1, 1, 0)
    assert found.rejected_count == 2
    assert [one.record for one in found.rejected] == [2, 3]
    assert sha1[:-1] in found.rejected[0].reason


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ours=st.sets(st.integers(0, 20)), theirs=st.lists(st.integers(0, 30), max_size=25))
def test_every_item_is_held_missing_or_foreign(
    tmp_path_factory: pytest.TempPathFactory, ours: set[int], theirs: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("shared")
    dropped(folder, [item(n) for n in sorted(ours)])
    found = reconcile(folder, answer(folder.parent / "icse.csv", [item(n) for n in theirs]))
    assert (found.deposited, found.held) == (len(ours), len(ours & set(theirs)))
    assert found.missing_count == len(ours - set(theirs))
    assert found.foreign == sum(n not in ours for n in theirs)
