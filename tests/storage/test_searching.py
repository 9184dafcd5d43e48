"""The search that says that nothing is left finds what is there."""

from __future__ import annotations

import random

import pytest

from tests.searching import found_in


def test_it_finds_what_a_plain_search_finds() -> None:
    rng = random.Random(5)
    needles = [rng.randbytes(20) for _ in range(300)]
    needles += [needles[0][:8] + rng.randbytes(12), needles[1][:12], bytes(20)]
    for length in (0, 1, 3, 4, 5, 400, 5_000):
        for _ in range(5):
            data = bytearray(rng.randbytes(length))
            for needle in rng.sample(needles, 40):
                at = rng.randrange(length + 1)
                data[at:at] = needle[: rng.choice((len(needle), len(needle) - 1))]
            expected = {one for one in needles if one in data}
            assert found_in(bytes(data), needles) == expected
    assert found_in(needles[5], needles[5:6]) == {needles[5]}
    assert found_in(b"x" * 100, []) == set()


def test_what_is_too_short_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="too short"):
        found_in(b"x" * 100, [b"123"])
