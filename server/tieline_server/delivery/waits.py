"""How long a destination, or one message, is left alone after a failure."""

from __future__ import annotations

import random

from tieline_client import limits


def wait_seconds(attempts: int) -> float:
    """Return the wait after so many failures in a row, with jitter: it doubles up to a cap."""
    doubled = limits.RETRY_FIRST_SECONDS * 2.0 ** min(max(attempts, 1) - 1, 20)
    return _jittered(min(doubled, limits.RETRY_MOST_SECONDS))


WAIT_MOST_SECONDS = limits.RETRY_MOST_SECONDS * limits.RETRY_JITTER_MOST
"""No wait is longer, whatever a clock that was set back makes of a stored time."""


def _jittered(seconds: float) -> float:
    low, high = 2 - limits.RETRY_JITTER_MOST, limits.RETRY_JITTER_MOST
    return seconds * random.uniform(low, high)  # noqa: S311 - spreads load, no secret
