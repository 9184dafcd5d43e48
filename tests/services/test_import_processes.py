"""Several node processes on one database: what one imports does not stop the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tieline.v1 import operator_pb2
from tieline_client.columns import of_records
from tieline_server.services.importing import Import
from tieline_server.storage.index_feed import AT_ONCE

from tests.postgres import postgres_cluster, postgres_url
from tests.services.bench import ANA, CASE, PT, Bench, finish, records
from tests.storage.building import load, opened
from tests.storage.building import record as stored

__all__ = ["postgres_cluster", "postgres_url"]


@pytest.mark.postgres
@pytest.mark.parametrize("columns", [False, True], ids=["records", "columns"])
def test_a_process_imports_however_far_others_left_it_behind(
    bench: Bench, postgres_url: str, columns: bool
) -> None:
    with opened(postgres_url) as one, opened(postgres_url) as other:
        matching = other.index.matching  # type: ignore[attr-defined]
        node = replace(bench[PT].node, store=other, matching=matching)
        header = operator_pb2.ImportHeader(source="file", case_ref=CASE, file_digest=bytes(32))
        work = Import(node, ANA, header)
        load(one, records(range(3)))
        for number in range(AT_ONCE + 1):
            load(one, [stored(md5=f"other {number}")])
        batch = records(range(5))
        if columns:
            work.add_columns(of_records(batch))
        else:
            work.add(batch)
        report = finish(work, 5)
        assert (report.items_new, report.items_known) == (2, 3)
        assert one.index.refresh() == other.index.refresh() == AT_ONCE + 3
