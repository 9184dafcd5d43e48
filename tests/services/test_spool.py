"""What is spooled goes at once when nobody reads it any more, and says so when there is no room."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, StorageUnavailable
from tieline_server.services.spool import Kept, Spool


def test_a_list_is_let_go_with_its_question() -> None:
    """Twenty megabytes should not wait for the collector of cycles."""
    rows = np.arange(1_000, dtype=">u8").repeat(2).view(np.uint8)
    batch = DigestBatch.of(DigestKind.MD5, rows.tobytes())
    spool = Spool(len(batch.digests), None)
    alone = sys.getrefcount(batch)
    spool.write(batch)
    assert spool.read(DigestKind.MD5, 0, len(batch.digests)) is batch
    assert sys.getrefcount(batch) == alone + 1
    spool.break_off()
    assert sys.getrefcount(batch) == alone
    with pytest.raises(InvalidInput):
        spool.read(DigestKind.MD5, 0, len(batch.digests))


def _full_file(**_: object) -> IO[bytes]:
    return Path("/dev/full").open("w+b")


def _on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A Kept whose file takes a few kilobytes into memory, and nothing onto the disk."""
    monkeypatch.setattr(limits, "ANSWER_MEMORY_BYTES", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", _full_file)
    return Kept(None)


def test_messages_that_find_the_disk_full_are_let_go_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = _on_a_full_disk(monkeypatch)
    with pytest.raises(StorageUnavailable, match="make room"):
        for _ in range(1_000):
            kept.add(bytes(1_000))
    kept.clear()
    assert list(kept) == []


def test_a_full_disk_is_found_before_anybody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _on_a_full_disk(monkeypatch)
    kept.add(bytes(100))  # less than is written at a time
    with pytest.raises(StorageUnavailable, match="make room"):
        kept.finish()
    with pytest.raises(StorageUnavailable, match="make room"):
        list(kept)


def test_messages_come_back_from_memory_and_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_MEMORY_BYTES", 100)
    kept, messages = Kept(None), [bytes([n]) * n for n in range(50)]
    for message in messages:
        kept.add(message)
    kept.finish()
    assert list(kept) == messages == list(kept)
    kept.close()
