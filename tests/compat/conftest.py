"""Compiled kernels once for all node processes, and no profile of whoever runs this."""

from __future__ import annotations

from tests.e2e.conftest import _kernels, _no_profile

__all__ = ["_kernels", "_no_profile"]
