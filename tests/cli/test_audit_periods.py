"""Exports of a period, which verify all the same, and reports, which nothing in them can break."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tieline_server
from tieline_client.audit_log import Verdict, entries_of, verify_export, write_export
from tieline_client.audit_report import ABROAD, DISCLOSURES, write_report
from tieline_client.cli.audit_trust import Trust, check_file
from tieline_client.errors import UsageError
from tieline_client.merkle import RootBuilder, leaf_hash
from tieline_server.domain.audit import AuditEntry, leaf_bytes

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
COUNT = 12


def _leaves(count: int = COUNT, **changes: Any) -> list[bytes]:
    return [
        leaf_bytes(
            AuditEntry("query.asked", NOON + n * DAY, "pt-pj", f"person-{n}", **changes), bytes(16)
        )
        for n in range(count)
    ]


def _root(leaves: list[bytes]) -> bytes:
    tree = RootBuilder()
    for leaf in leaves:
        tree.add_hash(leaf_hash(leaf))
    return tree.root()


def _export(path: Path, leaves: list[bytes], root: bytes = b"", **period: Any) -> Path:
    write_export(
        path,
        ((n, leaf, b"") for n, leaf in enumerate(leaves)),
        federation="demo",
        agency="pt-pj",
        size=len(leaves),
        root=root or _root(leaves),
        **period,
    )
    return path


def _changed(path: Path, change: Callable[[list[bytes]], None]) -> Path:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    other = path.with_suffix(".changed")
    other.write_bytes(b"".join(lines))
    return other


@pytest.mark.parametrize(
    ("since", "until", "shown"),
    [
        (NOON + 3 * DAY, NOON + 6 * DAY, [3, 4, 5]),
        (NOON + 10 * DAY, None, [10, 11]),
        (None, NOON + DAY, [0]),
        (NOON + 99 * DAY, None, []),
        (NOON - DAY, NOON + 99 * DAY, list(range(COUNT))),
    ],
)
def test_an_export_of_a_period_verifies_and_shows_nothing_else(
    tmp_path: Path, since: datetime | None, until: datetime | None, shown: list[int]
) -> None:
    path = _export(tmp_path / "log.jsonl", _leaves(), since=since, until=until)
    header, verdict = verify_export(path)
    assert verdict == Verdict(COUNT, header.root, True, outside=COUNT - len(shown))
    assert [at for at, _ in entries_of(path)] == shown
    text = path.read_text()
    for number in range(COUNT):
        assert (f'"person-{number}"' in text) == (number in shown)


def test_what_lies_between_stays_though_its_clock_was_off(tmp_path: Path) -> None:
    leaves = _leaves()
    leaves[4] = leaf_bytes(AuditEntry("x", NOON - 9 * DAY, "pt-pj", "late"), bytes(16))
    path = _export(tmp_path / "log.jsonl", leaves, since=NOON + 3 * DAY, until=NOON + 6 * DAY)
    assert [at for at, _ in entries_of(path)] == [3, 4, 5]
    assert verify_export(path)[1].verified


def test_erasures_are_explained_though_said_after_the_period(tmp_path: Path) -> None:
    leaves = _leaves()
    root_leaves = list(leaves)
    said = AuditEntry("audit.erased", NOON + 20 * DAY, "pt-pj", detail={"ranges": [[4, 4]]})
    root_leaves.append(leaf_bytes(said, bytes(16)))
    root_leaves.append(_leaves(1)[0])
    shown = list(root_leaves)
    shown[4] = b'{"erased":"%b"}' % leaf_hash(leaves[4]).hex().encode()
    period = {"since": NOON + 3 * DAY, "until": NOON + 6 * DAY}
    path = _export(tmp_path / "log.jsonl", shown, _root(root_leaves), **period)
    _, verdict = verify_export(path)
    assert (verdict.verified, verdict.erased, verdict.outside) == (True, 1, 3 + 6 + 1)


def test_an_entry_cannot_be_hidden_inside_the_period(tmp_path: Path) -> None:
    path = _export(tmp_path / "log.jsonl", _leaves(), since=NOON + 3 * DAY, until=NOON + 8 * DAY)

    def hide(lines: list[bytes]) -> None:
        lines[1 + 5] = b'{"outside":"%b"}\n' % leaf_hash(lines[1 + 5][:-1]).hex().encode()

    _, verdict = verify_export(_changed(path, hide))
    assert (verdict.verified, verdict.position) == (False, 5)
    assert "stands inside" in verdict.why


def test_a_change_outside_the_period_is_named_too(tmp_path: Path) -> None:
    path = _export(tmp_path / "log.jsonl", _leaves(), since=NOON + 3 * DAY, until=NOON + 8 * DAY)

    def other(lines: list[bytes]) -> None:
        lines[1 + 9] = b'{"outside":"%b"}\n' % (b"ab" * 32)

    _, verdict = verify_export(_changed(path, other))
    assert (verdict.verified, verdict.position) == (False, 9)


def test_an_export_without_marks_or_directory_says_that_it_is_old(tmp_path: Path) -> None:
    """Of an older version: the root still tells, but not which entry."""
    path = _export(tmp_path / "log.jsonl", _leaves())

    def age(lines: list[bytes]) -> None:
        header = json.loads(lines[0])
        del header["marks"], header["evidence"]
        lines[0] = json.dumps(header).encode() + b"\n"

    old = _changed(path, age)
    assert verify_export(old)[1].verified

    def edit(lines: list[bytes]) -> None:
        age(lines)
        lines[3] = lines[3].replace(b"person-2", b"person-9")

    _, verdict = verify_export(_changed(path, edit))
    assert (verdict.verified, verdict.position) == (False, None)
    assert "has no marks" in verdict.why
    with pytest.raises(UsageError, match=r"older version.*--public DIR"):
        check_file(old, Trust("ab" * 32, None, ()))


# --- reports --------------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '=HYPERLINK("http://x.invalid")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\u202egnp.exe \x1b[31mred\x07",
    "</td></table><h1>verified</h1>",
    "&lt;b&gt; &amp;",
)


def _report(tmp_path: Path, leaves: list[bytes], against: str = "nobody", **period: Any) -> str:
    export = _export(tmp_path / "log.jsonl", leaves)
    _, verdict = verify_export(export)
    given = {"since": None, "until": None} | period
    write_report(tmp_path / "report.html", export, verdict, against, **given)
    return (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_log_breaks_its_report(tmp_path: Path, text: str) -> None:
    words: dict[str, Any] = {"purpose": text, "case_ref": text, "rules": (text,), "peer": text}
    detail = {"reason": text, "legal_basis": {text: text}, "officers": [text, text]}
    leaves = [
        leaf_bytes(AuditEntry(action, NOON, "pt-pj", text, detail=detail, **words), b"")
        for action in ("refusal", "referral.sent", text)
    ]
    page = _report(tmp_path, leaves, text)
    tags = set(re.findall(r"</?([a-z0-9]+)", page))
    assert tags == {"html", "head", "meta", "title", "body", "h1", "h2", "table", "tr", "th", "td"}
    assert page.count("<h1>") == 1
    assert all(char.isprintable() or char == "\n" for char in page)
    cells = [html.unescape(one) for one in re.findall(r"<td>(.*?)</td>", page)]
    assert not [one for one in cells if one.lstrip()[:1] in "=+-@\t" and one]
    assert any(text[1:8] in one for one in cells) or not text.isprintable()


def test_a_report_says_what_the_log_was_held_against_and_of_which_period(tmp_path: Path) -> None:
    page = _report(
        tmp_path, _leaves(), "countersigned by es-pn", since=NOON + DAY, until=NOON + 3 * DAY
    )
    assert "verifies (countersigned by es-pn)" in page
    assert "<td>entries in the period</td><td>2</td>" in page
    assert "person-1" in page and "person-5" not in page
    (tmp_path / "report.html").unlink()
    (tmp_path / "log.jsonl").unlink()
    leaves = _leaves()
    export = _export(tmp_path / "log.jsonl", leaves, bytes(32))
    _, verdict = verify_export(export)
    write_report(tmp_path / "report.html", export, verdict, "nobody", since=None, until=None)
    assert "DOES NOT VERIFY" in (tmp_path / "report.html").read_text()


def test_a_report_lists_what_left_the_union_with_its_basis(tmp_path: Path) -> None:
    """Once for each agency that an entry names, whatever kind of entry it is."""
    basis = {"us-ice": "agreement: of 2009", "us-fbi": "2016/680 Art. 38(1)(a), vital interests: x"}
    details: list[dict[str, Any]] = [
        {"legal_basis": basis, "officers": ["ana", "rui"]},
        {},
        {"legal_basis": "odd"},
        {"legal_basis": {}},
    ]
    leaves = [
        leaf_bytes(AuditEntry("message.delivered", NOON, "pt-pj", "ana", detail=one), b"")
        for one in details
    ]
    page = html.unescape(_report(tmp_path, leaves))
    assert f"{ABROAD} (2)" in page
    for agency, law in basis.items():
        assert f"<td>{agency}</td><td>{law}</td><td>ana and rui</td>" in page


def test_the_disclosures_of_a_report_are_what_nodes_log() -> None:
    """Each action is written out in the node's code, or is a state in the name of its kind."""
    folder = Path(tieline_server.__file__).parent
    text = "\n".join(one.read_text("utf-8") for one in folder.rglob("*.py"))
    states = {"same_as.confirmed": 'f"same_as.{wanted.value}"'}
    missing = [one for one in DISCLOSURES if states.get(one, f'"{one}"') not in text]
    assert missing == []
