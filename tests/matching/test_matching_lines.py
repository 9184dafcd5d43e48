"""The first filter of a table: nothing that is held is turned away, little else passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_server.domain.minhash import least_of_bins
from tieline_server.matching import files
from tieline_server.matching.compiled import frozen
from tieline_server.matching.files import MANIFEST, MemoryStore
from tieline_server.matching.lines import REGION_BITS, pass_lines, region_of, write_lines
from tieline_server.matching.matcher import Matcher
from tieline_server.matching.mixing import first_lane, inverses, lane, mix_keys, mixed
from tieline_server.matching.sorting import Collector
from tieline_server.matching.table import Table, write_table

from tests.matching.brute import random_digests

_KEYS = mix_keys(bytes(range(16)))


def table_of(kind: DigestKind, digests: np.ndarray) -> Table:
    collector = Collector(kind.width // 4, None)
    collector.add(mixed(digests, _KEYS), np.arange(len(digests), dtype=np.int64))
    table = write_table(MemoryStore(), "", collector.runs(), kind.width // 4, 0)
    assert table is not None
    return table


def passes(kind: DigestKind, held: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return which of the asked digests pass the filter of those that are held."""
    _, lines, starts = write_lines(MemoryStore(), "", table_of(kind, held), _KEYS)
    places, passed = np.empty(len(asked), dtype=np.int64), np.empty(len(asked), dtype=np.int64)
    count = pass_lines(frozen(asked), mixed(asked, _KEYS), lines, starts, places, passed)
    found = np.zeros(len(asked), dtype=bool)
    found[passed[:count]] = True
    return found


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_all_that_are_held_pass_and_few_others(kind: DigestKind) -> None:
    rng = np.random.default_rng(20)
    held, others = random_digests(rng, kind, 60_000), random_digests(rng, kind, 60_000)
    assert passes(kind, held, held).all()
    assert passes(kind, held, others).mean() < 0.025


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_digests_that_begin_alike_are_turned_away_as_well(kind: DigestKind) -> None:
    rng = np.random.default_rng(21)
    held, others = random_digests(rng, kind, 40_000), random_digests(rng, kind, 40_000)
    held[:, :8] = others[:, :8] = rng.integers(0, 256, 8, dtype=np.uint8)
    assert passes(kind, held, held).all()
    assert passes(kind, held, others).mean() < 0.025


@pytest.mark.parametrize("kind", EXACT_KINDS)
@given(st.data())
def test_the_mix_can_be_undone(kind: DigestKind, data: st.DataObject) -> None:
    digest = data.draw(st.binary(min_size=kind.width, max_size=kind.width))
    secret = data.draw(st.binary(min_size=16, max_size=16))
    keys = mix_keys(secret)
    asked = np.frombuffer(digest, dtype=np.uint8).reshape(1, -1)
    lanes = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, kind.width, 4)]
    assert [lane(asked, 0, j) for j in range(len(lanes))] == lanes
    assert first_lane(mixed(asked, keys), 0, keys, inverses(keys)) == lanes[0]


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_digests_are_found_wherever_they_lie_in_a_message(kind: DigestKind) -> None:
    held = random_digests(np.random.default_rng(23), kind, 1_000)
    matcher = Matcher(None)
    matcher.add(kind, np.arange(len(held), dtype=np.int64), held)
    words = np.arange(10, dtype=np.uint64)
    sketch = least_of_bins(held, words)
    for before in range(1, 8):
        data = memoryview(bytes(before) + held.tobytes())[before:]
        asked = np.frombuffer(data, dtype=np.uint8).reshape(held.shape)
        found = matcher.exact(kind, asked)
        assert found.positions.tolist() == found.item_ids.tolist() == list(range(len(held)))
        assert (matcher.least_of_bins(asked, words) == sketch).all()


def test_regions_follow_the_order_in_which_lists_are_sorted() -> None:
    digests = random_digests(np.random.default_rng(22), DigestKind.SHA1, 5_000)
    ordered = digests[np.lexsort(digests.T[::-1])]
    regions = [int(region_of(lane(ordered, i, 0))) for i in range(len(ordered))]
    assert regions == sorted(regions)
    assert {0, (1 << REGION_BITS) - 1} <= set(regions)


@pytest.mark.parametrize("fault", ["fewer", "beyond", "back", "before"])
def test_regions_that_do_not_fit_the_words_are_damage(tmp_path: Path, fault: str) -> None:
    """Of a manifest that was altered, checksum and all: no kernel may read outside of a file."""
    digests = random_digests(np.random.default_rng(23), DigestKind.SHA1, 2_000)
    matcher = Matcher.open(tmp_path)
    matcher.rebuild([(DigestKind.SHA1, np.arange(2_000, dtype=np.int64), digests)], 1)
    matcher.close()
    path = tmp_path / MANIFEST
    body: dict[str, Any] = json.loads(path.read_text())["body"]
    (segment,) = body["segments"]["sha1"]
    if fault == "fewer":
        segment["starts"].pop()
    elif fault == "beyond":
        segment["starts"][-1] += 1
    elif fault == "back":
        segment["starts"][7] = segment["starts"][6]
    else:
        segment["starts"][0] = -1
    store = files.FolderStore(tmp_path)
    store.commit(body, [one.name for one in tmp_path.iterdir()])
    again = Matcher.open(tmp_path)
    assert again.stats()["damage"]
    assert not len(again.exact(DigestKind.SHA1, digests).positions)
    again.close()
