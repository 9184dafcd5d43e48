"""What an asked node keeps of a list for thirty days: a keyed sketch, and no digest."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind, pack
from tieline_client.errors import InvalidInput
from tieline_server.domain.minhash import SKETCH_BYTES, resemblance
from tieline_server.domain.ports.sketches import AskedSketch
from tieline_server.services.sketches import SKETCHES, erase_old_sketches

from tests.services.bench import CASE, ES, FBI, PT, PURPOSE, Bench, records


def _sketches(bench: Bench, peer: str = ES) -> list[AskedSketch]:
    since = bench.now - timedelta(days=99)
    recent = bench[PT].store.read(lambda tx: tx.sketches.recent(peer, since, 10))
    return [one.asked for one in recent]


def test_near_identical_lists_of_one_peer_show(bench: Bench) -> None:
    bench[PT].load(records(range(10)))
    bench[ES].ask(records(range(300)), PT)
    bench[ES].ask(records(range(290)), PT)
    bench[ES].ask(records(range(5_000, 5_300)), PT)
    other, almost, first = _sketches(bench)
    assert len(first.sketch) == SKETCH_BYTES + 32
    assert (first.peer, first.person, first.purpose, first.records) == (ES, "ana", PURPOSE, 300)
    assert resemblance(first.sketch, almost.sketch) > 0.85
    assert resemblance(first.sketch, other.sketch) < 0.1
    assert _sketches(bench, FBI) == []


def test_lists_too_short_to_be_compared_are_not_kept_and_take_no_place(bench: Bench) -> None:
    """Two lists of which one has twenty digests are alike from sixteen on (limits.LISTS_ALIKE)."""
    assert limits.LISTS_SKETCHED <= limits.LISTS_LEAST * limits.LISTS_ALIKE
    bench[PT].load(records(range(10)))
    for count in (limits.LISTS_SKETCHED - 1, limits.LISTS_SKETCHED):
        bench[ES].ask(records(range(count), kinds="sha1"), PT)
    assert [one.records for one in _sketches(bench)] == [limits.LISTS_SKETCHED]
    assert len(bench[PT].audit("query.answered")) == 2


def test_a_question_that_breaks_off_leaves_its_sketch(bench: Bench) -> None:
    """Somebody who wants answers and no record of them stops before the end."""
    bench[PT].load(records(range(10)))
    packed = pack(DigestKind.SHA1, sorted(one.sha1 or b"" for one in records(range(50))))
    header = bench[ES].seal(
        payload_pb2.Payload(
            query=payload_pb2.QueryHeader(
                mode=payload_pb2.QUERY_MODE_EXACT,
                records=60,
                counts=[0, 60],
                list_digest=bytes(32),
            )
        ),
        PT,
    )
    requests: list[exchange_pb2.OverlapRequest | DigestBatch] = [
        exchange_pb2.OverlapRequest(header=header),
        DigestBatch.of(DigestKind.SHA1, packed),
    ]
    with pytest.raises(InvalidInput):
        list(bench[PT].answerer.answer(ES, requests))
    (kept,) = _sketches(bench)
    assert kept.records == 60
    bench[ES].ask(records(range(50)), PT)
    whole, broken = _sketches(bench)
    assert resemblance(whole.sketch, broken.sketch) > 0.15  # SHA-1 alone, against all three kinds


def test_they_are_erased_after_thirty_days(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[ES].ask(records(range(20)), PT)
    (sketch,) = _sketches(bench)
    bench.now += limits.SKETCH_LIFE
    assert erase_old_sketches(bench[PT].node) == 0
    bench[ES].ask(records(range(20)), PT)
    bench.now += timedelta(seconds=1)
    assert erase_old_sketches(bench[PT].node) == 1
    assert [one.request for one in _sketches(bench)] != [sketch.request]
    assert len(_sketches(bench)) == 1


def test_the_key_is_the_nodes_own(bench: Bench) -> None:
    assert bench[PT].node.key_for(SKETCHES) == bench[PT].node.key_for(SKETCHES)
    assert bench[PT].node.key_for(SKETCHES) != bench[PT].node.key_for(b"another use")
    assert bench[PT].node.key_for(SKETCHES) != bench[ES].node.key_for(SKETCHES)


def test_the_digest_of_the_list_is_salted_on_both_sides(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[ES].ask(records(range(1)), PT)
    (asked,), (answered,) = bench[ES].audit("query.asked"), bench[PT].audit("query.answered")
    query = bench[PT].store.read(lambda tx: tx.queries.find())[0]
    envelope = envelope_pb2.Envelope.FromString(query.header)
    header = payload_pb2.Payload.FromString(envelope.payload).query
    own = hashlib.sha256()
    for kind in ("md5", "sha1", "sha256"):
        own.update(getattr(records(range(1))[0], kind))
    told = set()
    for entry, digest in ((asked, own.digest()), (answered, header.list_digest)):
        detail = json.loads(json.dumps(entry["detail"]))
        salt = bytes.fromhex(detail["list_salt"])
        assert len(salt) == 16
        assert detail["list_digest"] == hashlib.sha256(salt + digest).hexdigest()
        told.add(detail["list_digest"])
    assert len(told) == 2
    assert answered["case"] == CASE
