"""What questions of a peer look like when somebody enumerates a collection by them.

Three patterns, none of which is a proof: a person looks (docs/operations.md). Budgets are what
stops it. No I/O here.

- **Few hits in very much.** Whoever asks what they found in seizures finds some of it; whoever
  guesses, or asks lists that were bought, next to nothing. Judged over a day.
- **Hashes that are none.** Digests of files are uniform bits. Digests that share beginnings or
  words, go up in equal steps, or use few values of a byte were made up. PDQ is not uniform: hashes
  of one video are near one another. But each of its 256 bits says whether a coefficient is above
  the median of all 256, so half of them are set, fewer only where coefficients are equal. Random
  bits, counters and masks are not like that.
- **Lists that are almost the same.** Two lists that differ by little tell about the difference by
  subtraction. The same list again under the same case is an ordinary thing: a nightly run. A list
  that grows a little every day is, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tieline_client import limits
from tieline_client.digests import DigestKind

from tieline_server.domain.alarm import AlarmKind

Rows = npt.NDArray[np.uint8]
_WORD = 4
_CHI_SQUARE_MOST = 255 + 12 * (2 * 255) ** 0.5
"""Of 256 values: the mean of uniform bytes and twelve standard deviations."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What was seen, in words that hold figures and no digest."""

    kind: AlarmKind
    why: str


def low_hits(asked: int, hits: int) -> Pattern | None:
    """Judge a day: ``asked`` records of questions that ended, and their hits."""
    if asked < limits.LOW_HITS_ASKED or hits * limits.LOW_HITS_ONE_IN >= asked:
        return None
    return Pattern(AlarmKind.LOW_HITS, f"{hits} hits in {asked} records asked today")


def crafted(kind: DigestKind, rows: Rows) -> Pattern | None:
    """Judge (n, width) digests, ascending and distinct, a list or a part of one; few are not."""
    if len(rows) < limits.CRAFTED_LEAST:
        return None
    perceptual = kind is DigestKind.PDQ
    for look in (_unbalanced,) if perceptual else (_steps, _shared_words, _few_values):
        found = look(rows)
        if found:
            return Pattern(AlarmKind.CRAFTED, f"{found} among {len(rows)} {kind.label} digests")
    return None


def _steps(rows: Rows) -> str:
    """Equal steps from one to the next, of the first eight bytes or of the last."""
    words = np.stack([rows[:, :8], rows[:, -8:]]).view(">u8")[:, :, 0].astype(np.uint64)
    steps = np.sort(np.diff(words, axis=1), axis=1)
    apart = limits.CRAFTED_ALIKE - 1
    alike = (steps[:, apart:] == steps[:, :-apart]).any(axis=1)
    if not alike.any():
        return ""
    return f"{np.unique(steps[alike.argmax()], return_counts=True)[1].max()} equal steps"


def _shared_words(rows: Rows) -> str:
    """Four bytes at one place that many have alike."""
    words = np.sort(np.ascontiguousarray(np.ascontiguousarray(rows).view(np.uint32).T), axis=1)
    alike = (words[:, 1:] == words[:, :-1]).sum(axis=1)
    place = int(alike.argmax())
    if alike[place] < limits.CRAFTED_ALIKE:
        return ""
    return f"{alike[place]} that share bytes {_WORD * place} to {_WORD * place + 3}"


def _few_values(rows: Rows) -> str:
    """Bytes that are not spread over their 256 values (Pearson's chi-square).

    Without the first four: those of a part of an ascending list are close together.
    """
    spread = rows[:, _WORD:]
    counts = np.bincount(spread.ravel(), minlength=256)
    expected = spread.size / 256
    if ((counts - expected) ** 2).sum() / expected <= _CHI_SQUARE_MOST:
        return ""
    return "bytes that are not spread evenly"


def _unbalanced(rows: Rows) -> str:
    """PDQ hashes of which not half the bits are set, as the median of their coefficients makes it.

    Of random bits 57 in 100 are off by more than `limits.PDQ_OFF_BALANCE`.
    """
    weights = np.unpackbits(rows, axis=1).sum(axis=1, dtype=np.int64)
    off = int((np.abs(weights - 8 * rows.shape[1] // 2) > limits.PDQ_OFF_BALANCE).sum())
    if off * limits.PDQ_ODD_ONE_IN <= len(rows):
        return ""
    return f"{off} of which not half the bits are set"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A list that the same peer asked before. ``resemblance`` to the one in question is estimated,
    0.0 to 1.0; ``same`` when it is that very list; ``today`` within a day before it."""

    case_ref: str
    resemblance: float
    same: bool
    today: bool


def repeated(case_ref: str, earlier: Sequence[Earlier]) -> Pattern | None:
    """Judge a list by those before it."""
    alike = [one for one in earlier if one.resemblance >= limits.LISTS_ALIKE]
    differing = sum(one.today and not one.same for one in alike)
    if differing >= limits.LISTS_ALIKE_A_DAY:
        return Pattern(AlarmKind.REPEATED, f"{differing} lists of a day that are almost this one")
    cases = {one.case_ref for one in alike if one.case_ref} - {case_ref}
    if len(cases) >= limits.LISTS_ALIKE_CASES:
        return Pattern(AlarmKind.REPEATED, f"almost this list under {len(cases)} other cases")
    return None
