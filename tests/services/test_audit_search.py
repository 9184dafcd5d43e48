"""Searching the log at the node, page by page; who searched for what is in the log, too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tieline_client import limits
from tieline_client.audit_search import Search
from tieline_client.errors import InvalidInput, UnknownAgency
from tieline_server.services.auditing import Auditing

from tests.services.bench import ANA, ES, FR, PT, PURPOSE, Bench, Running


def _log(running: Running, count: int) -> None:
    for number in range(count):
        entry = running.node.entry(
            "something",
            person="ana" if number % 3 else "rui",
            case_ref=f"case-{number % 4}",
            note="x" * 400,
        )
        running.store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]


def _pages(running: Running, wanted: Search, limit: int = 500) -> tuple[list[int], int]:
    """Positions by going through all pages, and how many pages there were."""
    auditing, found, at, pages = Auditing(running.node, dict), list[int](), 0, 0
    while True:
        page = auditing.search(ANA, wanted, at, limit)
        pages += 1
        for one in page.entries:
            assert wanted.matches(json.loads(one.leaf))
            found.append(one.position)
        if not page.more:
            return found, pages
        assert page.next > at, "each page goes on"
        at = page.next


def test_pages_give_each_entry_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bench[PT]
    _log(node, 40)
    first = node.store.read(lambda tx: tx.audit.size()) - 40
    wanted = Search(person="rui", case_ref="case-0")
    expected = [first + number for number in range(40) if number % 12 == 0]
    assert _pages(node, wanted) == (expected, 1)
    assert _pages(node, wanted, limit=1)[0] == expected
    monkeypatch.setattr(limits, "SEARCHED_AT_ONCE", 7)
    found, pages = _pages(node, wanted)
    assert found == expected and pages > 5
    monkeypatch.setattr(limits, "FOUND_BYTES", 900)
    assert _pages(node, Search(action="something"))[0] == list(range(first, first + 40))


def test_nothing_found_ends_too(bench: Bench) -> None:
    assert _pages(bench[PT], Search(person="nobody")) == ([], 1)
    assert not Auditing(bench[PT].node, dict).search(ANA, Search(), 10**9, 5).more


def test_what_nobody_knows_is_said_and_who_left_is_found(bench: Bench) -> None:
    node = bench[PT]
    words = [("peer", ES), ("peer", "es-old"), ("purpose", PURPOSE), ("purpose", "gone")]
    for name, word in words:
        known: dict[str, Any] = {name: word}
        entry = node.node.entry("something", **known)
        node.store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]
        assert len(_pages(node, Search(**known))[0]) == 1
    assert _pages(node, Search(peer=FR))[0] == []  # a member that nothing was about
    with pytest.raises(UnknownAgency, match=r"'es-p' .* stands in no entry.*did you mean es-"):
        _pages(node, Search(peer="es-p"))
    # That it was looked for stands in the log, and makes it no more known.
    with pytest.raises(UnknownAgency):
        _pages(node, Search(peer="es-p"))
    with pytest.raises(InvalidInput, match=r"purpose 'bogus' .*known: "):
        _pages(node, Search(purpose="bogus"))


def test_who_searched_for_what_is_logged(bench: Bench) -> None:
    Auditing(bench[PT].node, dict).search(ANA, Search(person="rui", siena="7"), 3, 5)
    (entry,) = bench[PT].audit("audit.searched")
    assert entry["person"] == "ana"
    assert entry["detail"] == {"start": 3, "wanted": {"person": "rui", "siena": "7"}}
