"""Records of one file as columns, for files of millions: one array instead of many objects.

What few records say (PhotoDNA, references, counts of sightings, tombstones) has no column: such
records travel as `Record`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tieline_client.digests import DigestKind
from tieline_client.formats.record import Vote

FLAGS = ("victim_identified", "offender_identified", "distributed", "baseline")
"""In the order of their bits in `Columns.flags`."""


@dataclass(frozen=True, slots=True)
class DigestColumn:
    """``present`` (n,) bool; ``rows`` (n, width) uint8, zero where absent."""

    present: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Columns:
    """n records in the order of the file.

    ``numbers`` (n,) int64: positions in the file from 1. ``quality`` (n,) int16 and ``size`` (n,)
    int64: -1 where not stated. ``media_type``, ``votes`` and ``series`` (n,) int32 are indexes into
    ``media_types``, ``vote_sets`` and ``series_names``, -1 for none. ``flags`` (n,) uint8: two bits
    for each of FLAGS from the lowest, 0 not stated, 1 false, 2 true. ``entire``: the format states
    that every record belongs.
    """

    numbers: npt.NDArray[np.int64]
    digests: dict[DigestKind, DigestColumn]
    quality: npt.NDArray[np.int16]
    size: npt.NDArray[np.int64]
    media_type: npt.NDArray[np.int32]
    votes: npt.NDArray[np.int32]
    series: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint8]
    media_types: tuple[str, ...] = ()
    vote_sets: tuple[tuple[Vote, ...], ...] = ()
    series_names: tuple[str, ...] = ()
    entire: bool = field(default=False)

    def __len__(self) -> int:
        return len(self.numbers)
