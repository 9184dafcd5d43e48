"""A second checkout of the client alone, as a supervisory authority would have one.

It is a copy of the tracked files of ``client/`` and ``proto/`` in a folder of its own, run by a
Python that sees nothing else of this project: no node's parts, none of the libraries that only a
node needs, no home, no profile. What is run there is the copy's code.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("client", "proto")
WITHHELD = ("tieline", "alembic", "cedarpy", "numba", "psycopg", "pyfusefilter", "sqlalchemy")
"""What is not to be found there: this project, and libraries of a node."""
_MAIN = "import sys; from tieline_client.cli import main; sys.exit(main())"


class Checkout:
    """The copy, and processes that run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in _tracked():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        libraries = folder / "libraries"
        libraries.mkdir()
        for one in Path(grpc.__file__).parents[1].iterdir():
            hidden = one.name.lower().startswith(WITHHELD) or one.suffix == ".pth"
            if not hidden:
                (libraries / one.name).symlink_to(one)
        self.work = folder / "work"
        self.work.mkdir()
        self._path = [*(str(folder / part) for part in PARTS), str(libraries)]

    def python(self, code: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a line of Python there. ``-S``: what is installed beside this Python is not seen."""
        return subprocess.run(
            [sys.executable, "-S", "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=self.work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.work),
                "PYTHONPATH": os.pathsep.join(self._path),
            },
        )

    def tieline(self, *words: object) -> tuple[int, Any]:
        """Run a command with --json; return its exit code, and its document or what it said."""
        done = self.python(_MAIN, *words, "--json")
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def _tracked() -> list[str]:
    """Return the files of both parts that git knows; outside a clone, all of them."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", *PARTS],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = (one for part in PARTS for one in (ROOT / part).rglob("*") if one.is_file())
        return [str(one.relative_to(ROOT)) for one in found if "__pycache__" not in one.parts]
