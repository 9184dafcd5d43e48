"""Compiled kernels, once for all node processes of all runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_CACHE = Path(__file__).parents[2] / "build" / "kernels"
"""That of all tests, and of `make demo`."""


@pytest.fixture(scope="session", autouse=True)
def _kernels() -> Iterator[None]:
    """Every node started from here finds its kernels compiled."""
    from tieline_server.matching.warm import VARIABLE, warm

    before = os.environ.get(VARIABLE)
    _CACHE.parent.mkdir(exist_ok=True)
    with _CACHE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers would compile them twice
        warm(_CACHE)
    yield
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of whoever runs the tests says of a profile is not theirs."""
    monkeypatch.delenv("TIELINE_PROFILE", raising=False)
    monkeypatch.delenv("TIELINE_PASSPHRASE_FILE", raising=False)
