"""What a checkpoint is worth, when contacts cross."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tieline_client import limits
from tieline_client.checkpoints import Checkpoint
from tieline_server.domain import merkle
from tieline_server.domain.witness import BROKEN, Finding, judge, judge_moved

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LEAVES = [bytes([number]) * 32 for number in range(20)]
OTHER = [bytes([number + 100]) * 32 for number in range(20)]


def _tree(leaves: list[bytes]) -> merkle.NodeReader:
    nodes = {(one.level, one.number): one.hash for one in merkle.append(0, leaves, _none)}
    return lambda level, index: nodes[level, index]


def _none(level: int, index: int) -> bytes:
    raise KeyError((level, index))


def _at(
    size: int, seconds: float = 0, *, leaves: list[bytes] = LEAVES, epoch: str = "e"
) -> Checkpoint:
    root = merkle.root(size, _tree(leaves))
    issued = NOW + timedelta(seconds=seconds)
    return Checkpoint("pt-pj", size, root, epoch, issued, f"{size}", b"%d" % size + root)


def _proof(first: int, second: int) -> list[bytes]:
    return merkle.consistency_proof(first, second, _tree(LEAVES))


CROSS = limits.CHECKPOINTS_CROSS.total_seconds()


@pytest.mark.parametrize(
    ("seconds", "finding"),
    [(-1, Finding.LATE), (1, Finding.LATE), (CROSS, Finding.LATE), (CROSS + 1, Finding.SET_BACK)],
)
def test_a_smaller_head_is_late_until_it_is_clearly_later(seconds: float, finding: Finding) -> None:
    """Two threads read 15 and 16 entries; the first may sign after the second."""
    assert judge(_at(16), _at(15, seconds), ()) is finding


def test_a_proof_for_a_head_that_moved_on_accuses_nobody() -> None:
    known, head, said = _at(5), _at(7), _at(9)
    assert judge(head, said, _proof(5, 9)) is Finding.FORK  # what it looked like
    assert judge_moved(known, head, said, _proof(5, 9)) == (Finding.LATE, known)


def test_what_breaks_with_what_was_known_is_found_though_the_head_moved_on() -> None:
    known, head, said = _at(5), _at(7), _at(9, leaves=OTHER)
    finding, against = judge_moved(known, head, said, _proof(5, 9))
    assert finding is Finding.FORK and against is known


@pytest.mark.parametrize("size", [5, 7])
def test_another_root_of_the_new_heads_size_is_a_fork(size: int) -> None:
    head = _at(size)
    finding, against = judge_moved(_at(3), head, _at(size, leaves=OTHER), ())
    assert finding is Finding.FORK and against is head
    assert judge_moved(_at(3), head, _at(size), ())[0] is Finding.SAME


def test_a_first_word_after_somebody_elses_first_word_waits() -> None:
    finding, _ = judge_moved(None, _at(7), _at(9), ())
    assert finding not in BROKEN
