"""Indexes that several rows share: made once in the data folder, then opened from their files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from tieline_client.digests import DigestKind
from tieline_server.matching.matcher import Matcher

from benchmarks import data
from benchmarks.rows import size_name

EXACT = (DigestKind.SHA1, DigestKind.MD5)


def exact_folder(root: Path, size: int) -> Path:
    """Return the folder of an index of SHA-1 and MD5 of so many items, made when it is not there.

    Item i, counted from 0, has the digests that `data.digests` gives it.
    """
    folder = root / f"exact-{size_name(size)}"
    return _made(folder, lambda: chain(*(data.generated(kind, size) for kind in EXACT)))


def near_folder(root: Path, size: int) -> Path:
    """The same of PDQ hashes."""
    folder = root / f"near-{size_name(size)}"
    return _made(folder, lambda: data.generated(DigestKind.PDQ, size))


@contextmanager
def opened(folder: Path) -> Iterator[Matcher]:
    """Open an index; its background check is over before anything is timed."""
    matcher = Matcher.open(folder)
    try:
        if not matcher.wait_verified():
            raise SystemExit(f"{folder} is damaged; remove it and run again")
        yield matcher
    finally:
        matcher.close()


def build(folder: Path, source: data.Source) -> None:
    """Make an index of ``source``, and say how long it took."""
    matcher = Matcher.open(folder)
    try:
        began = time.perf_counter()
        matcher.rebuild(source, 1)
        print(f"{folder.name}: index made in {time.perf_counter() - began:.1f} s", flush=True)
    finally:
        matcher.close()


def _made(folder: Path, source: Callable[[], data.Source]) -> Path:
    matcher = Matcher.open(folder)
    there = matcher.applied > 0
    matcher.close()
    if not there:
        build(folder, source())
    return folder
