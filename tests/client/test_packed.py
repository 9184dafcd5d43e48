"""Order of packed digests: equal to that of bytes, however much the digests have in common."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.packed import (
    U8,
    ascending_order,
    is_new,
    is_strictly_ascending,
    prefixes,
    take,
)


@st.composite
def _digests(draw: st.DrawFn) -> list[bytes]:
    """Digests of one width that share their first bytes more often than any real ones."""
    width = draw(st.sampled_from((16, 20, 32)))
    starts = draw(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=3))
    ends = st.binary(min_size=width - 8, max_size=width - 8)
    near = ends.map(lambda end: end[:-1] + bytes([end[-1] & 1]))
    either = st.one_of(ends, near, st.just(bytes(width - 8)), st.just(b"\xff" * (width - 8)))
    return draw(st.lists(st.tuples(st.sampled_from(starts), either).map(b"".join), max_size=40))


def _rows(digests: list[bytes]) -> U8:
    width = len(digests[0]) if digests else 20
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, width)


@given(_digests())
def test_order_is_that_of_bytes(digests: list[bytes]) -> None:
    rows = _rows(digests)
    ascending = all(a < b for a, b in itertools.pairwise(digests))
    assert is_strictly_ascending(rows) == ascending
    order = ascending_order(rows)
    assert (order is None) == ascending
    if order is not None:
        assert sorted(order.tolist()) == list(range(len(digests)))
        assert [row.tobytes() for row in take(rows, order)] == sorted(digests)


@given(_digests())
def test_what_is_new_is_what_differs_from_the_one_before(digests: list[bytes]) -> None:
    ordered = sorted(digests)
    expected = [index == 0 or one != ordered[index - 1] for index, one in enumerate(ordered)]
    assert is_new(_rows(ordered)).tolist() == expected


@given(_digests())
def test_prefixes_are_the_first_eight_bytes(digests: list[bytes]) -> None:
    assert prefixes(_rows(digests)).tolist() == [int.from_bytes(one[:8]) for one in digests]


def test_rows_need_not_be_contiguous_nor_writable() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (50, 40), dtype=np.uint8)[:, :20]
    rows.flags.writeable = False
    order = ascending_order(rows)
    assert order is not None
    expected = sorted(row.tobytes() for row in rows)
    assert [row.tobytes() for row in take(rows, order)] == expected
