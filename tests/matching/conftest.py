"""Kernels are compiled once, into build/, whatever the order of the tests."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[2] / "build" / "kernels"))
