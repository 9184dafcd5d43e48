"""Compiled kernels, once for all node processes of all runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernels import compiled


@pytest.fixture(scope="session", autouse=True)
def _kernels() -> Iterator[None]:
    """Every node started from here finds its kernels compiled."""
    from tieline_server.matching.warm import VARIABLE

    before = os.environ.get(VARIABLE)
    compiled()
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
