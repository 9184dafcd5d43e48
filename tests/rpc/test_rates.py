"""A peer's calls are counted against its own bucket; who is over it is told when to come."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from tieline_client.errors import LimitExceeded
from tieline_server.rpc.errors import to_status
from tieline_server.rpc.rates import Rates


def test_a_bucket_empties_fills_and_is_nobody_elses() -> None:
    now = [0.0]
    rates = Rates(per_second=10, at_once_seconds=2, monotonic=lambda: now[0])
    for _ in range(20):
        rates.take("es-gc")
    with pytest.raises(LimitExceeded) as refused:
        rates.take("es-gc")
    assert refused.value.metadata == {"check": "RATE", "retry_after": "0.100"}
    rates.take("pt-pj")
    now[0] += 0.09999
    with pytest.raises(LimitExceeded) as refused:
        rates.take("es-gc")
    assert refused.value.metadata["retry_after"] == "0.001"
    now[0] += 0.00001
    rates.take("es-gc")
    with pytest.raises(LimitExceeded):
        rates.take("es-gc")
    now[0] += 3600
    for _ in range(20):
        rates.take("es-gc")
    with pytest.raises(LimitExceeded):
        rates.take("es-gc")


def test_the_status_says_when_to_come_again() -> None:
    told = to_status(LimitExceeded("too many", check="RATE", retry_after="1.250"), to_peer=True)
    trailing = dict(told.trailing_metadata)
    details = status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert [details[0].Unpack(info), details[1].Unpack(retry)] == [True, True]
    assert (info.reason, retry.retry_delay.ToMilliseconds()) == ("LIMIT_EXCEEDED", 1250)
