"""Imports in columns: what becomes a holding is the same as record by record."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tieline.v1 import operator_pb2
from tieline_client.columns import of_records
from tieline_client.digests import JUNK, DigestKind
from tieline_client.errors import InvalidDigest, InvalidInput
from tieline_client.formats.record import Record, Vote
from tieline_server.services.importing import Counts, Import

from tests.services.bench import ABUSE, ANA, ES, PT, Bench, Running, finish, record, records

OTHER = Vote("vics-us", "3")
SHARED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


def _start(node: Running, **header: Any) -> Import:
    return Import(node.node, ANA, operator_pb2.ImportHeader(**header))


def _numbered(facts: Sequence[Record]) -> list[Record]:
    return [replace(one, number=number) for number, one in enumerate(facts, 1)]


def _both(
    bench: Bench, facts: Sequence[Record], **header: Any
) -> tuple[tuple[Counts, list[tuple[int, str]]], tuple[Counts, list[tuple[int, str]]]]:
    """Stage the same records both ways at two nodes; return counts and rejections of each."""
    outcomes = []
    for agency, columnar in ((PT, False), (ES, True)):
        work = _start(bench[agency], **header)
        if columnar:
            work.add_columns(of_records(facts))
        else:
            work.add(facts)
        work.abandon()
        outcomes.append((work.counts, work.rejected))
    return outcomes[0], outcomes[1]


def _value(kind: DigestKind) -> st.SearchStrategy[bytes | None]:
    junk = sorted(value for each, value in JUNK if each is kind)
    return st.none() | st.sampled_from([*junk, *(bytes([n] * kind.width) for n in range(1, 9))])


_FACTS = st.builds(
    Record,
    number=st.just(0),
    md5=_value(DigestKind.MD5),
    sha1=_value(DigestKind.SHA1),
    sha256=_value(DigestKind.SHA256),
    pdq=_value(DigestKind.PDQ),
    pdq_quality=st.sampled_from([None, 0, 49, 50, 100]),
    votes=st.sampled_from([(), (ABUSE,), (OTHER,), (OTHER, ABUSE), (Vote("vics-uk", "1"),)]),
    series=st.sampled_from([None, "Azul", " Azul ", "Verde", " "]),
)


@SHARED
@given(
    facts=st.lists(_FACTS, min_size=1, max_size=12).map(_numbered),
    entire=st.booleans(),
    stated=st.sampled_from([("", ""), ("vics-us", "3"), ("vics-us", "1")]),
    series=st.sampled_from(["", "Azul"]),
)
def test_the_same_is_admitted(
    bench: Bench, facts: list[Record], entire: bool, stated: tuple[str, str], series: str
) -> None:
    facts = [replace(one, entire=entire) for one in facts]
    by_record, by_column = _both(
        bench, facts, category_scheme=stated[0], category_code=stated[1], series=series
    )
    assert by_column == by_record


@SHARED
@given(
    facts=st.lists(_FACTS, min_size=1, max_size=12)
    .map(_numbered)
    .filter(lambda facts: all(one.pdq is None or one.sha1 == bytes([1] * 20) for one in facts))
)
def test_the_same_is_excluded(bench: Bench, facts: list[Record]) -> None:
    by_record, by_column = _both(bench, facts, exclusions=True)
    assert by_column == by_record


_TABLES = (
    "SELECT md5, sha1, sha256, pdq, pdq_quality, size, media_type FROM items",
    "SELECT i.sha1, i.pdq, k.name, h.victim_identified, h.offender_identified, h.distributed,"
    " h.baseline FROM holdings h JOIN items i ON i.id = h.item"
    " LEFT JOIN series_keys n ON n.no = h.series_no LEFT JOIN series k ON k.id = n.id",
    "SELECT i.sha1, i.pdq, k.scheme, k.code FROM votes v JOIN items i ON i.id = v.item"
    " JOIN vote_kinds k ON k.no = v.vote_no",
    "SELECT md5, sha1, sha256 FROM exclusions",
)


def _stored(bench: Bench, agency: str) -> list[list[tuple[object, ...]]]:
    engine = sqlalchemy.create_engine(f"sqlite:///{bench.folder / f'{agency}.sqlite3'}")
    with engine.connect() as connection:
        found = [
            sorted((tuple(row) for row in connection.exec_driver_sql(table)), key=repr)
            for table in _TABLES
        ]
    engine.dispose()
    return found


def _mixture(seed: int, *, entire: bool) -> list[Record]:
    """Records of every sort that has columns, with repeats and conflicts among them."""
    source = random.Random(seed)
    made = []
    for number in range(1, 400):
        kinds = " ".join(k for k in ("md5", "sha1", "sha256", "pdq") if source.random() < 0.7)
        one = record(
            source.choice([number, number, source.randrange(1, 60)]), kinds=kinds, entire=entire
        )
        one.number = number
        one.votes = source.choice([(), (ABUSE,), (OTHER,), (OTHER, ABUSE)])
        one.series = source.choice([None, "Azul", "Verde", f"S {number // 50}"])
        one.size = source.choice([None, 0, 2**40])
        one.media_type = source.choice([None, "image/jpeg", "vídeo"])
        one.victim_identified = source.choice([None, True, False])
        one.baseline = source.choice([None, True, False])
        if one.pdq is not None:
            one.pdq_quality = source.choice([None, 30, 80])
        made.append(one)
    return made


@pytest.mark.parametrize("entire", [False, True])
@pytest.mark.parametrize(
    "header", [{}, {"category_scheme": "vics-us", "category_code": "3"}, {"series": "Azul"}]
)
def test_the_same_is_stored(bench: Bench, entire: bool, header: dict[str, Any]) -> None:
    facts = _mixture(len(header), entire=entire)
    reports = []
    for agency, columnar in ((PT, False), (ES, True)):
        work = _start(bench[agency], **header)
        for start in range(0, len(facts), 150):
            batch = facts[start : start + 150]
            if columnar:
                work.add_columns(of_records(batch))
            else:
                work.add(batch)
        reports.append(finish(work, len(facts)))
        for changing in ("import_id", "series"):
            reports[-1].ClearField(changing)
    assert reports[0] == reports[1]
    assert _stored(bench, PT) == _stored(bench, ES)


def test_known_good_records_are_not_held_whichever_way_the_list_came(bench: Bench) -> None:
    for agency, columnar in ((PT, False), (ES, True)):
        node = bench[agency]
        work = _start(node, exclusions=True)
        if columnar:
            work.add_columns(of_records(records(range(1, 4), kinds="sha1")))
            work.add_columns(of_records(records(range(3, 6), kinds="sha1")))
        else:
            work.add(records(range(1, 4), kinds="sha1"))
            work.add(records(range(3, 6), kinds="sha1"))
        report = finish(work, 6)
        assert (report.items_new, report.items_known) == (5, 1)
        held = _start(node)
        held.add_columns(of_records(records(range(1, 11))))
        found = finish(held, 10)
        assert (found.items_new, found.excluded) == (5, 5)
    assert _stored(bench, PT)[3] == _stored(bench, ES)[3]


def test_an_exclusion_list_of_perceptual_hashes_is_refused(bench: Bench) -> None:
    work = _start(bench[PT], exclusions=True)
    with pytest.raises(InvalidDigest, match="exclusion list"):
        work.add_columns(of_records([record(1, kinds="pdq")]))
    work.abandon()


def test_a_series_that_only_excluded_records_name_is_not_made(bench: Bench) -> None:
    work = _start(bench[PT])
    work.add_columns(
        of_records([record(1, series="Azul"), record(2, series="Verde", votes=(OTHER,))])
    )
    assert len(finish(work, 2).series) == 1


def test_the_series_of_one_file_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_server.services.importing._SERIES_PER_IMPORT", 3)
    work = _start(bench[PT])
    with pytest.raises(InvalidInput, match="split it"):
        work.add_columns(of_records([record(n, series=f"S {n}") for n in range(1, 6)]))
    work.abandon()
