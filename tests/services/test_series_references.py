"""Many numbers in other systems: an ICSE export has one for every image of a series."""

from __future__ import annotations

from tieline_client.limits import REFERENCES_PER_SERIES

from tests.services.bench import ES, HUB, PT, Bench, record

COUNT = REFERENCES_PER_SERIES + 40


def test_a_series_of_many_image_numbers_can_be_told_and_answered_for(bench: Bench) -> None:
    node, spain = bench[PT], bench[ES]
    rows = [
        record(n, series="Azul", references=(("icse", f"IMG-{n}"),), entire=True)
        for n in range(COUNT)
    ]
    (azul,) = node.load(rows).series
    kept = node.store.read(lambda tx: tx.series.get(azul))
    assert kept is not None
    assert [one.value for one in kept.references] == [
        f"IMG-{n}" for n in range(REFERENCES_PER_SERIES)
    ]
    node.load([record(COUNT, series="Azul", references=(("icse", "later"),))])
    again = node.store.read(lambda tx: tx.series.get(azul))
    assert again is not None and len(again.references) == REFERENCES_PER_SERIES

    ends, _ = bench[HUB].ask(rows[:3], PT)
    node.release(ends[PT].request)
    _, overlaps = bench[HUB].ask(rows[:3], PT)
    assert [len(one.series[0].references) for one in overlaps[PT]] == [REFERENCES_PER_SERIES] * 3

    node.refer(azul, country="ES")
    bench.flow()
    told = spain.store.read(lambda tx: tx.series.get(azul))
    assert told is not None and len(told.references) == REFERENCES_PER_SERIES
