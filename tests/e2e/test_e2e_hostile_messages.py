"""Real nodes and a member gone bad: its certificate and signatures are valid, its words are not.

pt-pj and interpol run. es-gc, europol-ec3 and us-ice are rogues: they hold the keys of homes that
have joined, and nothing of the product runs for them. Every message goes over real mutual TLS.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from tieline.v1 import (
    delivery_pb2,
    digests_pb2,
    envelope_pb2,
    exchange_pb2,
    payload_pb2,
    series_pb2,
)
from tieline_client import envelopes, keys, limits, tls
from tieline_client.digests import DigestKind, pack
from tieline_client.identifiers import dns_name, new_id, new_series_id
from tieline_client.payloads import Audience, payload_type, timestamp, to_proto

from tests.e2e.federation import Federation, Node, wait_for
from tests.e2e.rogue import HELLO, SECONDS, Impostor, Rogue, infos, refusal, serving

PT, INTERPOL = "pt-pj", "interpol"
ES, HUB, ICE = "es-gc", "europol-ec3", "us-ice"
APPLIED, DUPLICATE = delivery_pb2.REPLY_APPLIED, delivery_pb2.REPLY_DUPLICATE
REFUSED, RETRY = delivery_pb2.REPLY_REFUSED, delivery_pb2.REPLY_RETRY
DELIVER = "/tieline.v1.DeliveryService/Deliver"
PUT_CHUNK = "/tieline.v1.DeliveryService/PutChunk"
OVERLAP = "/tieline.v1.ExchangeService/Overlap"
OVERLAP_BRIEF = "/tieline.v1.ExchangeService/OverlapBrief"
SIGNATURE = (grpc.StatusCode.UNAUTHENTICATED, "SIGNATURE_REFUSED", "")
Payload = payload_pb2.Payload

_EFFECTS = (
    "imports", "items", "holdings", "series", "assessments", "referrals", "referral_steps",
    "uploads", "upload_steps", "broadcasts", "broadcast_answers",
)  # fmt: skip


def sha1(number: int) -> bytes:
    return hashlib.sha1(f"rogue {number}".encode()).digest()


class Stage:
    """The federation, with its rogues."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.pt, self.interpol = federation[PT], federation[INTERPOL]
        self.es, self.hub, self.ice = (
            Rogue(federation[agency], federation.name) for agency in (ES, HUB, ICE)
        )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("messages")
    made = Federation(root).found()
    for agency, role, *countries in (
        (PT, "national", "PT"),
        (ES, "national", "ES"),
        (ICE, "national", "US"),
        (HUB, "hub"),
        (INTERPOL, "repository"),
    ):
        made.init(agency, role, *countries)
    made.change("group", "desks", PT, ES)
    made.change("group", "others", ES)
    made.change("agreement", ICE, "--basis", "trial agreement")
    for node in made:
        made.join(node)
    try:
        made.start(PT, INTERPOL)
        held = root / "held.txt"
        held.write_text("".join(f"sha1:{sha1(n).hex()}\n" for n in range(5)))
        made[PT].import_file(held, "--series", "Azul")
        yield Stage(made)
    finally:
        made.close()


def _known(node: Node) -> dict[str, int]:
    """How many rows of everything that a message could change."""
    return {name: node.rows(f"select count(*) from {name}")[0][0] for name in _EFFECTS}


@contextmanager
def untouched(node: Node) -> Iterator[None]:
    """What happens inside must change nothing that the node knows."""
    before = _known(node)
    yield
    assert _known(node) == before


def _notice(owner: str, **changes: Any) -> series_pb2.SeriesNotice:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": new_series_id(owner),
        "status": "new",
        "handling": series_pb2.Handling(
            code=0, tlp=3, source="X", information=4, retain_until="2028-01-01"
        ),
        "contact": series_pb2.DutyContact(name="desk"),
        "create_time": timestamp(now),
    }
    return series_pb2.SeriesNotice(**(fields | changes))


def _referral(owner: str = ES, **changes: Any) -> Payload:
    identifier = new_id()
    fields: dict[str, Any] = {
        "id": identifier,
        "root": identifier,
        "series": _notice(owner),
        "country": "PT",
        "urgency": 2,
    }
    return Payload(referral=payload_pb2.Referral(**(fields | changes)))


def _refused(
    node: Node, rogue: Rogue, envelope: envelope_pb2.Envelope, reason: str
) -> delivery_pb2.DeliverResponse:
    """Deliver what is REFUSED for good: without effect, with an audit entry, a stored reply."""
    with untouched(node):
        answer = rogue.deliver(node, envelope)
        again = rogue.deliver(node, envelope)
    assert (answer.reply, answer.reason) == (REFUSED, reason), answer
    assert "\n" not in answer.text
    assert (again.reply, again.reason) == (REFUSED, reason)
    identifier = Payload.FromString(envelope.payload).id
    entries = [one for one in _entries(node) if identifier in one["subjects"]]
    assert [(one["action"], one["peer"]) for one in entries] == [("refusal", rogue.agency)]
    return answer


def _entries(node: Node) -> list[Any]:
    import json

    rows = node.rows("select leaf from audit_leaves order by position")
    return [json.loads(leaf) for (leaf,) in rows]


# --- the envelope ---------------------------------------------------------------------------------


def test_a_valid_referral_of_the_rogue_itself_is_applied_once(stage: Stage) -> None:
    """What follows is refused for its own fault, not for who sends it."""
    envelope = stage.es.seal(_referral(), PT)
    assert stage.es.deliver(stage.pt, envelope).reply == APPLIED
    with untouched(stage.pt):
        assert stage.es.deliver(stage.pt, envelope).reply == DUPLICATE


def _altered(stage: Stage) -> envelope_pb2.Envelope:
    envelope = stage.es.seal(_referral(), PT)
    envelope.payload = envelope.payload[:-1] + bytes([envelope.payload[-1] ^ 1])
    return envelope


def _for_another(stage: Stage) -> envelope_pb2.Envelope:
    return stage.es.seal(_referral(), HUB)


def _by_another(stage: Stage) -> envelope_pb2.Envelope:
    return stage.ice.seal(_referral(ICE), PT)


def _expired(stage: Stage) -> envelope_pb2.Envelope:
    hour = timedelta(hours=1)
    long_ago = datetime.now(UTC) - limits.CLOCK_TOLERANCE - 2 * hour
    return stage.es.seal(_referral(), PT, at=long_ago, life=hour)


def _future(stage: Stage) -> envelope_pb2.Envelope:
    later = datetime.now(UTC) + limits.CLOCK_TOLERANCE + timedelta(hours=1)
    return stage.es.seal(_referral(), PT, at=later)


def _for_ever(stage: Stage) -> envelope_pb2.Envelope:
    return stage.es.seal(_referral(), PT, life=limits.ENVELOPE_LIFE + timedelta(days=1))


def _signed(stage: Stage, kind: str = "referral", **changes: str) -> envelope_pb2.Envelope:
    payload = Payload.FromString(stage.es.seal(_referral(), PT).payload)
    for name, value in changes.items():
        setattr(payload, name, value)
    signed = envelopes.sign(payload_type(kind), payload.SerializeToString(), stage.es.signing_key)
    return to_proto(signed)


def _unlisted_key(stage: Stage) -> envelope_pb2.Envelope:
    payload = stage.es.seal(_referral(), PT).payload
    return to_proto(envelopes.sign(payload_type("referral"), payload, keys.generate()))


def _without_signature(stage: Stage) -> envelope_pb2.Envelope:
    envelope = stage.es.seal(_referral(), PT)
    envelope.ClearField("signatures")
    return envelope


_ENVELOPES: dict[str, Callable[[Stage], envelope_pb2.Envelope]] = {
    "an altered byte": _altered,
    "another recipient's": _for_another,
    "another sender's": _by_another,
    "expired": _expired,
    "from the future": _future,
    "valid too long": _for_ever,
    "another federation's": lambda stage: _signed(stage, federation="elsewhere"),
    "another version's": lambda stage: _signed(stage, version="v2"),
    "another issuer inside": lambda stage: _signed(stage, issuer=ICE),
    "a type that is not its body's": lambda stage: _signed(stage, kind="upload"),
    "a key that nobody lists": _unlisted_key,
    "no signature": _without_signature,
}


@pytest.mark.parametrize("case", _ENVELOPES)
def test_an_envelope_that_does_not_hold(stage: Stage, case: str) -> None:
    with untouched(stage.pt):
        envelope = _ENVELOPES[case](stage)
        assert refusal(lambda: stage.es.deliver(stage.pt, envelope)) == SIGNATURE


def test_the_same_id_with_another_body(stage: Stage) -> None:
    payload = _referral()
    assert stage.es.deliver(stage.pt, stage.es.seal(payload, PT)).reply == APPLIED
    payload.referral.note = "something else"
    with untouched(stage.pt):
        other = stage.es.seal(payload, PT)
        found = refusal(lambda: stage.es.deliver(stage.pt, other))
    assert found == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", "")


def test_a_group_that_the_node_is_not_in(stage: Stage) -> None:
    audience = Audience(group="others", group_version=1)
    envelope = stage.hub.seal(_referral(HUB), audience)
    _refused(stage.pt, stage.hub, envelope, "POLICY_REFUSED")


# --- relays ---------------------------------------------------------------------------------------


def _relay(stage: Stage, original: envelope_pb2.Envelope | None, inner: Payload) -> Payload:
    """What the hub sends on: a new referral of the same chain, the owner's envelope inside."""
    return Payload(
        referral=payload_pb2.Referral(
            id=new_id(),
            root=inner.referral.root,
            series=inner.referral.series,
            country="PT",
            urgency=2,
            original=original,
        )
    )


def test_an_honest_relay_is_applied_and_the_same_envelope_again_refused(stage: Stage) -> None:
    inner = _referral()
    original = stage.es.seal(inner, HUB)
    envelope = stage.hub.seal(_relay(stage, original, inner), PT)
    assert stage.hub.deliver(stage.pt, envelope).reply == APPLIED
    again = stage.hub.seal(_relay(stage, original, inner), PT)
    _refused(stage.pt, stage.hub, again, "SIGNATURE_REFUSED")


@pytest.mark.parametrize(
    "cheat",
    ["addressed to somebody else", "other series", "handling loosened", "no envelope", "own words"],
)
def test_a_relay_that_is_not_what_the_owner_signed(stage: Stage, cheat: str) -> None:
    inner = _referral()
    original: envelope_pb2.Envelope | None = stage.es.seal(inner, HUB)
    relayed = _relay(stage, original, inner)
    if cheat == "addressed to somebody else":
        inner.ClearField("id")
        relayed.referral.original.CopyFrom(stage.es.seal(inner, ICE))
    elif cheat == "other series":
        relayed.referral.series.id = new_series_id(ES)
    elif cheat == "handling loosened":
        relayed.referral.series.handling.tlp = 1
    elif cheat == "no envelope":
        relayed.referral.ClearField("original")
    else:
        inner.ClearField("id")
        relayed.referral.original.CopyFrom(stage.hub.seal(inner, HUB))
    _refused(stage.pt, stage.hub, stage.hub.seal(relayed, PT), "SIGNATURE_REFUSED")


def test_what_the_owner_told_the_hub_somebody_else_does_not_pass_on(stage: Stage) -> None:
    inner = _referral()
    relayed = _relay(stage, stage.es.seal(inner, HUB), inner)
    _refused(stage.pt, stage.ice, stage.ice.seal(relayed, PT), "SIGNATURE_REFUSED")


def test_a_broadcast_of_who_is_no_hub(stage: Stage) -> None:
    asked = Payload(broadcast=payload_pb2.Broadcast(id=new_id(), series=_notice(ES)))
    envelope = stage.es.seal(asked, Audience(group="desks", group_version=1))
    _refused(stage.pt, stage.es, envelope, "POLICY_REFUSED")


def test_a_broadcast_of_what_was_told_to_somebody_else(stage: Stage) -> None:
    original = stage.es.seal(_referral(), ICE)
    asked = Payload(broadcast=payload_pb2.Broadcast(id=new_id(), original=original))
    envelope = stage.hub.seal(asked, Audience(group="desks", group_version=1))
    _refused(stage.pt, stage.hub, envelope, "SIGNATURE_REFUSED")


# --- steps and deposits ---------------------------------------------------------------------------


def _referred(stage: Stage) -> str:
    """pt-pj refers a series to es-gc, whose node is away; returns the referral's id."""
    with stage.pt.client() as client:
        series = next(one.notice.id for one in client.list_series() if one.notice.name == "Azul")
        (view,) = client.refer_series(
            series, agency=ES, urgency=3, purpose="victim-identification", case_ref="C-1"
        )
    return view.id


def _step(referral: str, root: str = "", state: str = "outcome") -> Payload:
    return Payload(
        referral_step=payload_pb2.ReferralStep(
            id=new_id(),
            referral=referral,
            root=root or referral,
            state=state,
            step_time=timestamp(datetime.now(UTC)),
            outcome=payload_pb2.Outcome(identified=7),
        )
    )


def test_a_step_by_somebody_who_was_not_told(stage: Stage) -> None:
    referral = _referred(stage)
    envelope = stage.ice.seal(_step(referral), PT)
    _refused(stage.pt, stage.ice, envelope, "SIGNATURE_REFUSED")
    with untouched(stage.pt):
        by_root = stage.ice.seal(_step(new_id(), referral), PT)
        assert stage.ice.deliver(stage.pt, by_root).reply == RETRY
    shown = stage.pt.run("series", "show", "Azul").ok().json
    assert "identified" not in str(shown.get("status"))


@pytest.mark.parametrize("state", ["withdrawn", "delivered", "lost"])
def test_a_step_that_is_not_a_recipients(stage: Stage, state: str) -> None:
    envelope = stage.es.seal(_step(_referred(stage), state=state), PT)
    _refused(stage.pt, stage.es, envelope, "INVALID_INPUT")


def test_an_upload_to_a_node_that_is_no_repository(stage: Stage) -> None:
    deposit = Payload(upload=payload_pb2.Upload(id=new_id(), series=_notice(ES)))
    _refused(stage.pt, stage.es, stage.es.seal(deposit, PT), "POLICY_REFUSED")


def test_an_upload_of_somebody_elses_series(stage: Stage) -> None:
    for owner, reason in ((ICE, "POLICY_REFUSED"), (INTERPOL, "INVALID_INPUT")):
        deposit = Payload(upload=payload_pb2.Upload(id=new_id(), series=_notice(owner)))
        _refused(stage.interpol, stage.es, stage.es.seal(deposit, INTERPOL), reason)


def test_a_referral_of_somebody_elses_series_without_its_envelope(stage: Stage) -> None:
    envelope = stage.ice.seal(_referral(ES), PT)
    _refused(stage.pt, stage.ice, envelope, "SIGNATURE_REFUSED")
    envelope = stage.ice.seal(_referral(PT), PT)
    _refused(stage.pt, stage.ice, envelope, "INVALID_INPUT")


# --- chunks ---------------------------------------------------------------------------------------


def _chunk(*numbers: int, **changes: Any) -> digests_pb2.ItemChunk:
    digests = sorted((sha1(n), index) for index, n in enumerate(numbers))
    column = digests_pb2.DigestColumn(
        list=digests_pb2.DigestList(
            kind=digests_pb2.DIGEST_KIND_SHA1, digests=b"".join(d for d, _ in digests)
        ),
        items=[index for _, index in digests],
    )
    fields: dict[str, Any] = {"items": len(numbers), "columns": [column]}
    return digests_pb2.ItemChunk(**(fields | changes))


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Items:
    """Chunks with the name that an honest message gives them."""

    def __init__(self, *chunks: digests_pb2.ItemChunk | bytes, series: str = "") -> None:
        self.data = [c if isinstance(c, bytes) else c.SerializeToString() for c in chunks]
        self.series = series or new_series_id(ES)
        together = self.series.encode() + b"".join(map(_sha256, self.data))
        self.id = hashlib.sha256(together).hexdigest()
        self.items = sum(one.items for one in chunks if not isinstance(one, bytes)) or 1

    def request(self, index: int | None, **changes: Any) -> delivery_pb2.PutChunkRequest:
        fields: dict[str, Any] = {
            "attachment": self.id,
            "chunks": len(self.data),
            "items": self.items,
            "index": index or 0,
            "chunk": b"" if index is None else self.data[index],
            "kind": "referral",
            "purpose": "victim-identification",
            "series": self.series,
        }
        return delivery_pb2.PutChunkRequest(**(fields | changes))

    def message(self, **changes: Any) -> Payload:
        fields: dict[str, Any] = {"id": self.id, "chunks": len(self.data), "items": self.items}
        return _referral(
            series=_notice(ES, id=self.series),
            items=series_pb2.AttachmentRef(**(fields | changes)),
        )


def _two() -> Items:
    full = limits.ITEMS_PER_CHUNK
    return Items(_chunk(*range(100, 100 + full)), _chunk(99))


def test_chunks_in_the_wrong_order_wait_for_the_right_one(stage: Stage) -> None:
    items = _two()
    assert stage.es.put_chunk(stage.pt, items.request(1)) == 0
    assert stage.es.put_chunk(stage.pt, items.request(0)) == 1
    waits = stage.es.deliver(stage.pt, stage.es.seal(items.message(), PT))
    assert (waits.reply, waits.text) == (RETRY, "1 of 2 chunks have come")
    assert stage.es.put_chunk(stage.pt, items.request(1)) == 2
    done = stage.es.deliver(stage.pt, stage.es.seal(items.message(), PT))
    assert done.reply == APPLIED
    (counted,) = stage.pt.rows(
        "select count(*) from holdings h join imports i on i.no = h.import_no"
        " where i.generation is not null and i.agency = ?",
        ES,
    )
    assert counted[0] == limits.ITEMS_PER_CHUNK + 1


def _invalid(reason: str = "INVALID_INPUT") -> tuple[grpc.StatusCode, str, str]:
    return grpc.StatusCode.INVALID_ARGUMENT, reason, ""


def test_other_counts_than_announced(stage: Stage) -> None:
    items = _two()
    stage.es.put_chunk(stage.pt, items.request(0))
    for changes in ({"chunks": 3}, {"items": 5_002}, {"series": new_series_id(ES)}):
        request = items.request(1, **changes)
        with untouched(stage.pt):
            assert refusal(partial(stage.es.put_chunk, stage.pt, request)) == _invalid()
    with untouched(stage.pt):
        request = items.request(1, chunk=_chunk(1, 2).SerializeToString())
        assert refusal(lambda: stage.es.put_chunk(stage.pt, request)) == _invalid()
    _drop(stage, items)


def _drop(stage: Stage, items: Items) -> None:
    """A message that is refused takes what was staged for it along."""
    message = items.message()
    message.referral.country = "pt"
    assert stage.es.deliver(stage.pt, stage.es.seal(message, PT)).reply == REFUSED
    assert not stage.pt.rows("select 1 from imports where generation is null")
    assert not stage.pt.rows("select 1 from incoming_attachments")


def test_another_digest_than_the_message_names_stages_nothing_for_good(stage: Stage) -> None:
    items = Items(_chunk(7001, 7002))
    swapped = items.request(0, chunk=_chunk(7003, 7004).SerializeToString())
    assert stage.es.put_chunk(stage.pt, swapped) == 1
    answer = stage.es.deliver(stage.pt, stage.es.seal(items.message(), PT))
    assert (answer.reply, answer.reason) == (REFUSED, "INVALID_INPUT")
    assert not stage.pt.rows("select 1 from imports where generation is null")
    assert not stage.pt.rows("select 1 from items where sha1 = ?", sha1(7003))


def test_a_message_before_its_chunks_waits(stage: Stage) -> None:
    with untouched(stage.pt):
        answer = stage.es.deliver(stage.pt, stage.es.seal(_two().message(), PT))
    assert answer.reply == RETRY


def test_votes_of_others_do_not_come_in(stage: Stage) -> None:
    vote = digests_pb2.CategoryVote(item=0, agency=PT, scheme="vics-us", code="1")
    items = Items(_chunk(8001, votes=[vote]))
    assert refusal(lambda: stage.es.put_chunk(stage.pt, items.request(0))) == _invalid()
    assert not stage.pt.rows("select 1 from items where sha1 = ?", sha1(8001))
    _drop(stage, items)


def test_bytes_with_the_look_of_a_picture_are_no_digests(stage: Stage) -> None:
    # The opening of a JFIF file, made up and cut into 20-byte pieces (threats.md 26).
    head = bytes.fromhex("ffd8ffe000104a46494600010101004800480000ffdb004300") + bytes(range(255))
    column = digests_pb2.DigestColumn(
        list=digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=head),
        items=range(14),
    )
    as_digests = Items(digests_pb2.ItemChunk(items=14, columns=[column]))
    found = refusal(lambda: stage.es.put_chunk(stage.pt, as_digests.request(0)))
    assert found == _invalid("INVALID_DIGEST")
    _drop(stage, as_digests)
    as_chunk = Items(head)
    found = refusal(lambda: stage.es.put_chunk(stage.pt, as_chunk.request(0)))
    assert found == _invalid("MALFORMED_MESSAGE")
    _drop(stage, as_chunk)
    request = exchange_pb2.OverlapRequest(
        batch=digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=head)
    )
    asked = [_question(stage, {}), request]
    assert refusal(lambda: stage.es.overlap(stage.pt, asked)) == _invalid("INVALID_DIGEST")


# --- questions ------------------------------------------------------------------------------------


def _question(
    stage: Stage, lists: dict[DigestKind, bytes], **changes: Any
) -> exchange_pb2.OverlapRequest:
    fields: dict[str, Any] = {
        "mode": payload_pb2.QUERY_MODE_EXACT,
        "records": 3,
        "counts": [len(lists.get(kind, b"")) // kind.width for kind in DigestKind],
        "list_digest": hashlib.sha256(b"".join(lists[k] for k in sorted(lists))).digest(),
    }
    header = Payload(query=payload_pb2.QueryHeader(**(fields | changes)))
    return exchange_pb2.OverlapRequest(header=stage.es.seal(header, PT, life=limits.QUERY_LIFE))


def _batch(kind: DigestKind, packed: bytes) -> exchange_pb2.OverlapRequest:
    return exchange_pb2.OverlapRequest(
        batch=digests_pb2.DigestList(kind=int(kind), digests=packed)  # type: ignore[arg-type]
    )


def _packed(*numbers: int) -> bytes:
    return pack(DigestKind.SHA1, map(sha1, numbers))


def test_an_honest_question_by_hand_gets_hits_and_a_receipt(stage: Stage) -> None:
    lists = {DigestKind.SHA1: _packed(1, 2, 77)}
    asked = [_question(stage, lists), _batch(DigestKind.SHA1, lists[DigestKind.SHA1])]
    answer = stage.es.overlap(stage.pt, asked)
    assert answer[-1].HasField("end")
    assert sum(len(one.hits.positions) for one in answer) == 2


@pytest.mark.parametrize(
    ("told", "sent", "reason"),
    [
        (_packed(1, 2, 3), [_packed(1, 2)], "INVALID_INPUT"),
        (_packed(1, 2), [_packed(1, 2, 3)], "INVALID_INPUT"),
        (_packed(1, 2), [_packed(3, 4)], "INVALID_INPUT"),
        (_packed(1), [], "INVALID_INPUT"),
        (_packed(1, 2), [_packed(1, 2)[20:] + _packed(1, 2)[:20]], "INVALID_DIGEST"),
        (_packed(1, 2), [_packed(1, 2)[20:], _packed(1, 2)[:20]], "INVALID_DIGEST"),
        (_packed(1), [_packed(1)[:-1]], "INVALID_DIGEST"),
    ],
    ids=["fewer", "more", "others", "none", "descending", "descending batches", "cut"],
)
def test_a_body_that_is_not_its_headers_gets_no_receipt(
    stage: Stage, told: bytes, sent: list[bytes], reason: str
) -> None:
    before = len(stage.pt.rows("select 1 from queries where receipt != ''"))
    asked = [_question(stage, {DigestKind.SHA1: told}), *(_batch(DigestKind.SHA1, s) for s in sent)]
    assert refusal(lambda: stage.es.overlap(stage.pt, asked)) == _invalid(reason)
    assert len(stage.pt.rows("select 1 from queries where receipt != ''")) == before


def test_a_perceptual_hash_in_an_exact_question(stage: Stage) -> None:
    lists = {DigestKind.PDQ: bytes(range(32))}
    asked = [_question(stage, lists), _batch(DigestKind.PDQ, lists[DigestKind.PDQ])]
    assert refusal(lambda: stage.es.overlap(stage.pt, asked)) == _invalid()


def test_a_question_without_its_header(stage: Stage) -> None:
    asked = [_batch(DigestKind.SHA1, _packed(1))]
    assert refusal(lambda: stage.es.overlap(stage.pt, asked)) == _invalid("MALFORMED_MESSAGE")


def test_a_question_id_belongs_to_one_header(stage: Stage) -> None:
    lists = {DigestKind.SHA1: _packed(1, 2)}
    first = _question(stage, lists)
    batch = _batch(DigestKind.SHA1, lists[DigestKind.SHA1])
    assert stage.es.overlap(stage.pt, [first, batch])
    payload = Payload.FromString(first.header.payload)
    payload.case_ref = "another"
    other = exchange_pb2.OverlapRequest(header=stage.es.seal(payload, PT, life=limits.QUERY_LIFE))
    found = refusal(lambda: stage.es.overlap(stage.pt, [other, batch]))
    assert found == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", "")


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [HELLO, DELIVER, PUT_CHUNK, OVERLAP, OVERLAP_BRIEF])
@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\x05abc"])
def test_bytes_that_are_no_message(stage: Stage, method: str, data: bytes) -> None:
    found = refusal(lambda: stage.es.raw(stage.pt, method, data))
    assert found == _invalid("MALFORMED_MESSAGE")


def test_unknown_fields_over_the_cap(stage: Stage) -> None:
    padding = b"\xfa\x3e\xd0\x0f" + b"x" * 2000  # field 1007
    honest = exchange_pb2.HelloRequest(nonce=bytes(32)).SerializeToString()
    found = refusal(lambda: stage.es.raw(stage.pt, HELLO, honest + padding))
    assert found == _invalid("MALFORMED_MESSAGE")
    some = b"\xfa\x3e\x10" + b"x" * 16
    assert stage.es.raw(stage.pt, HELLO, honest + some)


@pytest.mark.parametrize(
    "method",
    [
        "/tieline.v1.ExchangeService/Steal",
        "/tieline.v2.ExchangeService/Hello",
        "/nobody/Knows",
        "/tieline.v1.OperatorService/GetStats",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Watch",
    ],
)
def test_a_method_that_is_not_served(stage: Stage, method: str) -> None:
    found = refusal(lambda: stage.es.raw(stage.pt, method))
    assert found == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD", "")


@contextmanager
def _unbounded(stage: Stage) -> Iterator[grpc.Channel]:
    """A channel without this side's own caps."""
    identity = stage.es.identity
    credentials = grpc.ssl_channel_credentials(
        tls.to_pem(stage.es.directory.member(PT).node_cas), identity.key_pem, identity.leaf_pem
    )
    name = dns_name(PT, stage.es.federation)
    options = [
        ("grpc.ssl_target_name_override", name),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
    ]
    with grpc.secure_channel(stage.pt.address, credentials, options) as channel:
        yield channel


def _bare(channel: grpc.Channel, data: bytes, **options: Any) -> grpc.StatusCode:
    call = channel.unary_unary(HELLO, None, None)
    with pytest.raises(grpc.RpcError) as failed:
        call(data, timeout=10 * SECONDS, **options)  # to compress it may take long
    error: Any = failed.value
    assert infos(error) == []
    code: grpc.StatusCode = error.code()
    return code


def _peak(node: Node) -> int:
    """The most memory that a node's process ever had, in bytes."""
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_an_oversize_message_is_refused_by_grpc_itself(stage: Stage) -> None:
    with _unbounded(stage) as channel:
        code = _bare(channel, bytes(limits.MESSAGE_BYTES + 1))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_two_hundred_mebibytes_of_zeros_cost_nothing(stage: Stage) -> None:
    before = _peak(stage.pt)
    with _unbounded(stage) as channel:
        for _ in range(2):
            code = _bare(channel, bytes(200 * 1024**2), compression=grpc.Compression.Gzip)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _peak(stage.pt) - before < 32 * 1024**2


def test_the_bomb_was_one() -> None:
    assert len(gzip.compress(bytes(200 * 1024**2), 1)) < limits.MESSAGE_BYTES


# --- a rogue answers ------------------------------------------------------------------------------


class Answers:
    """Answers a question as the rogue: honest receipts over whatever it says."""

    def __init__(self, rogue: Rogue, *parts: exchange_pb2.OverlapResponse) -> None:
        self.rogue, self.parts = rogue, parts
        self.receipt: dict[str, Any] = {}
        self.to = PT

    def __call__(self, method: str, sent: list[bytes]) -> Iterable[bytes]:
        if method not in (OVERLAP, OVERLAP_BRIEF) or not sent:
            return
        if method == OVERLAP:
            header = exchange_pb2.OverlapRequest.FromString(sent[0]).header
        else:
            header = exchange_pb2.OverlapBriefRequest.FromString(sent[0]).header
        parts = list(self._parts(header))
        if method == OVERLAP_BRIEF:
            yield exchange_pb2.OverlapBriefResponse(parts=parts).SerializeToString()
        else:
            yield from (part.SerializeToString() for part in parts)

    def _parts(self, header: envelope_pb2.Envelope) -> Iterator[exchange_pb2.OverlapResponse]:
        asked = Payload.FromString(header.payload)
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part.SerializeToString(deterministic=True))
            yield part
        fields: dict[str, Any] = {
            "request": asked.id,
            "request_digest": hashlib.sha256(header.payload).digest(),
            "answer_digest": digest.digest(),
            "hits": 1,
            "disclosure": "hit",
        }
        receipt = Payload(receipt=payload_pb2.Receipt(**(fields | self.receipt)))
        receipt.purpose, receipt.case_ref = asked.purpose, asked.case_ref
        sealed = self.rogue.sealer.seal(receipt, Audience(agency=self.to), datetime.now(UTC))
        end = exchange_pb2.OverlapEnd(receipt=sealed, disclosure="hit")
        yield exchange_pb2.OverlapResponse(end=end)


def _hits(*positions: int, kind: DigestKind = DigestKind.SHA1, **columns: Any) -> Any:
    batch = exchange_pb2.HitBatch(kind=int(kind), positions=positions, **columns)  # type: ignore[arg-type]
    return exchange_pb2.OverlapResponse(hits=batch)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "asked.txt"
    path.write_text("".join(f"sha1:{sha1(n).hex()}\n" for n in range(3)))
    return path


@pytest.fixture(scope="module")
def impostor(stage: Stage, asked: Path) -> Iterator[Impostor]:
    """es-gc's node as the rogue runs it: everything before its answers is honest."""
    made = Impostor(lambda request: stage.es.hello(request, PT), Answers(stage.es))
    pt_ca = stage.es.directory.member(PT).node_cas
    with serving(made, stage.es.address, stage.es.identity, pt_ca):
        # It was away until now, and pt-pj has tried to reach it.
        reached = lambda: stage.pt.ask(asked, "--peer", ES).code == 0  # noqa: E731
        wait_for("pt-pj reaches es-gc again", reached)
        yield made


def _ask(stage: Stage, file: Path, code: int) -> Any:
    result = stage.pt.ask(file, "--peer", ES)
    assert result.code == code, (result.code, result.err, result.out)
    (peer,) = result.json["peers"]
    return peer


def test_an_honest_answer_of_the_same_server_is_shown(
    stage: Stage, impostor: Impostor, asked: Path
) -> None:
    impostor.after = Answers(stage.es, _hits(0, 2))
    peer = _ask(stage, asked, 0)
    assert (peer["status"], len(peer["overlaps"])) == ("answered", 2)


_LIES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "positions out of range": ([_hits(0), _hits(3)], {}, "position"),
    "a kind that was not asked": ([_hits(0, kind=DigestKind.MD5)], {}, "kind"),
    "a series that was not sent": ([_hits(0, series=[1])], {}, "series"),
    "a distance of an exact hit": ([_hits(0, distances=[1])], {}, "columns"),
    "the receipt of another question": ([_hits(0)], {"request": new_id()}, "receipt"),
    "a receipt over other bytes": ([_hits(0)], {"request_digest": bytes(32)}, "receipt"),
    "a wrong digest of the answer": ([_hits(0)], {"answer_digest": bytes(32)}, "receipt"),
    "another disclosure": ([_hits(0)], {"disclosure": "nothing"}, "receipt"),
}


@pytest.mark.parametrize("lie", _LIES)
def test_an_answer_that_does_not_hold_is_dropped_whole(
    stage: Stage, impostor: Impostor, asked: Path, lie: str
) -> None:
    parts, receipt, words = _LIES[lie]
    impostor.after = answers = Answers(stage.es, *parts)
    answers.receipt = receipt
    peer = _ask(stage, asked, 3)
    assert (peer["status"], peer["overlaps"]) == ("refused", [])
    assert words in peer["reason"]
    assert not peer["receipt"]


def test_a_receipt_for_somebody_else(stage: Stage, impostor: Impostor, asked: Path) -> None:
    impostor.after = answers = Answers(stage.es, _hits(0))
    answers.to = HUB
    peer = _ask(stage, asked, 3)
    assert (peer["status"], peer["overlaps"]) == ("refused", [])


def test_no_receipt_at_all(stage: Stage, impostor: Impostor, asked: Path) -> None:
    impostor.after = lambda _method, _sent: [_hits(0).SerializeToString()]
    peer = _ask(stage, asked, 3)
    assert (peer["status"], peer["overlaps"]) == ("refused", [])
    assert "receipt" in peer["reason"]


def test_an_answer_that_is_no_message(stage: Stage, impostor: Impostor, asked: Path) -> None:
    impostor.after = lambda _method, _sent: [b"\xff" * 50]
    peer = _ask(stage, asked, 3)
    assert (peer["status"], peer["overlaps"]) == ("refused", [])
    assert "no such message" in peer["reason"]


# --- afterwards -----------------------------------------------------------------------------------


def test_the_nodes_serve_on_and_their_logs_hold(stage: Stage) -> None:
    for node in (stage.pt, stage.interpol):
        assert node.running
        assert node.stats()["items"] >= 0
        verified = node.run("audit", "verify").ok().json
        assert verified["verified"] is True
        assert "Traceback" not in node.log.read_text("utf-8", "replace")
    wait_for("the node answers", lambda: stage.es.raw(stage.pt, HELLO, _hello_bytes()))


def _hello_bytes() -> bytes:
    return exchange_pb2.HelloRequest(nonce=bytes(32)).SerializeToString()
