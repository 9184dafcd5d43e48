"""What is spooled in memory goes at once when nobody reads it any more."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_server.services.spool import Spool


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
