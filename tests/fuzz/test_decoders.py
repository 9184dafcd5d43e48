"""No bytes whatever crash a decoder: each takes them or raises a TielineError in one line.

`make test` gives each decoder a fixed number of seeded cases, `make fuzz` each so many seconds
(FUZZ_SECONDS, 60 unless set) from a start of its own, and names the case that failed:
``FUZZ_CASE=NUMBER`` runs that one again. with_atheris.py is the same under coverage guidance.
"""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Iterator

import pytest
from cryptography.utils import CryptographyDeprecationWarning
from tieline_client.errors import TielineError

from tests.fuzz.decoders import DECODERS, SLOW, Decoder, check, mutated, seeds_of

CASES = 60
ALL = DECODERS | SLOW
NEVER_RETURNS = {"failed calls"}
"""Whatever a failed call carries becomes the error that is raised."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A hostile certificate may have serial number 0; the parser says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def _run(decoder: Decoder, number: int) -> None:
    data = mutated(decoder, random.Random(number))
    try:
        check(decoder, data)
    except Exception as error:
        error.add_note(f"FUZZ_CASE={number} of {decoder.name}: {data[:200]!r}")
        raise


@pytest.mark.parametrize("name", ALL)
def test_seeds_are_taken(name: str) -> None:
    """Fuzzing starts from what is valid; otherwise it would stop at the first check."""
    taken = 0
    for seed in seeds_of(name):
        try:
            ALL[name].read(seed)
        except TielineError:
            continue
        taken += 1
    assert taken or name in NEVER_RETURNS


@pytest.mark.parametrize("name", DECODERS)
def test_bytes_are_taken_or_refused(name: str) -> None:
    for number in range(CASES):
        _run(DECODERS[name], number)
    for data in (b"", b"\0", b"\xff" * 64, b"[" * 100_000, b"{" * 3 + b'"a":' * 50_000):
        check(DECODERS[name], data)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", ALL)
def test_campaign(name: str) -> None:
    if (case := os.environ.get("FUZZ_CASE")) is not None:
        _run(ALL[name], int(case))
        return
    until = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "60"))
    number = random.SystemRandom().randrange(2**48) * 2**16
    done = 0
    while time.monotonic() < until:
        _run(ALL[name], number + done)
        done += 1
    assert done
