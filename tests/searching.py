"""Which of thousands of byte strings stand in files, in one pass over their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

_HEAD = 4


class Search:
    """A search for any of many needles, made once and used on many files.

    At each place of the data its first 4 bytes are looked up among those of the needles; what is
    found there is compared in full. Raises ValueError for a needle of fewer than 4 bytes.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._by_head: dict[int, list[bytes]] = defaultdict(list)
        for needle in set(needles):
            if len(needle) < _HEAD:
                raise ValueError(f"{needle!r} is too short to be looked for")
            self._by_head[int.from_bytes(needle[:_HEAD], "little")].append(needle)
        heads = np.array(list(self._by_head), dtype="<u4")
        self._low, self._high = (np.zeros(1 << 16, np.bool_) for _ in range(2))
        self._low[heads & 0xFFFF], self._high[heads >> 16] = True, True

    def found_in(self, data: bytes) -> set[bytes]:
        """Return the needles that stand anywhere in ``data``."""
        found: set[bytes] = set()
        for shift in range(min(_HEAD, len(data))):
            words = np.frombuffer(data, "<u4", (len(data) - shift) // _HEAD, shift)
            # The two halves by themselves leave little to look up.
            maybe = np.flatnonzero(self._low[words & 0xFFFF] & self._high[words >> 16])
            heads = words[maybe].tolist()
            for place, head in zip(maybe.tolist(), heads, strict=True):
                start = shift + place * _HEAD
                found.update(
                    one for one in self._by_head.get(head, ()) if data.startswith(one, start)
                )
        return found


def found_in(data: bytes, needles: Iterable[bytes]) -> set[bytes]:
    """Return those of ``needles`` that stand anywhere in ``data``."""
    return Search(needles).found_in(data)
