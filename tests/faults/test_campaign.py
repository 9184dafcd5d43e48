"""The campaign: a short seeded part with every test run, the whole of it by `make test-faults`."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from tests.faults.campaign import Report, run
from tests.faults.kinds import KINDS, QUIET
from tests.faults.report import add

_SHORT = ("sigkill", "sigkill in a write", "reset", "disk full")


@pytest.fixture(autouse=True)
def _programs() -> None:
    """A campaign without these programs would leave out what it is for."""
    for program in ("strace", "faketime"):
        assert shutil.which(program), f"{program} is not installed; Debian has it"


def _none_lost(report: Report) -> None:
    found = report.document()
    assert (found["lost"], found["duplicated"], found["queued"]) == (0, 0, 0), found["found"]


def test_every_message_of_a_short_campaign_is_applied_once() -> None:
    report = run("short", seed=20201102, kinds=_SHORT, faults=len(_SHORT), messages=60)
    _none_lost(report)
    assert report.messages >= 60
    assert sorted(report.befell) == sorted(_SHORT)


@pytest.mark.slow
def test_every_message_of_the_whole_campaign_is_applied_once() -> None:
    seed = int(os.environ.get("TIELINE_SEED") or random.SystemRandom().randrange(10**6))
    kinds = [*KINDS, *QUIET]
    report = run(
        "campaign", seed=seed, kinds=kinds, faults=4 * len(kinds), messages=2_000, week=200
    )
    found = report.document()
    add("campaign", found)
    print(json.dumps(found, indent=2))
    _none_lost(report)
    assert found["faults"] >= 50
    assert len(found["kinds"]) >= 12
    assert found["messages"] >= 2_000
