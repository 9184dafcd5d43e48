"""Near lookups against comparing everything with everything."""

from __future__ import annotations

from math import comb
from pathlib import Path

import numpy as np
import pytest
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_server.matching import chunks
from tieline_server.matching import matcher as matchers
from tieline_server.matching.matcher import Matcher

from tests.matching.brute import as_answers, flipped, near_answers, random_digests

PDQ = DigestKind.PDQ


def uniform(rng: np.random.Generator, count: int) -> np.ndarray:
    return random_digests(rng, PDQ, count)


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    centres = random_digests(rng, PDQ, max(count // 50, 1))
    return flipped(rng, centres[rng.zipf(1.6, count) % len(centres)], rng.integers(0, 40, count))


def low_entropy(rng: np.random.Generator, count: int) -> np.ndarray:
    base = np.zeros((count, 32), dtype=np.uint8)
    base[: count // 2, 16:] = 0xFF
    return flipped(rng, base, rng.integers(0, 25, count))


def shared_halves(rng: np.random.Generator, count: int) -> np.ndarray:
    digests = random_digests(rng, PDQ, count)
    digests[:, :16] = digests[rng.integers(0, 5, count), :16]
    return digests


SETS = [uniform, clustered, low_entropy, shared_halves]


@pytest.mark.parametrize("make", SETS)
@pytest.mark.parametrize("where", ["delta", "small", "snapshot"])
def test_equals_comparing_everything(
    make: object, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(make)
    rng = np.random.default_rng(1)
    held, ids = make(rng, 3_000), rng.permutation(3_000).astype(np.int64)
    asked = np.concatenate(
        [flipped(rng, held[:150], rng.integers(0, 40, 150)), make(rng, 50), held[:20]]
    )
    if where == "small":
        monkeypatch.setattr(matchers, "_WALKED_ROWS", 256)
    matcher = Matcher(None)
    matcher.add(PDQ, ids, held)
    if where == "snapshot":
        matcher.merge()
    for radius, cap in [(31, 100), (31, 5), (16, 1), (0, 100), (1, 3), (30, 2_000)]:
        found = as_answers(matcher.near(asked, radius, cap))
        assert found == near_answers(ids, held, asked, radius, cap)
    matcher.close()


@pytest.mark.parametrize("scheme", [chunks.NARROW, chunks.WIDE], ids=lambda scheme: scheme.name)
def test_every_distance_up_to_31_and_none_beyond(
    scheme: chunks.Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_WIDE_FROM", 0 if scheme.name == "wide" else 10**9)
    rng = np.random.default_rng(2)
    held = random_digests(rng, PDQ, 33 * 60)
    distances = np.arange(len(held)) % 33
    asked = flipped(rng, held, distances)
    matcher = Matcher(None)
    matcher.add(PDQ, np.arange(len(held)), held)
    matcher.merge()
    for radius in (31, 30, 12, 0):
        hits = matcher.near(asked, radius)
        inside = np.flatnonzero(distances <= radius)
        assert hits.positions.tolist() == hits.item_ids.tolist() == inside.tolist()
        assert hits.distances.tolist() == distances[inside].tolist()
        assert len(hits.truncated) == 0
    matcher.close()


@pytest.mark.parametrize("scheme", [chunks.NARROW, chunks.WIDE], ids=lambda scheme: scheme.name)
def test_a_scheme_covers_256_bits_once_and_radius_31(scheme: chunks.Scheme) -> None:
    assert scheme.plan[:, 1].sum() == 256
    assert (scheme.plan[:, 2] + 1).sum() >= 32
    for chunk, (_, bits, flips, _, _) in enumerate(scheme.plan):
        turns = scheme.turns[scheme.bounds[chunk, 0] : scheme.bounds[chunk, flips + 1]]
        assert len(np.unique(turns)) == sum(comb(bits, count) for count in range(flips + 1))
    steps = [(flips, chunk) for flips, first, last in scheme.groups for chunk in range(first, last)]
    assert len(steps) == (scheme.plan[:, 2] + 1).sum()
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("bits", [16, 20])
def test_buckets_are_spread_one_to_one(bits: int) -> None:
    seen = np.zeros(1 << bits, dtype=np.bool_)
    for value in range(1 << bits):
        seen[chunks.spread(value)] = True
    assert seen.all()


def test_the_permutation_keeps_distances_and_depends_on_the_secret() -> None:
    rng = np.random.default_rng(3)
    digests = random_digests(rng, PDQ, 200)
    permuted = np.empty((200, 8), dtype=np.uint32)
    chunks.permute(digests, chunks.permutation(b"a" * 16), permuted)
    other = np.empty_like(permuted)
    chunks.permute(digests, chunks.permutation(b"b" * 16), other)
    assert (permuted != other).any()
    before = np.bitwise_count(digests[:1] ^ digests).sum(axis=1)
    assert (np.bitwise_count(permuted[:1] ^ permuted).sum(axis=1) == before).all()


def test_of_too_many_the_nearest_are_kept_and_it_is_said() -> None:
    rng = np.random.default_rng(4)
    centre = random_digests(rng, PDQ, 1)
    held = flipped(rng, np.repeat(centre, 5_000, axis=0), rng.integers(0, 32, 5_000))
    ids = rng.permutation(5_000).astype(np.int64)
    matcher = Matcher(None)
    matcher.add(PDQ, ids[:2_500], held[:2_500])
    matcher.merge()
    matcher.add(PDQ, ids[2_500:], held[2_500:])
    asked = np.concatenate([random_digests(rng, PDQ, 3), centre])
    for cap in (1, 7, 100, 5_000, 5_001):
        answers, capped = as_answers(matcher.near(asked, cap=cap))
        assert (answers, capped) == near_answers(ids, held, asked, cap=cap)
        assert capped == ([3] if cap < 5_000 else [])
    matcher.close()


def test_an_item_with_two_hashes_answers_once_with_the_nearer() -> None:
    rng = np.random.default_rng(5)
    centre = random_digests(rng, PDQ, 1)
    held = flipped(rng, np.repeat(centre, 40, axis=0), np.arange(40) % 30)
    ids = (np.arange(40) % 4).astype(np.int64)
    matcher = Matcher(None)
    matcher.add(PDQ, ids[:20], held[:20])
    matcher.merge()
    matcher.add(PDQ, ids, held)
    for cap in (2, 4, 5):
        assert as_answers(matcher.near(centre, cap=cap)) == near_answers(ids, held, centre, cap=cap)
    matcher.close()


@pytest.mark.parametrize("where", ["delta", "small", "snapshot", "restarted"])
def test_what_is_passed_over_is_not_there(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(6)
    centre = random_digests(rng, PDQ, 1)
    held = flipped(rng, np.repeat(centre, 600, axis=0), rng.integers(0, 34, 600))
    ids = rng.permutation(600).astype(np.int64)
    if where == "small":
        monkeypatch.setattr(matchers, "_WALKED_ROWS", 64)
    matcher = Matcher(tmp_path)
    numbers = matcher.holding_numbers([(), ((1, 0),), ((2, 0),), ((1, 0), (2, 0))])
    held_as = ids % 4
    matcher.add(PDQ, ids, held)
    matcher.hold(ids[:400], numbers[held_as[:400]])
    if where in ("snapshot", "restarted"):
        matcher.merge()
    if where == "restarted":
        matcher.close()
        matcher = Matcher.open(tmp_path)
        numbers = matcher.holding_numbers([(), ((1, 0),), ((2, 0),), ((1, 0), (2, 0))])
    matcher.hold(ids[400:500], numbers[held_as[400:500]])
    held_as[500:] = 0
    for over in ([], [1], [0, 2], [3, 0], [0, 1, 2, 3]):
        left = ~np.isin(held_as, over)
        expected = near_answers(ids[left], held[left], centre, 31, 50)
        passed_over = numbers[over].tolist()
        assert as_answers(matcher.near(centre, 31, 50, passed_over)) == expected
    matcher.close()


def test_radius_and_cap_have_bounds() -> None:
    matcher, one = Matcher(None), np.zeros((1, 32), dtype=np.uint8)
    for radius, cap in [(32, 1), (-1, 1), (31, 0), (31, 10_001)]:
        with pytest.raises(InvalidInput):
            matcher.near(one, radius, cap)
    matcher.close()
