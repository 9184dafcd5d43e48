"""docs/dependencies.md has a row for every package that runs, in the version that is locked."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from itertools import chain

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.reading import ROOT

PAGE = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
_ROW = re.compile(r"^\| ([\w.-]+) \| (\S+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.M)
_LOCKED = re.compile(r"^([\w.-]+)==([^ \\]+)", re.M)


def _running() -> set[str]:
    """Return what the project needs at run time, its extras and all that these need, here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    waiting = [Requirement(one) for one in (*project["dependencies"], *extras)]
    found: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found and not wanted.extras:
            continue
        found.add(name)
        for text in requires(name) or ():
            needed = Requirement(text)
            marker, words = needed.marker, ({"extra": one} for one in ("", *wanted.extras))
            if marker is None or any(marker.evaluate(one) for one in words):
                waiting.append(needed)
    return found


def test_every_locked_package_has_its_row() -> None:
    locked = dict(_LOCKED.findall((ROOT / "requirements" / "dev.txt").read_text("utf-8")))
    rows = {name: version for name, version, *_ in _ROW.findall(PAGE) if name != "package"}
    running = _running()
    assert len(running) > 30
    assert rows == {name: locked[name] for name in running}


def test_each_row_says_what_is_known_and_where_it_is_mended() -> None:
    """No later version than the locked one is named as the one that mends something."""
    for name, version, licence, exposed, advisories in _ROW.findall(PAGE):
        if name == "package":
            continue
        assert licence.strip() and exposed.strip() and advisories.strip(), name
        inside = re.search(r"libpq (\S+) inside", exposed)  # whose advisories that row names
        have = _numbers(inside[1] if inside else version)
        for mended in re.findall(r"\((\d+(?:\.\d+)+)", advisories):
            assert _numbers(mended) <= have, (name, mended)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in version.split("."))
