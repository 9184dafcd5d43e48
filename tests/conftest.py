"""Stands here so that pytest puts the repository's root on the path: `from tests.trust...`."""

from __future__ import annotations

import os
import sys

import pytest

# Where the environment forbids bytecode, each of hundreds of node processes would compile a
# thousand modules anew: a second of CPU apiece.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_FIRST = ("e2e", "faults")
"""Folders whose files take longest: begun last, they would leave the other workers idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long files come first; the order within a file stays."""
    items.sort(key=lambda item: item.path.parent.name not in _FIRST)
