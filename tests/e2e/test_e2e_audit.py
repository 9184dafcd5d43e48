"""Audit logs of real nodes: countersigned by peers, and verified where there is no node at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checkout import ROOT, Checkout
from tests.e2e.federation import Federation, tieline, wait_for


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("audit")).found()
    for agency, role, *countries in (
        ("pt-pj", "national", "PT"),
        ("es-gc", "national", "ES"),
        ("europol-ec3", "hub"),
    ):
        made.init(agency, role, *countries)
    for node in made:
        made.join(node)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("authority") / "checkout")


def test_the_other_checkout_has_the_client_alone(elsewhere: Checkout) -> None:
    for name in ("tieline_server", "sqlalchemy", "cedarpy", "numba"):
        done = elsewhere.python(f"import {name}")
        assert done.returncode == 1
        assert f"No module named '{name}'" in done.stderr
    shown = elsewhere.python("import tieline_client, tieline.v1 as v; print(tieline_client, v)")
    assert shown.stdout.count(str(elsewhere.folder)) == 2, shown
    assert str(ROOT) not in shown.stdout
    code, said = elsewhere.tieline("node", "status", ".")
    assert code != 0
    assert "node" in said


def test_an_export_is_verified_by_another_checkout_that_has_nothing_but_the_file(
    trial: Federation, elsewhere: Checkout, tmp_path: Path
) -> None:
    pt, es = trial["pt-pj"], trial["es-gc"]
    hashes = tmp_path / "hashes.csv"
    digests = [hashlib.sha1(f"item {n}".encode()).hexdigest() for n in range(50)]
    hashes.write_text("sha1;category\n" + "".join(f"{one};vics:1\n" for one in digests))
    es.import_file(hashes, "--category", "vics:1")
    receipts = tmp_path / "receipts"
    receipts.mkdir()
    asked = pt.ask(hashes, "--peer", "es-gc", "--category", "vics:1", "--receipts", receipts)
    assert asked.ok().json["peers"][0]["status"] == "answered"

    def countersigned() -> bool:
        found = pt.run("audit", "witnesses").ok().json["witnesses"]
        return {one["agency"] for one in found if one["countersigned"]} == {"es-gc", "europol-ec3"}

    wait_for("both peers countersigned", countersigned)
    export, report = tmp_path / "log.jsonl", tmp_path / "report.html"
    pt.run("audit", "export", export, "--report", report).ok()
    assert "Disclosures" in report.read_text("utf-8")
    root = hashlib.sha256((trial.authority / "public" / "root.json").read_bytes()).hexdigest()

    code, document = elsewhere.tieline("audit", "verify", export, "--root", root)
    assert (code, document["verified"], document["agency"]) == (0, True, "pt-pj")
    assert document["against"].startswith("countersigned by es-gc, europol-ec3 up to ")
    public = trial.authority / "public"
    code, document = elsewhere.tieline(
        "audit", "verify", export, "--root", root, "--public", public
    )
    assert (code, document["verified"]) == (0, True)

    # Without the root it says what it is worth; with another one nothing is believed.
    code, document = elsewhere.tieline("audit", "verify", export)
    assert (code, document["against"]) == (0, "self-consistent only")
    code, said = elsewhere.tieline("audit", "verify", export, "--root", "ab" * 32)
    assert code != 0
    assert "fingerprint" in said

    # An entry that was edited, cut out, put elsewhere, or lost from the end is named.
    lines = export.read_bytes().splitlines(keepends=True)
    last = len(lines) - 2  # the first line is the header
    entry = json.loads(lines[3])
    entry["person"] = "somebody-else"
    edited = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    for name, position, forged in (
        ("edited", 2, [*lines[:3], edited, *lines[4:]]),
        ("cut", 2, [*lines[:3], *lines[4:]]),
        ("swapped", 2, [*lines[:3], lines[4], lines[3], *lines[5:]]),
        ("lost", last, lines[:-1]),
    ):
        file = tmp_path / f"{name}.jsonl"
        file.write_bytes(b"".join(forged))
        code, document = elsewhere.tieline("audit", "verify", file, "--root", root)
        assert (code, document["verified"], document["position"]) == (1, False, position), name

    # The lost tail shows against the checkpoint that the peer holds.
    held, later = tmp_path / "held", tmp_path / "later.jsonl"
    es.run("audit", "witnesses", held, "--held", "pt-pj").ok()
    pt.run("audit", "export", later).ok()  # what is held may be newer than the first file
    code, document = elsewhere.tieline(
        "audit", "verify", later, "--root", root, "--checkpoint", held
    )
    assert (code, document["verified"]) == (0, True)

    # The receipt of the answer.
    (receipt,) = receipts.iterdir()
    code, document = elsewhere.tieline(
        "audit", "verify", receipt, "--root", root, "--public", public
    )
    told = (document["asker"], document["answerer"], document["records"], document["hits"])
    assert (code, told) == (0, ("pt-pj", "es-gc", 50, 50))
    assert document["against"] == "the federation's root"

    # The asked list, out of the asker's own node.
    (question,) = pt.audit("--action", "query.asked")
    found = pt.run("audit", "list", question["subjects"][0]).ok().json["digests"]
    assert sorted(found) == sorted(f"sha1:{one}" for one in digests)

    # What was read is logged.
    pt.run("series", "list").ok()
    assert pt.audit("--action", "series.listed")
    assert pt.run("audit", "verify", "--root", root).ok().json["verified"]


def test_holds_and_proofs_at_the_command_line(trial: Federation, tmp_path: Path) -> None:
    node = trial["es-gc"]
    made = node.run("audit", "hold", "--case", "2026-118", "--reason", "inquiry 7").ok().json
    (held,) = node.run("audit", "holds").ok().json["holds"]
    assert (held["hold"], held["case"], held["by"]) == (made["hold"], "2026-118", "admin")
    node.run("audit", "release", made["hold"]).ok()
    assert node.run("audit", "holds").ok().json["holds"] == []
    assert node.run("audit", "release", made["hold"]).code == 1
    proof = node.run("audit", "inclusion", "2").ok().json
    assert len(proof["proof"]) >= 1
    assert node.run("audit", "consistency", "2").ok().json["first"] == 2
    assert node.run("audit", "inclusion", "999999").code != 0
    page = node.run("audit", "search", "--limit", "2").ok().json
    following = node.run("audit", "search", "--limit", "2", "--from", page["next"]).ok().json
    assert following["entries"][0]["position"] == page["next"] == 2
    assert tieline("audit", "verify", tmp_path / "none", "--root", "xyz").code == 2


def test_an_export_of_a_period_and_its_report_through_the_command(
    trial: Federation, elsewhere: Checkout, tmp_path: Path
) -> None:
    node = trial["es-gc"]
    entries = node.audit()
    assert len(entries) >= 4
    # From the time of an entry in the middle on: its times are those that the log itself has.
    middle = next(at for at in range(1, len(entries)) if entries[at]["at"] > entries[at - 1]["at"])
    since = entries[middle]["at"]
    expected = [one["position"] for one in entries if one["at"] >= since]
    root = hashlib.sha256((trial.authority / "public" / "root.json").read_bytes()).hexdigest()
    export, report = tmp_path / "period.jsonl", tmp_path / "period.html"
    words = ("audit", "export", export, "--since", since, "--report", report, "--root", root)
    shown = node.run(*words).ok().json
    assert shown["report"] == str(report) and report.stat().st_mode & 0o777 == 0o600
    page = report.read_text("utf-8")
    assert "verifies (countersigned by " in page and "DOES NOT" not in page

    code, document = elsewhere.tieline("audit", "verify", export, "--root", root)
    assert (code, document["verified"]) == (0, True)
    assert document["against"].startswith("countersigned by ")
    # What was before is there as hashes alone; what is inside is whole.
    assert document["outside"] == min(expected)
    assert document["entries"] >= len(entries)
    lines = export.read_bytes().splitlines(keepends=True)
    for line in lines[1 : 1 + document["outside"]]:
        assert list(json.loads(line)) == ["outside"]
    # An entry of the period that is made to look as if it were outside is named.
    at = 1 + document["outside"] + 1
    hidden = hashlib.sha256(b"\0" + lines[at].rstrip(b"\n")).hexdigest()
    forged = [*lines[:at], b'{"outside":"%b"}\n' % hidden.encode(), *lines[at + 1 :]]
    (tmp_path / "forged.jsonl").write_bytes(b"".join(forged))
    code, document = elsewhere.tieline("audit", "verify", tmp_path / "forged.jsonl", "--root", root)
    assert (code, document["verified"], document["position"]) == (1, False, at - 1)

    # Neither is overwritten, and what makes no sense leaves nothing.
    before = (export.read_bytes(), report.read_bytes())
    assert node.run(*words).code == 2
    assert (export.read_bytes(), report.read_bytes()) == before
    for wrong in (
        ("--since", "yesterday"),
        ("--since", "2026-02-01", "--until", "2026-01-01"),
        ("--root", root),
    ):
        assert node.run("audit", "export", tmp_path / "wrong.jsonl", *wrong).code == 2
    foreign = ("--report", tmp_path / "wrong.html", "--root", "ab" * 32)
    refused = node.run("audit", "export", tmp_path / "wrong.jsonl", *foreign)
    assert refused.code != 0 and "fingerprint" in refused.err
    assert not (tmp_path / "wrong.html").exists()
