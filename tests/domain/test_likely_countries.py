"""Competing assessments: who stands, who is eliminated, whose word is the latest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.series import Assessment, Confidence, likely_countries

START = datetime(2026, 1, 1, tzinfo=UTC)


def _one(number: int = 0, country: str = "PT", **changes: object) -> Assessment:
    plain = Assessment(
        id=f"{number:03}",
        series="pt-pj/x",
        agency="pt-pj",
        person="ana",
        country=country,
        confidence=Confidence.MEDIUM,
        grounds="plates",
        confirmed=False,
        eliminated=False,
        made=START + timedelta(minutes=number),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@st.composite
def _assessments(draw: st.DrawFn) -> list[Assessment]:
    return [
        _one(
            number,
            draw(st.sampled_from(["BR", "ES", "PT"])),
            agency=draw(st.sampled_from(["pt-pj", "us-ice"])),
            person=draw(st.sampled_from(["ana", "rui"])),
            confidence=draw(st.sampled_from(Confidence)),
            confirmed=draw(st.booleans()),
            eliminated=draw(st.booleans()),
            made=START + timedelta(minutes=draw(st.integers(0, 3))),
        )
        for number in range(draw(st.integers(0, 8)))
    ]


@given(_assessments(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(judged: list[Assessment], random: object) -> None:
    shuffled = judged + judged[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert likely_countries(shuffled) == likely_countries(judged)


@given(_assessments())
def test_only_countries_that_stand_are_named_each_once_in_order(judged: list[Assessment]) -> None:
    named = likely_countries(judged)
    assert list(named) == sorted(set(named))
    latest: dict[tuple[str, str, str], Assessment] = {}
    for one in sorted(judged, key=lambda a: (a.made, a.id)):
        latest[one.agency, one.person, one.country] = one
    out = {one.country for one in latest.values() if one.eliminated}
    standing = {one.country for one in latest.values()} - out
    assert set(named) <= standing
    assert bool(named) == bool(standing)
    marks = {
        (one.confirmed, one.confidence)
        for one in latest.values()
        if one.country in standing and not one.eliminated
    }
    for country in named:
        best = max(
            (one.confirmed, one.confidence) for one in latest.values() if one.country == country
        )
        assert best == max(marks)


def test_ties_stand_together() -> None:
    assert likely_countries([_one(0, "PT"), _one(1, "ES", person="rui")]) == ("ES", "PT")


def test_one_elimination_by_anybody_takes_a_country_out() -> None:
    judged = [_one(0, "PT", confidence=Confidence.HIGH), _one(1, "PT", eliminated=True, person="x")]
    assert likely_countries(judged) == ()
    assert likely_countries([*judged, _one(2, "ES", confidence=Confidence.LOW)]) == ("ES",)


def test_a_person_may_take_back_an_elimination() -> None:
    assert likely_countries([_one(0, "PT", eliminated=True), _one(1, "PT")]) == ("PT",)


def test_confirmed_goes_before_any_confidence() -> None:
    judged = [
        _one(0, "PT", confidence=Confidence.HIGH),
        _one(1, "ES", confidence=Confidence.LOW, confirmed=True),
    ]
    assert likely_countries(judged) == ("ES",)


def test_support_by_verified_clues_decides_between_equals_only() -> None:
    tie = [_one(0, "PT"), _one(1, "ES", person="rui")]
    assert likely_countries(tie, {"ES": 1}) == ("ES",)
    assert likely_countries(tie, {"ES": 2, "PT": 2}) == ("ES", "PT")
    assert likely_countries(tie, {"BR": 9}) == ("ES", "PT")  # no judgement, no country
    stronger = [*tie, _one(2, "PT", confidence=Confidence.HIGH)]
    assert likely_countries(stronger, {"ES": 9}) == ("PT",)
    ruled_out = [*tie, _one(3, "ES", eliminated=True, person="x")]
    assert likely_countries(ruled_out, {"ES": 9}) == ("PT",)


@given(_assessments(), st.dictionaries(st.sampled_from(["BR", "ES", "PT"]), st.integers(-3, 3)))
def test_support_only_narrows_what_stands_without_it(
    judged: list[Assessment], support: dict[str, int]
) -> None:
    plain, narrowed = likely_countries(judged), likely_countries(judged, support)
    assert set(narrowed) <= set(plain)
    most = max((support.get(one, 0) for one in plain), default=0)
    assert set(narrowed) == {one for one in plain if support.get(one, 0) == most}
