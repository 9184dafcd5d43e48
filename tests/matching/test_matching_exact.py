"""Exact lookups against a dictionary."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import InvalidDigest, InvalidInput
from tieline_server.matching import sorting
from tieline_server.matching.compiled import frozen
from tieline_server.matching.matcher import Matcher
from tieline_server.matching.mixing import mix, mix_keys

from tests.matching.brute import exact_pairs, random_digests


def pairs(matcher: Matcher, kind: DigestKind, asked: np.ndarray) -> list[tuple[int, int]]:
    hits = matcher.exact(kind, asked)
    assert hits.positions.dtype == hits.item_ids.dtype == np.int64
    return list(zip(hits.positions.tolist(), hits.item_ids.tolist(), strict=True))


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_equals_a_dictionary_in_delta_and_snapshot(kind: DigestKind) -> None:
    rng = np.random.default_rng(1)
    digests = random_digests(rng, kind, 3_000)
    digests[1_000:1_500] = digests[:500]  # one digest, several items
    ids = rng.permutation(5_000)[:3_000] + 2**20
    held = [(int(item), row.tobytes()) for item, row in zip(ids, digests, strict=True)]
    asked = np.concatenate([digests[::2], random_digests(rng, kind, 2_000), digests[:10]])
    rng.shuffle(asked)
    truth = exact_pairs(held, asked)
    matcher = Matcher(None)
    assert pairs(matcher, kind, asked) == []
    matcher.add(kind, ids[:1_500], digests[:1_500])
    matcher.merge()
    matcher.add(kind, ids[1_200:], digests[1_200:])  # overlaps what is in the snapshot
    matcher.add(kind, ids[1_200:], digests[1_200:])
    assert pairs(matcher, kind, asked) == truth
    matcher.merge()
    assert pairs(matcher, kind, asked) == truth
    assert matcher.stats()["rows"][kind.label] == 3_000
    matcher.close()


def test_empty_questions_and_empty_index() -> None:
    matcher = Matcher(None)
    none = np.empty((0, 20), dtype=np.uint8)
    assert len(matcher.exact(DigestKind.SHA1, none).positions) == 0
    assert len(matcher.near(np.empty((0, 32), dtype=np.uint8)).positions) == 0
    matcher.add(DigestKind.SHA1, np.empty(0, dtype=np.int64), none)
    matcher.merge()
    matcher.rebuild([], 3)
    assert matcher.applied == 3
    assert len(matcher.exact(DigestKind.SHA1, np.zeros((5, 20), dtype=np.uint8)).positions) == 0
    matcher.close()


def test_large_questions_are_split_and_keep_their_order() -> None:
    rng = np.random.default_rng(2)
    digests = random_digests(rng, DigestKind.SHA1, 50_000)
    matcher = Matcher(None)
    matcher.add(DigestKind.SHA1, np.arange(50_000), digests)
    matcher.merge()
    asked = np.concatenate([random_digests(rng, DigestKind.SHA1, 60_000), digests])
    hits = matcher.exact(DigestKind.SHA1, asked)
    assert hits.positions.tolist() == list(range(60_000, 110_000))
    assert hits.item_ids.tolist() == list(range(50_000))
    matcher.close()


def test_a_digest_that_many_items_share_is_found_whole_and_added_fast() -> None:
    digest = np.full((60_000, 16), 7, dtype=np.uint8)
    ids = np.random.default_rng(3).permutation(60_000).astype(np.int64)
    matcher = Matcher(None)
    began = time.perf_counter()
    for _ in range(2):
        matcher.add(DigestKind.MD5, ids, digest)
        assert pairs(matcher, DigestKind.MD5, digest[:1]) == [(0, i) for i in range(60_000)]
        matcher.merge()
    assert time.perf_counter() - began < 60  # quadratic work would take ten minutes
    assert matcher.stats()["rows"]["md5"] == 60_000
    matcher.close()


@pytest.mark.parametrize("ids", [[0, 2**32], [-5, 5], [2**62, 3, 2**40]])
def test_item_ids_of_any_range(ids: list[int]) -> None:
    rng = np.random.default_rng(4)
    digests = random_digests(rng, DigestKind.SHA256, len(ids))
    matcher = Matcher(None)
    matcher.add(DigestKind.SHA256, np.array(ids), digests)
    for _ in range(2):
        matcher.merge()
        assert pairs(matcher, DigestKind.SHA256, digests) == list(enumerate(ids))
        matcher.add(DigestKind.SHA256, np.array([9]), random_digests(rng, DigestKind.SHA256, 1))
    matcher.close()


def test_no_digest_that_differs_in_one_bit_is_ever_a_hit() -> None:
    rng = np.random.default_rng(5)
    digest = random_digests(rng, DigestKind.SHA1, 1)
    matcher = Matcher(None)
    matcher.add(DigestKind.SHA1, np.array([1]), digest)
    bits = np.repeat(np.unpackbits(digest, axis=1), 160, axis=0)
    bits[np.arange(160), np.arange(160)] ^= 1
    for _ in range(2):
        assert len(matcher.exact(DigestKind.SHA1, np.packbits(bits, axis=1)).positions) == 0
        matcher.merge()
    matcher.close()


def crafted(name: str, count: int) -> np.ndarray:
    """Digests that an attacker would choose to crowd one bucket of an unkeyed index."""
    digests = np.full((count, 20), 0xAB, dtype=np.uint8)
    counter = np.arange(count, dtype="<u4").view(np.uint8).reshape(-1, 4)
    column = {"common prefix": 16, "common suffix": 0, "common ends": 8, "second word": 4}[name]
    digests[:, column : column + 4] = counter
    return digests


@pytest.mark.parametrize("name", ["common prefix", "common suffix", "common ends", "second word"])
def test_crafted_digests_spread_like_any_others(name: str) -> None:
    digests = crafted(name, 200_000)
    rows = np.empty((200_000, 5), dtype=np.uint32)
    mix(frozen(digests), mix_keys(b"0123456789abcdef"), rows)
    buckets = np.bincount(rows[:, 0] >> np.uint32(16), minlength=65_536)
    assert buckets.max() < 30  # about 3 each; uniform ones reach some 15
    assert len(np.unique(rows, axis=0)) == 200_000


def test_sorting_in_many_parts_and_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(sorting, "RUN_ROWS", 700)
    monkeypatch.setattr(sorting, "_WHOLE", 100)
    rng = np.random.default_rng(6)
    digests = random_digests(rng, DigestKind.MD5, 5_000)
    digests[3_000:] = digests[:2_000]
    ids = np.arange(5_000) // 2
    folder = tmp_path_factory.mktemp("index")
    matcher = Matcher(folder)
    batches = [
        (DigestKind.MD5, ids[i : i + 900], digests[i : i + 900]) for i in range(0, 5_000, 900)
    ]
    matcher.rebuild(batches + batches[:2], 1)
    held = [(int(item), row.tobytes()) for item, row in zip(ids, digests, strict=True)]
    assert pairs(matcher, DigestKind.MD5, digests) == exact_pairs(held, digests)
    assert not list(folder.glob("spill-*"))
    matcher.close()


def test_wrong_shapes_are_refused() -> None:
    matcher = Matcher(None)
    with pytest.raises(InvalidDigest):
        matcher.exact(DigestKind.MD5, np.zeros((1, 20), dtype=np.uint8))
    with pytest.raises(InvalidDigest):
        matcher.add(DigestKind.MD5, np.zeros(1, np.int64), np.zeros((1, 16), dtype=np.int8))
    with pytest.raises(InvalidInput):
        matcher.add(DigestKind.MD5, np.zeros(2, np.int64), np.zeros((1, 16), dtype=np.uint8))
    with pytest.raises(InvalidInput):
        matcher.exact(DigestKind.PDQ, np.zeros((1, 32), dtype=np.uint8))
    with pytest.raises(InvalidDigest):
        matcher.rebuild([(DigestKind.MD5, np.zeros(1, np.int64), np.zeros((1, 20), np.uint8))], 1)
    matcher.close()
