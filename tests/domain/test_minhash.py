"""Sketches of asked lists: what they tell, what they do not, what they cost."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tieline_client.digests import DigestKind
from tieline_server.domain.minhash import (
    SKETCH_BYTES,
    Sketcher,
    resemblance,
    resemblances,
    sketch,
)
from tieline_server.matching import sketching

KEY = b"k" * 32


def _digests(count: int, seed: int, width: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, width), dtype=np.uint8)


def _resemble(share: float, count: int = 20_000) -> float:
    """Sketch two lists whose Jaccard resemblance is ``share``."""
    common = round(count * share)
    rest = (count - common) // 2
    both = _digests(common, 1)
    one = np.concatenate([both, _digests(rest, 2)])
    other = np.concatenate([both, _digests(rest, 3)])
    return resemblance(sketch(KEY, DigestKind.SHA1, one), sketch(KEY, DigestKind.SHA1, other))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8, 0.95, 1.0])
def test_the_estimate_is_near_the_truth(share: float) -> None:
    # Four standard errors of 128 bins.
    assert _resemble(share) == pytest.approx(share, abs=4 * (0.25 / 128) ** 0.5)
    if share in (0.0, 1.0):
        assert _resemble(share) == share


def test_batches_and_order_make_no_difference() -> None:
    rows = _digests(5_000, 4)
    whole = sketch(KEY, DigestKind.SHA1, rows)
    parts = Sketcher(KEY)
    for part in reversed(np.array_split(rows, 7)):
        parts.add(DigestKind.SHA1, part)
    parts.add(DigestKind.SHA1, rows[:0])
    parts.add(DigestKind.SHA1, rows[:100])  # again
    assert parts.sketch() == whole
    assert len(whole) == SKETCH_BYTES


@pytest.mark.parametrize("kind", list(DigestKind))
@pytest.mark.parametrize("count", [0, 1, 300, 20_000])
def test_one_pass_makes_the_same(kind: DigestKind, count: int) -> None:
    rows = _digests(count, 8, kind.width)
    quick = Sketcher(KEY, sketching.least_of_bins)
    quick.add(kind, rows)
    assert quick.sketch() == sketch(KEY, kind, rows)


@pytest.mark.parametrize("kind", list(DigestKind))
def test_every_byte_counts(kind: DigestKind) -> None:
    row = _digests(1, 5, kind.width)
    made = {sketch(KEY, kind, row)}
    for at in range(kind.width):
        other = row.copy()
        other[0, at] ^= 1
        made.add(sketch(KEY, kind, other))
    assert len(made) == kind.width + 1


def test_kinds_are_apart() -> None:
    rows = _digests(300, 6, 32)
    shares = resemblance(sketch(KEY, DigestKind.SHA256, rows), sketch(KEY, DigestKind.PDQ, rows))
    assert shares < 0.05


def test_without_the_key_a_sketch_is_not_a_guess_confirmed() -> None:
    rows = _digests(1, 7)
    mine, other = sketch(KEY, DigestKind.SHA1, rows), sketch(b"o" * 32, DigestKind.SHA1, rows)
    assert resemblance(mine, other) == 0.0


def test_short_lists_compare_exactly_enough() -> None:
    one, two = _digests(1, 8), _digests(1, 9)
    assert resemblance(sketch(KEY, DigestKind.MD5, one[:, :16]), Sketcher(KEY).sketch()) == 0.0
    same = sketch(KEY, DigestKind.SHA1, one)
    assert resemblance(same, same) == 1.0
    assert resemblance(same, sketch(KEY, DigestKind.SHA1, two)) == 0.0
    assert resemblance(Sketcher(KEY).sketch(), Sketcher(KEY).sketch()) == 0.0


def test_crafted_prefixes_spread_over_the_bins() -> None:
    rows = _digests(20_000, 10)
    rows[:, :16] = 7  # all alike but for the last four bytes
    filled = np.frombuffer(sketch(KEY, DigestKind.SHA1, rows), "<u4") != 0xFFFFFFFF
    assert filled.all()
    near = np.concatenate([rows[:15_000], _digests(5_000, 11)])
    share = resemblance(sketch(KEY, DigestKind.SHA1, rows), sketch(KEY, DigestKind.SHA1, near))
    assert share == pytest.approx(15 / 25, abs=0.18)


def test_many_are_compared_at_once() -> None:
    rows = _digests(2_000, 12)
    mine = sketch(KEY, DigestKind.SHA1, rows)
    others = [sketch(KEY, DigestKind.SHA1, _digests(2_000, seed)) for seed in range(12, 40)]
    shares = resemblances(mine, others)
    assert shares[0] == 1.0
    assert (shares[1:] < 0.1).all()


def test_ten_thousand_take_well_under_a_millisecond() -> None:
    rows = _digests(10_000, 13)
    best = 1.0
    for _ in range(20):
        start = time.thread_time()
        sketch(KEY, DigestKind.SHA1, rows)
        best = min(best, time.thread_time() - start)
    assert best < 0.01  # measured: 0.0003; a slow machine may take ten times as long
