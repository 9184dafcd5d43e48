"""Results into the page and the picture, and the planted questions that rows are checked by."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tieline_client.digests import DigestKind

from benchmarks import data, nodes, picture, report, rows
from benchmarks.rows import Row
from benchmarks.targets import TARGETS

ABOUT: dict[str, object] = {
    "cpu": "a processor", "cores": 2, "memory_gib": 24.0, "kernel": "6.1", "python": "3.11",
    "versions": {"numpy": "2.4", "postgresql": None}, "date": "2026-11-22",
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rows, "OUT", tmp_path / "out")
    return tmp_path / "out"


def page(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    text = f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n"
    (docs / "performance.md").write_text(text)
    return docs


def test_a_row_has_the_fields_that_are_promised(out: Path) -> None:
    rows.report("near_single", 10_000_000, 900.0, 10.0, True)
    body = json.loads((out / "near_single_of_10m.json").read_bytes())
    assert list(body) == ["name", "size", "ours", "peer", "ratio", "at_least", "aim", "correct"]
    assert (body["ratio"], body["at_least"], body["aim"]) == (90.0, 40, 100)


def test_without_a_peer_there_is_no_ratio_unless_the_figure_is_the_target(out: Path) -> None:
    assert rows.report("near_single", 1_000, 900.0, None, True).ratio is None
    assert rows.report("node_memory", 1_000, 88.0, None, True).ratio == 88.0


def test_wrong_answers_end_the_run_and_are_kept(out: Path) -> None:
    with pytest.raises(SystemExit, match="wrong"):
        rows.report("near_single", 1_000, 900.0, None, False)
    assert json.loads((out / "near_single_of_1k.json").read_bytes())["correct"] is False


def test_rows_become_page_picture_and_results(out: Path, tmp_path: Path) -> None:
    docs = page(tmp_path)
    for key, target in TARGETS.items():
        rows.report(key, target.size, 30.0, 10.0 if target.peer else None, True)
        if target.size > 1_000:
            rows.report(key, 1_000, 1.0, None, True)
    loaded = report.load(out)
    assert [row.size for row in loaded] == [target.size for target in TARGETS.values()]
    report.write(loaded, ABOUT, docs)
    text = (docs / "performance.md").read_text()
    assert text.startswith("# Before\n") and text.endswith("\nafter\n") and "old" not in text
    assert all(target.what in text for target in TARGETS.values())
    assert json.loads((docs / "performance" / "results.json").read_bytes())["machine"] == ABOUT
    drawn = ElementTree.parse(docs / "performance" / "ratios.svg").getroot()
    texts = [node.text or "" for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert all(any(target.what in one for one in texts) for target in TARGETS.values())
    before = text
    report.write(loaded, ABOUT, docs)
    assert (docs / "performance.md").read_text() == before


def test_small_runs_stay_out_of_the_page(out: Path) -> None:
    rows.report("near_single", 1_000, 900.0, 10.0, True)
    assert report.load(out) == []
    assert len(report.load(out, any_size=True)) == 1


def test_a_bar_grows_to_the_right_where_less_is_better() -> None:
    row = Row("ingest_of_51m", 51_000_000, 200.0, 100.0, 2.0, 6, 3, True)
    bar = picture.Bar.of(row, TARGETS["ingest"])
    assert (bar.reached, bar.aim, bar.colour) == (3.0, 2.0, picture.GOOD)
    missed = Row("ingest_of_51m", 51_000_000, 900.0, 100.0, 9.0, 6, 3, True)
    assert picture.Bar.of(missed, TARGETS["ingest"]).colour == picture.POOR


def test_what_costs_nothing_that_can_be_measured_has_a_bar(out: Path) -> None:
    rows.report("audit_cpu", 1_000_000, 0.0, None, True)
    row = Row(**json.loads((out / "audit_cpu_of_1m.json").read_bytes()))
    bar = picture.Bar.of(row, TARGETS["audit_cpu"])
    assert bar.colour == picture.GOOD
    assert ElementTree.fromstring(picture.draw([bar])).tag.endswith("svg")


def test_flipped_hashes_are_at_the_stated_distances() -> None:
    rng = np.random.default_rng(1)
    held = data.digests(DigestKind.PDQ, 410)
    distances = np.arange(410) % 41
    other = data.flipped(rng, held, distances)
    assert (np.bitwise_count(held ^ other).sum(axis=1) == distances).all()


def test_items_have_the_same_digests_however_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "PIECE", 1_000)
    whole = data.digests(DigestKind.MD5, 3_500)
    assert np.array_equal(whole[900:2_100], data.digests(DigestKind.MD5, 1_200, 900))
    pieces = [piece for _, _, piece in data.generated(DigestKind.MD5, 3_500)]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_the_csv_says_what_is_planted(tmp_path: Path) -> None:
    lines = nodes.csv_of(tmp_path, 60).read_text().splitlines()
    sha1, md5 = (data.digests(kind, 60) for kind in (DigestKind.SHA1, DigestKind.MD5))
    assert lines[0] == "sha1,md5,series"
    assert lines[1 + 25] == f"{sha1[25].tobytes().hex()},{md5[25].tobytes().hex()},S0001"
    assert lines[1 + 26].endswith(f"{md5[26].tobytes().hex()},")
    assert nodes.series_of(np.array([25, 26])).tolist() == [1, -1]
