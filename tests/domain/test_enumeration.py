"""Signs of enumeration: what is seen, and what ordinary work never looks like."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_server.domain.alarm import AlarmKind
from tieline_server.domain.enumeration import Earlier, Rows, crafted, low_hits, repeated

KINDS = (DigestKind.MD5, DigestKind.SHA1, DigestKind.SHA256)


def _rows(digests: list[bytes]) -> Rows:
    packed = b"".join(sorted(set(digests)))
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, len(digests[0]))


def _honest(kind: DigestKind, count: int, seed: int = 0) -> list[bytes]:
    """Digests of files, as every honest list holds them."""
    return [
        hashlib.new(kind.label, f"synthetic {seed} {number}".encode()).digest()
        for number in range(count)
    ]


# --- few hits in very much ------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.floats(0.001, 1.0))
def test_a_seizure_of_any_size_with_ordinary_hits_is_nothing(asked: int, share: float) -> None:
    assert low_hits(asked, -int(-asked * share // 1)) is None


def test_a_large_seizure_with_two_percent_of_hits_is_nothing() -> None:
    assert low_hits(4_900_000, 98_000) is None


@given(st.integers(0, limits.LOW_HITS_ASKED - 1))
def test_little_is_never_judged(asked: int) -> None:
    assert low_hits(asked, 0) is None


@given(st.integers(limits.LOW_HITS_ASKED, 10**9))
def test_next_to_no_hits_in_very_much_are_seen(asked: int) -> None:
    for hits in (0, (asked - 1) // limits.LOW_HITS_ONE_IN):
        found = low_hits(asked, hits)
        assert found is not None and found.kind is AlarmKind.LOW_HITS
        assert str(asked) in found.why


# --- hashes that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_digests_of_files_are_never_crafted(kind: DigestKind) -> None:
    for seed in range(40):
        for count in (limits.CRAFTED_LEAST, 200, limits.CRAFTED_SAMPLE):
            assert crafted(kind, _rows(_honest(kind, count, seed))) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [700, 5_000, 50_000])
def test_no_part_of_a_long_list_is_crafted(kind: DigestKind, count: int) -> None:
    """Parts of an ascending list begin alike, the more so the longer it is."""
    rows = _rows(_honest(kind, count))
    for start in range(0, count - limits.CRAFTED_SAMPLE, max(count // 200, 1)):
        assert crafted(kind, rows[start : start + limits.CRAFTED_SAMPLE]) is None


def test_no_part_of_the_longest_list_is_crafted() -> None:
    rng = np.random.default_rng(7)
    rows = rng.integers(0, 256, (limits.RECORDS_PER_QUERY // 10, 16), dtype=np.uint8)
    words = rows.view(">u8")[:, 0] // 10  # ten times as close as so many are by themselves
    rows[:, :8] = np.sort(words).astype(">u8").view(np.uint8).reshape(-1, 8)
    for start in range(0, len(rows) - limits.CRAFTED_SAMPLE, 2_500):
        part = rows[start : start + limits.CRAFTED_SAMPLE]
        assert crafted(DigestKind.MD5, part) is None


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(limits.CRAFTED_LEAST, limits.CRAFTED_SAMPLE),
    st.integers(0, 2**64),
)
def test_uniform_digests_are_never_crafted(kind: DigestKind, count: int, seed: int) -> None:
    rng = random.Random(seed)
    assert crafted(kind, _rows([rng.randbytes(kind.width) for _ in range(count)])) is None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**100),
    st.integers(1, 2**40),
    st.integers(limits.CRAFTED_LEAST, 300),
)
def test_progressions_are_seen(kind: DigestKind, first: int, step: int, count: int) -> None:
    made = [(first + step * n).to_bytes(kind.width) for n in range(count)]
    assert crafted(kind, _rows(made)) is not None
    at_the_front = [one[::-1] for one in made]
    assert crafted(kind, _rows(at_the_front)) is not None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 8),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**32),
)
def test_a_shared_part_is_seen_wherever_it_stands(
    kind: DigestKind, at: int, part: bytes, seed: int
) -> None:
    rng = random.Random(seed)
    made = []
    for _ in range(limits.CRAFTED_LEAST):
        one = bytearray(rng.randbytes(kind.width))
        one[at : at + 8] = part
        made.append(bytes(one))
    assert crafted(kind, _rows(made)) is not None


def test_text_and_other_bytes_of_little_variety_are_seen() -> None:
    rng = random.Random(1)
    for letters in (b"0123456789abcdef", bytes(range(0x20, 0x7F)), bytes(range(128))):
        made = [bytes(rng.choices(letters, k=32)) for _ in range(200)]
        found = crafted(DigestKind.SHA256, _rows(made))
        assert found is not None and found.kind is AlarmKind.CRAFTED


def test_some_crafted_ones_among_honest_ones_are_seen() -> None:
    made = _honest(DigestKind.SHA1, 400) + [n.to_bytes(20) for n in range(50)]
    assert crafted(DigestKind.SHA1, _rows(made)) is not None


PUBLISHED = (
    "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22",
    "f8f8f0cee0f4a84f06370a2a068f67f0b36e26d596621e1d33e6339c4e9c9b22",
    "d8f8f0cec0f4a84f8e370a22038f67f0b36a2ed597231e1d72e6b39c4a9c9b22",
    "d0f8f1ccc0f4a84d0a370a3a228f67f0b36e2ed5b6623e1d33e6339c4e9c9b22",
    "adad5a64b5a142e75b62a09857da895ae63b847fc23794b766b319361bc93188",
    "a5f0a457a48995e8c9065c275aaa5498b61ba4bdf8fcf80387c32f8b1bfc4f05",
)
"""Hashes that PDQ's authors publish as what their code must make, of one picture of a bridge,
altered and turned."""


def _balanced(rng: random.Random, *, off: int = 0) -> bytes:
    bits = rng.sample(range(256), 128 + rng.randint(-off, off))
    return sum(1 << bit for bit in bits).to_bytes(32)


def test_half_the_bits_of_a_published_pdq_are_set() -> None:
    assert {int(one, 16).bit_count() for one in PUBLISHED} == {128}


@pytest.mark.parametrize("count", [limits.CRAFTED_LEAST, limits.CRAFTED_SAMPLE])
def test_pdqs_of_which_half_the_bits_are_set_are_not_crafted(count: int) -> None:
    """Near duplicates are ordinary, and so are a few with equal coefficients."""
    for seed in range(20):
        rng = random.Random(seed)
        made = [_balanced(rng, off=limits.PDQ_OFF_BALANCE) for _ in range(count)]
        few = [(1 << n).to_bytes(32) for n in range(count // limits.PDQ_ODD_ONE_IN)]
        assert crafted(DigestKind.PDQ, _rows(made)) is None
        assert crafted(DigestKind.PDQ, _rows([*made[len(few) :], *few][:count])) is None
    frames = {int(PUBLISHED[0], 16) ^ (3 << bit) for bit in range(200)}  # two bits each
    near = [one.to_bytes(32) for one in frames]
    assert crafted(DigestKind.PDQ, _rows(near)) is None


@pytest.mark.parametrize("count", [limits.CRAFTED_LEAST, limits.CRAFTED_SAMPLE])
def test_made_up_pdqs_are_seen(count: int) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        start = rng.getrandbits(200)
        for made in (
            [rng.randbytes(32) for _ in range(count)],
            [(start + n).to_bytes(32) for n in range(count)],
            [hashlib.sha256(bytes([seed, n % 256, n // 256])).digest() for n in range(count)],
        ):
            found = crafted(DigestKind.PDQ, _rows(made))
            assert found is not None and found.kind is AlarmKind.CRAFTED
            assert "not half the bits" in found.why


def test_few_are_not_judged() -> None:
    made = [n.to_bytes(32) for n in range(200)]
    assert crafted(DigestKind.SHA256, _rows(made[: limits.CRAFTED_LEAST - 1])) is None


def test_what_is_said_of_a_list_holds_none_of_its_digests() -> None:
    made = _rows([n.to_bytes(20) for n in range(200)])
    found = crafted(DigestKind.SHA1, made)
    assert found is not None
    assert not any(row.tobytes().hex() in found.why for row in made)


# --- lists that are almost the same ---------------------------------------------------------------


def _same(case: str, *, today: bool = False) -> Earlier:
    return Earlier(case, 1.0, True, today)


def _almost(case: str, *, today: bool = True) -> Earlier:
    return Earlier(case, 0.98, False, today)


def test_a_nightly_run_of_the_same_list_is_nothing() -> None:
    assert repeated("C-1", [_same("C-1") for _ in range(30)]) is None
    assert repeated("C-1", [_same("C-1", today=True) for _ in range(200)]) is None


def test_a_list_that_grows_every_day_is_nothing() -> None:
    assert repeated("C-1", [_almost("C-1", today=False) for _ in range(30)]) is None


def test_lists_that_have_little_in_common_are_nothing() -> None:
    others = [Earlier(f"C-{n}", limits.LISTS_ALIKE - 0.01, False, True) for n in range(500)]
    assert repeated("C-1", others) is None


def test_many_a_day_that_differ_by_little_are_seen() -> None:
    few = [_almost("C-1") for _ in range(limits.LISTS_ALIKE_A_DAY - 1)]
    assert repeated("C-1", few) is None
    found = repeated("C-1", [*few, _almost("C-1")])
    assert found is not None and found.kind is AlarmKind.REPEATED


def test_one_list_under_many_cases_is_seen() -> None:
    few = [_same(f"C-{n}") for n in range(1, 1 + limits.LISTS_ALIKE_CASES)]
    assert repeated("C-1", few) is None  # its own case is not another
    assert repeated("C-99", few) is not None
