"""Near lookups against PDQIndex: ``python -m benchmarks.near_pdqindex --size N``.

PDQ hashes at radius 31, one by one and a thousand at once. Half of the asked ones lie 0 to 40 bits
from a held one. Ours is a `Matcher` opened from its files; the peer is asked in both its ways. All
that the peer finds is compared with ours, and a part of it with brute force.
"""

from __future__ import annotations

import numpy as np
from tieline_client.digests import DigestKind
from tieline_client.limits import NEAR_RADIUS

from benchmarks import data, indexes
from benchmarks.near_peers import PdqIndex, answered, brute_force
from benchmarks.rows import arguments, paired, report

ASKED, SINGLES, PEER_SINGLES = 1_000, 500, 50
CHECKED = 20
"""Asked hashes that are compared by brute force."""


def main() -> None:
    """Measure both rows."""
    options = arguments(__doc__, size=1_000_000).parse_args()
    folder = indexes.near_folder(options.data, options.size)
    held = data.digests(DigestKind.PDQ, options.size)
    asked = data.asked_near(held, ASKED)
    texts = [row.tobytes().hex() for row in asked]
    with indexes.opened(folder) as matcher:
        found = answered(matcher.near(asked, NEAR_RADIUS))
        first = answered(matcher.near(asked[:CHECKED], NEAR_RADIUS))
        correct = np.array_equal(first, brute_force(held, asked[:CHECKED]))
        peer = None
        if not options.alone and PdqIndex.installed():
            peer = PdqIndex(held)
            # It gives every match, ours the nearest 100: no asked hash here has as many.
            correct = correct and np.array_equal(found, peer.answered(texts))

        def one_by_one() -> None:
            for at in range(SINGLES):
                matcher.near(asked[at : at + 1], NEAR_RADIUS)

        def peer_one_by_one() -> None:
            assert peer is not None
            for text in texts[:PEER_SINGLES]:
                peer.query(text)

        ours, theirs = paired(one_by_one, peer_one_by_one if peer else None, options.rounds)
        rate = PEER_SINGLES / theirs if theirs else None
        report("near_single", options.size, SINGLES / ours, rate, correct)
        ours, theirs = paired(
            lambda: matcher.near(asked, NEAR_RADIUS),
            (lambda: peer.search(texts)) if peer else None,
            options.rounds,
        )
        rate = ASKED / theirs if theirs else None
        report("near_batch_1k", options.size, ASKED / ours, rate, correct)


if __name__ == "__main__":
    main()
