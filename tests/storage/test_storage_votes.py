"""Category votes of a series as both databases count them: as the rule of the domain says."""

from __future__ import annotations

import random

from tieline_client.formats.record import Vote
from tieline_client.identifiers import new_series_id
from tieline_server.domain.category_votes import VoteCount, distribution
from tieline_server.domain.ports import Store

from tests.storage.building import begin, complete, record

CODES = [Vote("vics-us", "1"), Vote("vics-us", "2"), Vote("icse", "baseline")]


def _load(store: Store, agency: str, votes: dict[int, list[Vote]], series: str) -> str:
    key = begin(store)
    given = [record(n, sha1=str(n), votes=of) for n, of in votes.items()]
    store.write(lambda tx: tx.imports.stage(key, given, [series] * len(given), agency))
    return key


def test_the_database_counts_as_the_rule_says(store: Store) -> None:
    drawn, series = random.Random(11), new_series_id("pt-pj")
    given: dict[int, list[tuple[str, str, str]]] = {}
    for agency in ("pt-pj", "es-pn", "fr-pn", "us-fbi"):
        for _ in range(2):  # the same import again says nothing new
            votes = {n: [one for one in CODES if drawn.random() < 0.4] for n in range(20)}
            complete(store, _load(store, agency, votes, series))
            for n, of in votes.items():
                given.setdefault(n, []).extend((agency, one.scheme, one.code) for one in of)
    counted = store.read(lambda tx: tx.votes.of(series))
    assert counted == distribution(given)
    assert sum(one.trusted for one in counted) > 0
    assert sum(one.disputed for one in counted) > 0


def test_what_is_only_staged_and_what_is_elsewhere_does_not_count(store: Store) -> None:
    series = new_series_id("pt-pj")
    complete(store, _load(store, "pt-pj", {0: CODES[:1]}, series))
    complete(store, _load(store, "es-pn", {1: CODES[:1]}, new_series_id("pt-pj")))
    _load(store, "fr-pn", {0: CODES[:1]}, series)
    assert store.read(lambda tx: tx.votes.of(series)) == (VoteCount("vics-us", "1", 1, 1, 0, 0),)
