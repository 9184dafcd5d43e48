"""All that an agency holds beside what its peers hold: counted like sets, and no more asked than
each peer may learn."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tieline.v1 import exchange_pb2, operator_pb2, series_pb2
from tieline_client import constraints, limits
from tieline_client.digests import EXACT_KINDS
from tieline_client.errors import LimitExceeded, TielineError
from tieline_client.formats.record import Record
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder
from tieline_server.services.comparing import Comparison
from tieline_server.services.retracting import Retracting

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FBI,
    FR,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    record,
    records,
)

Responses = Iterator[exchange_pb2.OverlapResponse]
Rows = dict[tuple[str, str], tuple[int, int]]
"""Own and their series to own items and items shared."""


class Compared:
    """What one comparison said."""

    def __init__(self, responses: Iterator[operator_pb2.CompareCollectionResponse]) -> None:
        self.ends: dict[str, operator_pb2.CollectionEnd] = {}
        self.rows: dict[str, Rows] = defaultdict(dict)
        self.totals: dict[str, int] = {}
        """Items of each of the peers' series, as far as they tell."""
        self.progress: list[int] = []
        self.items = -1
        self.peers: list[str] = []
        for response in responses:
            constraints.check(response)
            part = response.WhichOneof("part")
            if part == "started":
                self.items, self.peers = response.started.items, list(response.started.peers)
            elif part == "progress":
                self.progress.append(response.progress.items)
            elif part == "rows":
                rows = self.rows[response.rows.agency]
                for row in response.rows.rows:
                    key = row.own, row.theirs.id
                    assert key not in rows
                    rows[key] = row.own_items, row.shared
                    if row.theirs.HasField("items"):
                        self.totals[row.theirs.id] = row.theirs.items
            else:
                self.ends[response.end.end.agency] = response.end


def compared(bench: Bench, asker: str, *peers: str, **fields: object) -> Compared:
    values: dict[str, object] = {"purpose": PURPOSE, "case_ref": CASE, "peers": peers} | fields
    request = operator_pb2.CompareCollectionRequest(**values)  # type: ignore[arg-type]
    comparison = Comparison(bench[asker].node, ANA, request)
    try:
        return Compared(comparison.compare())
    finally:
        comparison.close()


def _released(bench: Bench, asker: str, peer: str, **fields: object) -> Compared:
    """Compare, have the peer's officer release what was asked for, and compare again."""
    first = compared(bench, asker, peer, **fields)
    assert {theirs for _, theirs in first.rows[peer]} == {""}
    bench[peer].release(first.ends[peer].end.request)
    return compared(bench, asker, peer, **fields)


KINDS = ("md5", "sha1", "sha256")


def _item(rng: random.Random, number: int) -> Record:
    return record(number, kinds=" ".join(rng.sample(KINDS, rng.randint(1, 3))))


def _load(bench: Bench, agency: str, held: dict[str, list[Record]]) -> dict[str, str]:
    """Import items series by series; return their ids by name, "" for items in none."""
    ids = {"": ""}
    for name, items in held.items():
        report = bench[agency].load(items, series=name)
        if name:
            (ids[name],) = report.series
    return ids


@pytest.mark.parametrize("span", [7, 10_000])
def test_pairs_are_counted_like_sets(
    bench: Bench, span: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COLLECTION_PART_ITEMS", span)
    monkeypatch.setattr(limits, "COLLECTION_PAGE_ITEMS", 5)
    rng = random.Random(span)
    own = {
        name: [_item(rng, number) for number in numbers]
        for name, numbers in {"A": range(0, 40), "B": range(30, 60), "": range(60, 80)}.items()
    }
    theirs = {
        name: [_item(rng, number) for number in numbers]
        for name, numbers in {"X": range(20, 50), "Y": range(45, 70), "": range(70, 90)}.items()
    }
    own_ids, their_ids = _load(bench, HUB, own), _load(bench, PT, theirs)
    found = _released(bench, HUB, PT)

    def items_of(running: str) -> dict[int, set[tuple[str, bytes]]]:
        """Stored items with their digests: storage unites what shares one."""
        said: dict[int, set[tuple[str, bytes]]] = defaultdict(set)
        for kind in EXACT_KINDS:
            page = bench[running].store.read(
                lambda tx, kind=kind: tx.items.digests(kind, 0, 10_000)  # type: ignore[misc]
            )
            for item, row in zip(page.ids.tolist(), page.rows, strict=True):
                said[item].add((kind.label, row.tobytes()))
        return said

    def series_of(running: str, ids: dict[str, str]) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for item in items_of(running):
            views = bench[running].store.read(
                lambda tx, item=item: tx.items.holdings([item], answerable_only=True)  # type: ignore[misc]
            )
            names = {view.series for view in views} - {""}
            assert names <= set(ids.values())
            found[item] = names or {""}
        return found

    mine, other = items_of(HUB), items_of(PT)
    my_series, other_series = series_of(HUB, own_ids), series_of(PT, their_ids)
    expected: dict[tuple[str, str], set[int]] = defaultdict(set)
    shared = set()
    for item, digests in mine.items():
        matched = [one for one, said in other.items() if said & digests]
        if matched:
            shared.add(item)
        named = set().union(*(other_series[one] for one in matched)) - {""} if matched else set()
        for series in named or ({""} if matched else set()):
            for name in my_series[item]:
                expected[name, series].add(item)
    totals = {name: sum(name in names for names in my_series.values()) for name in own_ids.values()}
    assert found.rows[PT] == {
        (name, series): (totals[name], len(items)) for (name, series), items in expected.items()
    }
    assert found.totals == {
        one: sum(one in names for names in other_series.values())
        for one in {theirs for _, theirs in expected} - {""}
    }
    end = found.ends[PT]
    assert (end.end.status, end.asked, end.withheld) == ("answered", len(mine), 0)
    assert end.shared == len(shared)
    assert found.items == found.progress[-1] == len(mine)
    assert (len(found.progress) > 5) == (span == 7)
    entries = bench[HUB].audit("query.asked")  # of both comparisons
    assert sum(one["detail"]["records"] for one in entries) == 2 * len(mine)  # type: ignore[index]
    assert len(entries) == len(bench[HUB].audit("query.result")) == 2 * len(found.progress)


_TRIAGE = """@id("hub-triage") @source("a decision of the agency") @why("triage")
permit (principal, action in [Action::"learn-count", Action::"learn-reference"], resource)
when { principal.role == "hub" };
"""


def test_a_series_counts_what_the_peer_may_learn_of_it(bench: Bench, tmp_path: Path) -> None:
    """Where an agency gives the hub's triage references at once, by a rule of its own."""
    folder = shutil.copytree(default_folder(), tmp_path / "policies")
    (folder / "70-agency.cedar").write_text(_TRIAGE)
    bench.policy = PolicyEngine(folder)
    own = bench[HUB].series(records(range(3)), name="A")
    shown = bench[PT].series(records(range(2, 10)), name="X")
    bench[PT].load(
        records(range(8, 15)),
        series="X",
        handling=series_pb2.Handling(
            code=3, tlp=3, source="A", information=1, restriction="ask us"
        ),
    )
    again = bench[PT].load(records(range(5, 12)), series="X", case_ref="another")
    assert again.items_known == 7
    found = compared(bench, HUB, PT)
    assert found.rows[PT] == {(own, shown): (3, 1)}
    assert found.totals == {shown: 10}  # 2 to 9, 10 and 11; what is H3 stays unknown


def test_where_only_hits_are_disclosed_their_series_stay_unknown(bench: Bench) -> None:
    own = bench[ES].series(records(range(6)), name="A")
    bench[PT].series(records(range(4, 9)), name="X")
    found = compared(bench, ES, PT)
    assert found.rows[PT] == {(own, ""): (6, 2)}
    assert found.ends[PT].end.reason == f"more waits for a person at {PT}"
    assert found.ends[PT].end.status == "answered"
    assert found.ends[PT].end.receipt


def test_perceptual_hashes_are_compared_on_demand(bench: Bench) -> None:
    own = bench[HUB].series([record(1, kinds="sha1 pdq"), record(2, kinds="pdq")], name="A")
    theirs = bench[PT].series([record(n, kinds="pdq") for n in (1, 2)], name="X")
    assert compared(bench, HUB, PT).rows == {}
    assert _released(bench, HUB, PT, near=True).rows[PT] == {(own, theirs): (2, 2)}


def test_what_a_peer_may_not_learn_is_not_shown_to_it(bench: Bench) -> None:
    restricted = operator_pb2.ImportHeader(series="R").handling
    restricted.code = 3
    restricted.restriction = "for nobody else"
    bench[ES].load(records(range(3)), series="R", handling=restricted, file_digest=b"\x07" * 32)
    own = bench[ES].series(records(range(2, 5)), name="A")
    bench[PT].load(records(range(5)))
    found = compared(bench, ES, PT)
    # The one that both hold is of the case that holds it under H3, which decides.
    assert found.rows[PT] == {(own, ""): (2, 2)}
    assert (found.ends[PT].asked, found.ends[PT].withheld) == (2, 3)
    bench[ES].load(records(range(2, 5)), series="B", case_ref="another", file_digest=b"\x08" * 32)
    found = compared(bench, ES, PT)
    assert (found.ends[PT].asked, found.ends[PT].withheld) == (3, 2)


def test_what_is_for_the_hub_to_find_is_not_shown_to_it(bench: Bench) -> None:
    """The hub learns a hit on TLP:RED where it asks; asking it would show it the digests."""
    red = series_pb2.Handling(tlp=5, source="A", information=1)
    bench[ES].load(records(range(3)), series="R", handling=red, case_ref="another")
    own = bench[ES].series(records(range(3, 5)), name="A")
    bench[HUB].load(records(range(5)))
    _, told = bench[HUB].ask(records(range(3)), ES)
    assert len(told[ES]) == 3
    found = compared(bench, ES, HUB)
    assert found.rows[HUB] == {(own, ""): (2, 2)}
    assert (found.ends[HUB].asked, found.ends[HUB].withheld) == (2, 3)


def test_one_who_may_learn_nothing_keeps_nothing_from_the_others(bench: Bench) -> None:
    """A repository learns no hit: by the default rules nothing is shown to it."""
    own = bench[ES].series(records(range(6)), name="A")
    bench[PT].load(records(range(4)))
    bench[INTERPOL].load(records(range(4)))
    found = compared(bench, ES, PT, INTERPOL)
    assert found.rows == {PT: {(own, ""): (6, 4)}}
    assert (found.ends[PT].asked, found.ends[PT].withheld) == (6, 0)
    none = found.ends[INTERPOL]
    assert (none.end.status, none.asked, none.withheld) == ("refused", 0, 6)
    assert none.end.reason == f"none of 6 items may be shown to {INTERPOL}"
    assert bench[INTERPOL].audit("query") == []
    (asked,) = bench[ES].audit("query.asked")
    assert asked["detail"]["peers"] == [PT]  # type: ignore[index]


@pytest.mark.parametrize("span", [3, 10_000])
def test_each_peer_is_asked_what_it_may_learn_and_no_more(
    bench: Bench, span: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COLLECTION_PART_ITEMS", span)
    monkeypatch.setattr(limits, "COLLECTION_PAGE_ITEMS", 2)
    kept_from = {  # items, by series, and who may not learn of them
        "A": (range(4), ()),
        "B": (range(4, 9), (PT,)),
        "C": (range(9, 11), (PT, HUB)),
        "D": (range(11, 12), (HUB,)),
    }
    ids = {}
    for name, (numbers, excluded) in kept_from.items():
        report = bench[ES].load(records(numbers), series=name, case_ref=f"{CASE}-{name}")
        (ids[name],) = report.series
        if excluded:
            only = [one for one in (PT, HUB, FR) if one not in excluded]
            narrow = operator_pb2.RetractSeriesRequest(
                series=ids[name], kind="narrow", reason="court", limited=True, only=only
            )
            Retracting(bench[ES].node).retract(ANA, narrow)
    everything = records(range(12))
    for peer in (PT, HUB, FR):
        bench[peer].load(everything)
    found = compared(bench, ES, PT, HUB, FR)
    for peer in (PT, HUB, FR):
        may = [name for name, (_, excluded) in kept_from.items() if peer not in excluded]
        sizes = {name: len(kept_from[name][0]) for name in may}
        end = found.ends[peer]
        assert (end.end.status, end.asked) == ("answered", sum(sizes.values())), peer
        assert end.withheld == 12 - sum(sizes.values())
        assert end.shared == sum(sizes.values())
        rows = {(ids[name], ""): (size, size) for name, size in sizes.items()}
        assert found.rows[peer] == rows
        answered = bench[peer].audit("query.answered")
        assert sum(one["detail"]["records"] for one in answered) == end.asked  # type: ignore[index]
    assert found.progress[-1] == 12


def test_known_good_items_are_not_asked(bench: Bench) -> None:
    own = bench[ES].series(records(range(5)), name="A")
    bench[ES].load([record(1, kinds="sha256")], exclusions=True)
    bench[PT].load(records(range(5), kinds="md5"))
    found = compared(bench, ES, PT)
    assert found.rows[PT] == {(own, ""): (4, 4)}
    assert found.ends[PT].withheld == 1


def test_who_fails_has_no_rows_and_the_others_have_theirs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COLLECTION_PART_ITEMS", 3)
    own = bench[ES].series(records(range(9)), name="A")
    bench[PT].load(records(range(9)))
    bench[HUB].load(records(range(4)))
    bench.offline.add(ICE)
    asked = 0

    def fails_later(answer: Responses) -> Responses:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise LimitExceeded("enough for today")
        yield from answer

    bench.tampering[PT] = fails_later
    found = compared(bench, ES, PT, HUB, ICE, FBI)
    states = {agency: end.end.status for agency, end in found.ends.items()}
    assert states == {PT: "refused", HUB: "answered", ICE: "unreachable", FBI: "refused"}
    assert found.ends[PT].end.reason == "enough for today"
    assert found.ends[PT].shared == found.ends[ICE].shared == 0
    assert dict(found.rows) == {HUB: {(own, ""): (9, 4)}}
    assert asked == 2
    assert sorted(found.peers) == sorted((PT, HUB, ICE, FBI))


def test_an_agency_that_holds_nothing_asks_nobody(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    found = compared(bench, ES, PT)
    assert (found.items, found.rows, found.ends[PT].end.status) == (0, {}, "answered")
    assert bench[ES].audit("query.asked") == []


def test_what_was_only_referred_here_is_not_asked_on(bench: Bench) -> None:
    series = bench[PT].series(records(range(4)), name="X")
    bench[ES]
    bench[PT].refer(series, agency=ES)
    bench.flow()
    bench[HUB].load(records(range(4)))
    assert bench[ES].store.read(lambda tx: tx.items.stats()).items == 4
    found = compared(bench, ES, HUB)
    assert (found.ends[HUB].asked, found.ends[HUB].withheld) == (0, 4)
    assert bench[HUB].audit("query.answered") == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"purpose": "no-such"}, "not in the directory"),
        ({"case_ref": " "}, "case reference"),
        ({"peers": (ES,)}, "is this node"),
        ({"deadline_seconds": limits.QUERY_SECONDS_MOST + 1}, "at most"),
    ],
)
def test_a_comparison_that_cannot_be_made(
    bench: Bench, fields: dict[str, object], words: str
) -> None:
    bench[PT]
    with pytest.raises(TielineError, match=words):
        compared(bench, ES, PT, **fields)


def test_a_caller_that_goes_away_leaves_a_result_for_everyone_asked(bench: Bench) -> None:
    bench[ES].load(records(range(4)))
    bench[PT].load(records(range(4)))
    request = operator_pb2.CompareCollectionRequest(purpose=PURPOSE, case_ref=CASE, peers=[PT, HUB])
    comparison = Comparison(bench[ES].node, ANA, request)
    assert next(comparison.compare()).started.items == 4
    comparison.close()
    assert bench[ES].audit("query.asked") == []
