"""A series shows how agencies judged its items; whose votes count, and whose do not."""

from __future__ import annotations

import random

from tieline.v1 import operator_pb2
from tieline_client.formats.record import Vote
from tieline_server.domain.category_votes import distribution
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ABUSE, ANA, ES, FR, HUB, PT, Bench, Running, records

OTHER = Vote("vics-us", "2")
Counts = list[tuple[str, int, int, int, int]]


def _votes(node: Running, series: str) -> Counts:
    found = SeriesWork(node.node).get(series).votes
    return [(one.code, one.items, one.agencies, one.trusted, one.disputed) for one in found]


def test_own_votes_that_came_with_referrals_count(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(5)))
    assert _votes(es, series) == [("1", 5, 1, 0, 0)]
    for agency, numbers, vote in (
        (PT, range(4), ABUSE),
        (FR, range(2), ABUSE),
        (HUB, [1], OTHER),
    ):
        theirs = bench[agency].series(records(numbers, votes=(vote,)))
        bench[agency].refer(theirs, agency=ES)
    bench.flow()
    # item 0 has three votes and none against; item 1 has four, one of them against
    assert _votes(es, series) == [("1", 5, 3, 1, 1), ("2", 1, 1, 0, 1)]


def test_votes_that_somebody_relays_do_not_count(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    series = es.series(records(range(3)))
    es.refer(series, agency=PT)
    bench.flow()
    assert _votes(pt, series) == [("1", 3, 1, 0, 0)]
    request = operator_pb2.StepReferralRequest(id=pt.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(pt.node).step(ANA, request)
    bench.flow()
    assert fr.inbox()[0].series.notice.items == 3
    assert _votes(fr, series) == []


def test_the_database_counts_as_the_rule_says(bench: Bench) -> None:
    es, drawn = bench[ES], random.Random(7)
    codes = (ABUSE, OTHER, Vote("icse", "baseline"))
    series = es.series(records(range(12)))
    for agency in (PT, FR, HUB):
        for vote in codes[:2]:
            numbers = sorted(drawn.sample(range(12), 6))
            theirs = bench[agency].series(records(numbers, votes=(vote,)), f"{agency} {vote.code}")
            bench[agency].refer(theirs, agency=ES)
    bench.flow()
    rows = es.store.read(lambda tx: tx.items.of_series(series, after=0, limit=100))
    given = {row.id: [(who, vote.scheme, vote.code) for who, vote in row.votes] for row in rows}
    counted = es.store.read(lambda tx: tx.votes.of(series))
    assert counted == distribution(given)
    assert sum(one.disputed for one in counted) > 0
