"""The asked list against a plain model: which records go, in which order, and the way back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client import limits
from tieline_client.asked_list import STRONGEST, AskedList, AskTerms, ListBuilder
from tieline_client.columns import columnar, of_records
from tieline_client.digests import JUNK, DigestKind, format_digest
from tieline_client.errors import InvalidDigest, LimitExceeded
from tieline_client.formats.record import Record, Vote
from tieline_client.packed import U8

LISTED, OTHER, STATED = Vote("vics-us", "1"), Vote("vics-us", "5"), Vote("icse", "2")
TERMS = AskTerms(frozenset({LISTED}))
_JUNK = {kind: sorted(value for of, value in JUNK if of is kind) for kind in DigestKind}


def _value(kind: DigestKind) -> st.SearchStrategy[bytes | None]:
    few = st.integers(0, 6).map(lambda n: hashlib.shake_128(bytes([kind, n])).digest(kind.width))
    return st.one_of(st.none(), few, st.sampled_from(_JUNK[kind]))


_VOTES = st.lists(st.sampled_from((LISTED, OTHER, STATED)), max_size=2).map(tuple)


@st.composite
def _records(draw: st.DrawFn) -> list[Record]:
    count = draw(st.integers(0, 12))
    gaps = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    numbers = np.cumsum(gaps).tolist() if count else []
    return [
        Record(
            number=number,
            md5=draw(_value(DigestKind.MD5)),
            sha1=draw(_value(DigestKind.SHA1)),
            sha256=draw(_value(DigestKind.SHA256)),
            pdq=draw(_value(DigestKind.PDQ)),
            pdq_quality=draw(st.sampled_from((None, 0, 49, 50, 100))),
            votes=draw(_VOTES),
            entire=draw(st.booleans()),
            deleted=draw(st.sampled_from((False, False, False, True))),
        )
        for number in numbers
    ]


@dataclass
class Model:
    """What a list should be: the digests of each record that goes."""

    near: bool
    stated: Vote | None
    asked: dict[int, dict[DigestKind, bytes]] = field(default_factory=dict)
    excluded: int = 0
    perceptual_only: int = 0
    """Of the excluded those that only a near question asks."""

    def add(self, record: Record) -> None:
        """Take one record."""
        belongs = record.entire or (
            bool({LISTED, self.stated} & set(record.votes))
            if record.votes
            else self.stated is not None
        )
        quality = 100 if record.pdq_quality is None else record.pdq_quality
        digests = {
            kind: value
            for kind in DigestKind
            if (value := getattr(record, kind.label)) is not None
            and (kind, value) not in JUNK
            and (kind is not DigestKind.PDQ or quality >= limits.PDQ_MIN_QUALITY)
        }
        near_alone = set(digests) == {DigestKind.PDQ} and not self.near
        if not self.near:
            digests.pop(DigestKind.PDQ, None)
        if belongs and digests and not record.deleted:
            self.asked[record.number] = digests
        else:
            self.excluded += 1
            self.perceptual_only += near_alone and belongs and not record.deleted

    def packed(self, kind: DigestKind) -> list[bytes]:
        """Distinct digests of a kind, ascending."""
        return sorted({one[kind] for one in self.asked.values() if kind in one})

    def without(self, known: set[tuple[DigestKind, bytes]]) -> Model:
        """Leave out the records with a known good digest."""
        kept = {n: one for n, one in self.asked.items() if not known & set(one.items())}
        gone = len(self.asked) - len(kept)
        return Model(self.near, self.stated, kept, self.excluded + gone)


def _agree(made: AskedList, model: Model) -> None:
    assert len(made) == len(model.asked)
    assert made.excluded == model.excluded
    packed = {kind: model.packed(kind) for kind in DigestKind}
    assert made.counts() == [len(packed[kind]) for kind in DigestKind]
    assert list(made.columns) == [kind for kind in DigestKind if packed[kind]]
    everything = b"".join(b"".join(one) for one in packed.values())
    assert made.digest == hashlib.sha256(everything).digest()
    assert [(one.kind, bytes(one.digests)) for one in made.batches()] == [
        (kind, b"".join(one)) for kind, one in packed.items() if one
    ]
    everyone = np.arange(len(made), dtype=np.int64)
    numbers = made.numbers_of(everyone).tolist()
    assert numbers == list(model.asked)
    for kind, column in made.columns.items():
        positions = np.arange(len(packed[kind]), dtype=np.int64)
        which, records = column.owners(positions)
        pairs = {(packed[kind][at], numbers[one]) for at, one in zip(which, records, strict=True)}
        assert len(pairs) == len(which)
        assert pairs == {
            (digests[kind], number) for number, digests in model.asked.items() if kind in digests
        }
    for index, digests in enumerate(model.asked.values()):
        strongest = next(kind for kind in STRONGEST if kind in digests)
        assert made.name_of(index) == format_digest(strongest, digests[strongest])


def _built(records: Sequence[Record], *, near: bool, stated: Vote | None) -> AskedList:
    builder = ListBuilder(TERMS, near=near, stated=stated)
    for record in records:
        builder.add(record)
    return builder.build()


_CASES = {"near": st.booleans(), "stated": st.sampled_from((None, STATED))}


@given(records=_records(), **_CASES)
def test_a_list_of_records_is_that_of_the_model(
    records: list[Record], near: bool, stated: Vote | None
) -> None:
    model, builder = Model(near, stated), ListBuilder(TERMS, near=near, stated=stated)
    for record in records:
        model.add(record)
        builder.add(record)
    assert builder.perceptual_only == model.perceptual_only
    _agree(builder.build(), model)


@given(records=_records(), **_CASES)
def test_columns_and_records_of_a_file_make_the_same_list(
    records: list[Record], near: bool, stated: Vote | None
) -> None:
    builder = ListBuilder(TERMS, near=near, stated=stated)
    for entire in (False, True):
        # As in a block of a file: what columns can say comes first.
        whole = [one for one in records if one.entire == entire and columnar(one)]
        if whole:
            builder.add_columns(of_records(whole))
    for record in records:
        if not columnar(record):
            builder.add(record)
    model = Model(near, stated)
    for record in records:
        model.add(record)
    assert builder.perceptual_only == model.perceptual_only
    _agree(builder.build(), model)


@given(data=st.data(), records=_records(), **_CASES)
def test_known_good_records_leave_with_all_their_digests(
    data: st.DataObject, records: list[Record], near: bool, stated: Vote | None
) -> None:
    made, model = _built(records, near=near, stated=stated), Model(near, stated)
    for record in records:
        model.add(record)
    for _ in range(2):
        known, named = {}, set()
        for kind, column in made.columns.items():
            count = len(column.digests)
            positions = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=2))
            if positions:
                known[kind] = np.array(sorted(positions), dtype=np.int64)
                named |= {(kind, column.digests[at].tobytes()) for at in positions}
        made, model = made.without(known), model.without(named)
        _agree(made, model)


@given(st.sampled_from(DigestKind), st.data())
def test_digests_alone_are_a_record_each(kind: DigestKind, data: st.DataObject) -> None:
    values = data.draw(st.lists(_value(kind).filter(lambda one: one is not None), max_size=20))
    digests = [one for one in values if one is not None]
    rows = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, kind.width)
    model = Model(near=True, stated=STATED)
    for number, digest in enumerate(digests, start=1):
        record = Record(number=number, entire=True)
        setattr(record, kind.label, digest)
        model.add(record)
    _agree(AskedList.from_digests(kind, rows), model)


def test_an_ascending_list_is_taken_as_it_is() -> None:
    rows = np.unique(np.random.default_rng(3).integers(0, 256, (500, 20), dtype=np.uint8), axis=0)
    made = AskedList.from_digests(DigestKind.SHA1, rows)
    assert np.shares_memory(made.columns[DigestKind.SHA1].digests, rows)


def test_a_long_list_travels_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DIGESTS_PER_BATCH", 7)
    rows = np.random.default_rng(4).integers(0, 256, (50, 16), dtype=np.uint8)
    batches = list(AskedList.from_digests(DigestKind.MD5, rows).batches())
    assert [len(one) for one in batches] == [7] * 7 + [1]
    assert b"".join(one.digests for one in batches) == b"".join(sorted(map(bytes, rows)))


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((3, 16), dtype=np.uint8),
        np.zeros((3, 20), dtype=np.uint16),
        np.zeros(20, dtype=np.uint8),
    ],
)
def test_rows_of_another_shape_are_no_digests(rows: U8) -> None:
    with pytest.raises(InvalidDigest):
        AskedList.from_digests(DigestKind.SHA1, rows)


def test_a_question_has_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(number=1, sha1=b"\x01" * 20, entire=True)
    builder = ListBuilder(AskTerms(frozenset(), records_most=2), near=False)
    assert builder.add(record)
    assert builder.add(record)
    with pytest.raises(LimitExceeded, match="2 records"):
        builder.add(record)
    builder = ListBuilder(AskTerms(frozenset(), records_most=2), near=False)
    with pytest.raises(LimitExceeded, match="2 records"):
        builder.add_columns(of_records([record] * 3))
    monkeypatch.setattr(limits, "RECORDS_PER_QUERY", 2)
    with pytest.raises(LimitExceeded, match="2 records"):
        AskedList.from_digests(DigestKind.MD5, np.ones((3, 16), dtype=np.uint8))
