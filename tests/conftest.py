"""Stands here so that pytest puts the repository's root on the path: `from tests.trust...`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kernels import begin

# How long an example takes is a matter of who else uses the machine: tests wait for no clock.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# Where the environment forbids bytecode, each of hundreds of node processes would compile a
# thousand modules anew: a second of CPU apiece.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A suite begun in the background, or under nohup, has these ignored and would hand that on: then
# no command of the tests ends by them. A handler is not handed on; the suite itself goes on.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

_FIRST = ("docs/test_readme_commands.py", "storage/test_storage_scrubbing.py", "e2e/", "faults/")
"""Files that take longest: begun last, they would leave the other workers idle."""
_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Compile kernels while several workers collect; a worker of its own finds the lock held."""
    if config.getoption("numprocesses", None):
        begin()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long files come first; the order within a file stays."""

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(_HERE).as_posix()
        return next((n for n, first in enumerate(_FIRST) if name.startswith(first)), len(_FIRST))

    items.sort(key=place)
