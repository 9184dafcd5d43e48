"""Near lookups one by one against faiss: ``python -m benchmarks.near_flat --size N``.

PDQ hashes at radius 31 against IndexBinaryFlat, which compares each asked hash with everything and
so also says what is correct; without it brute force by numpy does, for fewer.
"""

from __future__ import annotations

import numpy as np
from tieline_client.digests import DigestKind
from tieline_client.limits import NEAR_RADIUS

from benchmarks import data, indexes
from benchmarks.near_peers import Flat, answered, brute_force
from benchmarks.rows import arguments, paired, report

SINGLES, PEER_SINGLES = 500, 10
CHECKED, CHECKED_ALONE = 200, 20


def main() -> None:
    """Measure, and write the row."""
    options = arguments(__doc__, size=1_000_000, rounds=3).parse_args()
    folder = indexes.near_folder(options.data, options.size)
    held = data.digests(DigestKind.PDQ, options.size)
    asked = data.asked_near(held, SINGLES)
    with indexes.opened(folder) as matcher:
        peer = None if options.alone or not Flat.installed() else Flat(held)
        sample = asked[: CHECKED if peer else CHECKED_ALONE]
        truth = peer.search(sample) if peer else brute_force(held, sample)
        correct = np.array_equal(answered(matcher.near(sample, NEAR_RADIUS)), truth)

        def one_by_one() -> None:
            for at in range(SINGLES):
                matcher.near(asked[at : at + 1], NEAR_RADIUS)

        def peer_one_by_one() -> None:
            assert peer is not None
            for at in range(PEER_SINGLES):
                peer.search(asked[at : at + 1])

        ours, theirs = paired(one_by_one, peer_one_by_one if peer else None, options.rounds)
        rate = PEER_SINGLES / theirs if theirs else None
        report("near_single_flat", options.size, SINGLES / ours, rate, correct)


if __name__ == "__main__":
    main()
