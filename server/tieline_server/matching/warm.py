"""Fills the cache of compiled kernels, so that a node's first answer waits for no compiler.

Numba's cache holds pickles: whoever can write it can run code in the node, so the folder is 0700.
Within it each version of these sources has a folder of its own (compiled.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
_SECONDS = 3_600
"""Ends what hangs: a machine that is slow or busy compiles for minutes."""


def prepare(cache_dir: Path) -> None:
    """Use ``cache_dir`` in this process: call before anything else of `matching` is imported."""
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache_dir.chmod(0o700)
    os.environ[VARIABLE] = str(cache_dir)


def warm(cache_dir: Path) -> None:
    """Compile all kernels into ``cache_dir``, in a process of its own (about ten seconds; half a
    second when they are there). Raises CalledProcessError or TimeoutExpired."""
    prepare(cache_dir)
    subprocess.run(
        [sys.executable, "-m", "tieline_server.matching.warm"],
        check=True,
        timeout=_SECONDS,
        env=os.environ | {VARIABLE: str(cache_dir)},
    )


def exercise() -> None:
    """Run every kernel once, on a few digests in memory and a few in a folder."""
    import tempfile  # noqa: PLC0415 - only the warming process needs these

    import numpy as np  # noqa: PLC0415
    from tieline_client.digests import EXACT_KINDS, DigestKind  # noqa: PLC0415

    from tieline_server.matching.matcher import Matcher  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        for matcher in (Matcher(None), Matcher(Path(folder))):
            for _ in range(2):
                for kind in DigestKind:
                    ids = np.arange(2_000, dtype=np.int64)
                    digests = np.random.default_rng(1).integers(
                        0, 256, (len(ids), kind.width), dtype=np.uint8
                    )
                    matcher.add(kind, ids, digests)
                    if kind in EXACT_KINDS:
                        matcher.exact(kind, digests[:2])
                    else:
                        matcher.near(digests[:2])
                matcher.least_of_bins(digests, np.arange(10, dtype=np.uint64))
                matcher.erase(np.arange(3, dtype=np.int64))
                matcher.merge()
            matcher.exact(DigestKind.SHA1, np.zeros((1, 20), dtype=np.uint8))
            matcher.near(np.zeros((1, 32), dtype=np.uint8))
            matcher.close()


if __name__ == "__main__":
    exercise()
