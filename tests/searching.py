"""Which of thousands of byte strings stand in files, in one pass over their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

_HEAD = 4


def found_in(data: bytes, needles: Iterable[bytes]) -> set[bytes]:
    """Return those of ``needles``, of 4 bytes or more each, that stand anywhere in ``data``.

    At each place of the data its first 4 bytes are looked up among those of the needles; what is
    found there is compared in full. Raises ValueError for a needle that is too short.
    """
    by_head: dict[int, list[bytes]] = defaultdict(list)
    for needle in set(needles):
        if len(needle) < _HEAD:
            raise ValueError(f"{needle!r} is too short to be looked for")
        by_head[int.from_bytes(needle[:_HEAD], "little")].append(needle)
    heads = np.array(sorted(by_head), dtype="<u4")
    low, high = (np.zeros(1 << 16, np.bool_) for _ in range(2))
    low[heads & 0xFFFF], high[heads >> 16] = True, True  # leaves little for isin
    found: set[bytes] = set()
    for shift in range(min(_HEAD, len(data))):
        words = np.frombuffer(data, "<u4", (len(data) - shift) // _HEAD, shift)
        maybe = np.flatnonzero(low[words & 0xFFFF] & high[words >> 16])
        for place in maybe[np.isin(words[maybe], heads)].tolist():
            start = shift + place * _HEAD
            found.update(one for one in by_head[int(words[place])] if data.startswith(one, start))
    return found
