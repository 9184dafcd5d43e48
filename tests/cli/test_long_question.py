"""What a person's client sends of a long list: the digest in the header, or once it is known."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from tieline.v1 import operator_pb2 as pb
from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.asking import AskOptions
from tieline_client.digests import DigestKind
from tieline_client.operator_client import OperatorClient
from tieline_client.profile import Profile

from tests.cli.node_double import Served

_ANSWER = [pb.AskOverlapResponse(started=pb.AskStarted(asked=1))]


def _asked(count: int) -> AskedList:
    rows = np.random.default_rng(7).integers(0, 256, (count, 20), dtype=np.uint8)
    return AskedList.from_digests(DigestKind.SHA1, rows)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("count", [1, limits.DIGESTS_BRIEF, limits.DIGESTS_BRIEF + 1, 200_000])
def test_the_digest_comes_later_where_the_node_takes_it_so(
    served: Served, later: bool, count: int
) -> None:
    served.node.answers |= {
        "AskOverlap": _ANSWER,
        "GetAskTerms": pb.GetAskTermsResponse(records_most=count, digest_later=later),
    }
    options = AskOptions("urgent", "OP-1")
    with OperatorClient(Profile.load(served.profile)) as client:
        for _ in range(2):
            client.ask_overlap(_asked(count), options, lambda event: None)
    long = count > limits.DIGESTS_BRIEF
    for header in served.node.requests["AskOverlap"]:
        assert bool(header.list_digest) is not (later and long)
    assert served.node.finished == [True, True]
    assert len(served.node.digests) == count
    assert len(served.node.requests["GetAskTerms"]) == 1


def test_a_digest_that_is_known_already_comes_right_after_the_header(served: Served) -> None:
    served.node.answers |= {
        "AskOverlap": _ANSWER,
        "GetAskTerms": pb.GetAskTermsResponse(records_most=1000, digest_later=True),
    }
    asked = _asked(500)
    assert asked.digest == hashlib.sha256(asked.columns[DigestKind.SHA1].digests.data).digest()
    with OperatorClient(Profile.load(served.profile)) as client:
        client.ask_overlap(asked, AskOptions("urgent", "OP-1"), lambda event: None)
    assert served.node.finished == [True]
