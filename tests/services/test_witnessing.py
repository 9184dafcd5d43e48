"""Logs that watch one another: over real databases, really rewritten (threats.md 20, 23)."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest
from tieline.v1 import audit_pb2, envelope_pb2, payload_pb2
from tieline_client import limits
from tieline_client.checkpoints import Checkpoint, open_checkpoint, open_countersignature
from tieline_client.errors import InvalidInput, MalformedMessage, SignatureRefused
from tieline_client.payloads import Audience
from tieline_server.delivery.contacts import Contacts
from tieline_server.domain import merkle
from tieline_server.domain.witness import Equivocation, Finding
from tieline_server.services.witness_words import witness_troubles

from tests.services.bench import ES, FR, HUB, PT, Bench, Running, records
from tests.services.rewriting import edited, rewrite


def _head(holder: Running, of: str) -> Checkpoint | None:
    return holder.store.read(lambda tx: tx.witness.head(of))


def _proofs(holder: Running) -> list[Equivocation]:
    return list(holder.store.read(lambda tx: tx.witness.equivocations()))


def _log(running: Running, count: int = 3) -> None:
    """Let something happen."""
    for _ in range(count):
        entry = running.node.entry("something", person="ana")
        running.store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]


def _rewritten(bench: Bench, agency: str, position: int = 0) -> Running:
    """The node of somebody who changed an entry in the file and made all hashes anew."""
    image = bench.image(agency)
    rewrite(image, edited(position, person="nobody"))
    return bench.set_back(agency, image)


def _proves(bench: Bench, proof: Equivocation) -> None:
    """Both are signed by the accused, and no log can have both heads."""
    first, second = (
        open_checkpoint(envelope_pb2.Envelope.FromString(one), bench.directory)
        for one in (proof.first, proof.second)
    )
    assert first.agency == second.agency == proof.agency
    assert first.epoch == second.epoch == proof.epoch
    assert (first.size, first.root) != (second.size, second.root)


# --- honest ---------------------------------------------------------------------------------------


def test_a_contact_swaps_and_countersigns_both_ways(bench: Bench) -> None:
    for agency in (PT, ES):
        _log(bench[agency])
    bench[ES].witnessing.contact(PT)
    for holder, of in ((ES, PT), (PT, ES)):
        head = _head(bench[holder], of)
        assert head is not None
        log = bench[of].store
        assert (head.size, head.root) == log.read(lambda tx: (tx.audit.size(), tx.audit.root()))
        (by,) = bench[of].store.read(lambda tx: tx.witness.countersignatures())
        assert (by.witness, by.size, by.root) == (holder, head.size, head.root)
        opened = open_countersignature(
            envelope_pb2.Envelope.FromString(by.envelope), bench.directory, agency=of
        )
        assert opened == by
    assert _proofs(bench[ES]) == _proofs(bench[PT]) == []


def test_a_log_that_grows_is_followed(bench: Bench) -> None:
    _log(bench[PT], 1)
    sizes = []
    for _ in range(6):
        bench[ES].witnessing.contact(PT)
        head = _head(bench[ES], PT)
        assert head is not None
        sizes.append(head.size)
        _log(bench[PT], 5)
    assert sizes == [1, 6, 11, 16, 21, 26]
    assert bench[ES].audit("alarm") == []
    (by,) = bench[PT].store.read(lambda tx: tx.witness.countersignatures())
    assert by.size == 26  # of one day the last stays


def test_consistency_proofs_are_those_of_the_rfc_and_of_real_sizes_only(bench: Bench) -> None:
    _log(bench[PT], 13)
    roots = [bench[PT].store.read(lambda tx, n=n: tx.audit.root_at(n)) for n in range(1, 14)]  # type: ignore[misc]
    for first in range(1, 14):
        for second in range(first, 14):
            request = audit_pb2.GetConsistencyRequest(first=first, second=second)
            proof = list(bench[PT].witnessing.consistency(request).proof)
            assert merkle.verify_consistency(
                first, second, proof, roots[first - 1], roots[second - 1]
            )
    for first, second in ((0, 3), (4, 3), (1, 14), (14, 14)):
        with pytest.raises(InvalidInput):
            bench[PT].witnessing.consistency(
                audit_pb2.GetConsistencyRequest(first=first, second=second)
            )


class _Noted(Contacts):
    """Contacts as they are, which say whom they are done with."""

    def __init__(self, running: Running, members: list[str]) -> None:
        super().__init__(running.node, lambda: members)
        self.done: SimpleQueue[str] = SimpleQueue()

    def _try(self, agency: str) -> None:
        super()._try(agency)
        self.done.put(agency)


def test_heads_are_swapped_with_everybody_hourly_and_with_who_comes_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits.CONTACT_SECONDS == 3600
    for agency in (PT, ES, HUB):
        _log(bench[agency])

    def look(*, wanted: int, then: Callable[[Contacts], None]) -> set[str]:
        contacts = _Noted(bench[PT], [ES, HUB])
        contacts.start()
        try:
            then(contacts)
            return {contacts.done.get(timeout=120) for _ in range(wanted)}
        finally:
            contacts.stop()

    # The hour is not over: nobody is contacted. Who greets this node is, at once.
    look(wanted=0, then=Contacts.hourly)
    assert _head(bench[ES], PT) is _head(bench[HUB], PT) is None
    assert look(wanted=1, then=lambda contacts: contacts.soon(ES)) == {ES}
    assert _head(bench[ES], PT) is not None and _head(bench[PT], ES) is not None
    assert _head(bench[HUB], PT) is None
    monkeypatch.setattr(limits, "CONTACT_SECONDS", 0.0)
    assert look(wanted=2, then=Contacts.hourly) == {ES, HUB}
    for holder in (ES, HUB):
        assert _head(bench[holder], PT) is not None and _head(bench[PT], holder) is not None
    by = bench[PT].store.read(lambda tx: {one.witness for one in tx.witness.countersignatures()})
    assert by == {ES, HUB}


# --- a database rewritten -------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 4, 7])
def test_a_rewritten_history_is_found_by_whoever_saw_the_other(bench: Bench, position: int) -> None:
    _log(bench[PT], 8)
    bench[ES].witnessing.contact(PT)
    _rewritten(bench, PT, position)
    _log(bench[PT], 3)
    bench[ES].witnessing.contact(PT)
    (proof,) = _proofs(bench[ES])
    assert (proof.agency, proof.kind) == (PT, Finding.FORK)
    _proves(bench, proof)
    (alarm,) = bench[ES].audit("alarm.equivocation")
    assert (alarm["peer"], alarm["subjects"]) == (PT, [proof.id])
    assert PT in bench[ES].store.read(witness_troubles)[0]
    # What was seen stays, is not replaced by what came, and nothing is countersigned again.
    held = _head(bench[ES], PT)
    assert held is not None
    assert held.size == 8
    before = bench[PT].store.read(lambda tx: tx.witness.countersignatures())
    bench[ES].witnessing.contact(PT)
    assert bench[PT].store.read(lambda tx: tx.witness.countersignatures()) == before
    assert len(bench[ES].audit("alarm.equivocation")) == 1


def test_the_rewritten_node_is_told_what_its_log_was(bench: Bench) -> None:
    """The accused's own auditor finds out at the accused's own node."""
    _log(bench[PT], 8)
    bench[ES].witnessing.contact(PT)
    _rewritten(bench, PT, 2)
    bench[PT].witnessing.contact(ES)
    (proof,) = _proofs(bench[PT])
    assert (proof.agency, proof.kind, proof.source) == (PT, Finding.FORK, ES)
    _proves(bench, proof)
    assert [one["peer"] for one in bench[PT].audit("alarm.equivocation")] == [PT]


def test_a_lost_tail_shows_against_what_a_peer_holds(bench: Bench) -> None:
    _log(bench[PT], 5)
    image = bench.image(PT)
    _log(bench[PT], 4)
    bench[ES].witnessing.contact(PT)
    bench.now = bench.now.replace(hour=13)
    bench.set_back(PT, image)
    bench[ES].witnessing.contact(PT)
    for finder in (ES, PT):
        (proof,) = _proofs(bench[finder])
        assert proof.kind is Finding.SET_BACK
        _proves(bench, proof)


def test_a_restored_node_says_so_and_is_followed_from_there(bench: Bench) -> None:
    _log(bench[PT], 5)
    image = bench.image(PT)
    _log(bench[PT], 4)
    bench[ES].witnessing.contact(PT)
    bench.now = bench.now.replace(hour=13)
    bench.set_back(PT, image)
    bench.resync(PT)
    bench[ES].witnessing.contact(PT)
    (proof,) = _proofs(bench[ES])
    assert proof.kind is Finding.RESTORED
    assert len(bench[ES].audit("alarm.log_restored")) == 1
    assert bench[ES].audit("alarm.equivocation") == []
    _log(bench[PT], 9)
    bench[ES].witnessing.contact(PT)
    head = _head(bench[ES], PT)
    assert head is not None
    assert (head.size, head.epoch) == (14, bench[PT].node.epoch)


# --- a hub that shows two histories ---------------------------------------------------------------


def test_two_histories_of_one_hub_are_found_by_gossip(bench: Bench) -> None:
    """Neither peer alone can know: both saw a log that fits itself."""
    _log(bench[HUB], 6)
    real = bench.image(HUB)
    bench[ES].witnessing.contact(HUB)
    other: Path = bench.folder / "other.sqlite3"
    other.write_bytes(real.read_bytes())
    rewrite(other, edited(3, peer="pt-pj"))
    bench.set_back(HUB, other)
    bench[FR].witnessing.contact(HUB)
    assert _proofs(bench[ES]) == _proofs(bench[FR]) == []
    bench[ES].witnessing.contact(FR)
    for finder in (ES, FR):
        (proof,) = _proofs(bench[finder])
        assert (proof.agency, proof.kind) == (HUB, Finding.FORK)
        _proves(bench, proof)
        assert len(bench[finder].audit("alarm.equivocation")) == 1


@pytest.mark.parametrize("longer", ["what the asker holds", "what it is shown"])
def test_histories_of_other_sizes_are_told_apart_by_asking_for_the_proof(
    bench: Bench, longer: str
) -> None:
    _log(bench[HUB], 6)
    real = bench.image(HUB)
    forged = bench.folder / "other.sqlite3"
    forged.write_bytes(real.read_bytes())
    rewrite(forged, edited(3, peer="pt-pj"))
    first, second = (ES, FR) if longer == "what it is shown" else (FR, ES)
    bench[first].witnessing.contact(HUB)
    bench.set_back(HUB, forged)
    _log(bench[HUB], 5)
    bench[second].witnessing.contact(HUB)
    asked: list[str] = []
    bench[ES].node.contact = asked.append
    bench[ES].witnessing.contact(FR)
    assert _proofs(bench[ES]) == []
    assert asked == [HUB]
    bench[ES].witnessing.contact(HUB)  # what delivery/contacts.py does when it is asked to
    (proof,) = _proofs(bench[ES])
    assert (proof.agency, proof.kind) == (HUB, Finding.FORK)
    _proves(bench, proof)


def test_what_honest_peers_hold_of_different_times_is_no_alarm(bench: Bench) -> None:
    _log(bench[HUB], 3)
    bench[ES].witnessing.contact(HUB)
    _log(bench[HUB], 4)
    bench[FR].witnessing.contact(HUB)
    for _ in range(2):
        bench[ES].witnessing.contact(FR)
        bench[FR].witnessing.contact(ES)
        bench[ES].witnessing.contact(HUB)
        bench[FR].witnessing.contact(HUB)
    assert _proofs(bench[ES]) == _proofs(bench[FR]) == _proofs(bench[HUB]) == []
    assert bench[ES].store.read(lambda tx: tx.witness.doubted(HUB)) == []


def test_contacts_at_one_time_while_logs_grow_accuse_nobody(bench: Bench) -> None:
    """Heads move on between the question for a proof and its answer, and gossip crosses both."""
    agencies = (ES, PT, FR, HUB)
    for one in agencies:
        _log(bench[one])

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(6):
            one, other = chance.sample(agencies, 2)
            _log(bench[other], chance.randint(1, 3))
            bench[one].witnessing.contact(other)

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, number) for number in range(6)]:
            done.result()
    assert [proof.why for one in agencies for proof in _proofs(bench[one])] == []
    for one in agencies:
        for other in agencies:
            if one != other:
                bench[one].witnessing.contact(other)
                head = _head(bench[one], other)
                assert head is not None
                assert head.root == bench[other].store.read(
                    lambda tx, size=head.size: tx.audit.root_at(size)  # type: ignore[misc]
                )


# --- what is refused ------------------------------------------------------------------------------


def _signed(
    bench: Bench, by: str, size: int, *, to: Audience | None = None
) -> envelope_pb2.Envelope:
    body = payload_pb2.Checkpoint(size=size, root=bytes(32), epoch=bench[by].node.epoch)
    return bench[by].node.sealer.seal(
        payload_pb2.Payload(checkpoint=body), to or Audience(), bench.now
    )


def test_a_checkpoint_of_somebody_else_is_not_countersigned(bench: Bench) -> None:
    _log(bench[PT])
    request = audit_pb2.CountersignRequest(checkpoint=_signed(bench, ES, 3))
    with pytest.raises(SignatureRefused):
        bench[FR].witnessing.countersign(PT, request)
    request = audit_pb2.CountersignRequest(checkpoint=_signed(bench, PT, 3, to=Audience(agency=FR)))
    with pytest.raises(SignatureRefused):
        bench[FR].witnessing.countersign(PT, request)
    assert _head(bench[FR], PT) is None


def test_altered_gossip_accuses_nobody(bench: Bench) -> None:
    _log(bench[HUB], 6)
    bench[ES].witnessing.contact(HUB)
    altered = _signed(bench, HUB, 6)
    altered.payload = altered.payload.replace(bytes(32), b"x" * 32)
    with_other_key = _signed(bench, FR, 6)
    bench[ES].witnessing.swap(FR, audit_pb2.SwapCheckpointsRequest(held=[altered, with_other_key]))
    assert [one.agency for one in _proofs(bench[ES])] == []
    # Signed by the hub itself, the same words are proof.
    bench[ES].witnessing.swap(FR, audit_pb2.SwapCheckpointsRequest(held=[_signed(bench, HUB, 6)]))
    assert [one.agency for one in _proofs(bench[ES])] == [HUB]


def test_a_countersignature_of_what_the_log_never_was_is_refused(bench: Bench) -> None:
    _log(bench[PT])
    body = payload_pb2.Countersignature(
        agency=PT, size=2, root=bytes(32), checkpoint_digest=bytes(32)
    )
    envelope = bench[ES].seal(payload_pb2.Payload(countersignature=body), PT)
    request = audit_pb2.CountersignRequest(
        checkpoint=_signed(bench, ES, 0), countersignature=envelope
    )
    with pytest.raises(SignatureRefused):
        bench[PT].witnessing.countersign(ES, request)
    assert bench[PT].store.read(lambda tx: tx.witness.countersignatures()) == []


def test_another_message_is_no_checkpoint(bench: Bench) -> None:
    _log(bench[PT])
    step = payload_pb2.Payload(upload_step=payload_pb2.UploadStep(state="numbered"))
    other = bench[ES].node.sealer.seal(step, Audience(), bench.now)
    with pytest.raises(MalformedMessage):
        bench[PT].witnessing.countersign(ES, audit_pb2.CountersignRequest(checkpoint=other))


def test_a_question_between_nodes_needs_no_witness(bench: Bench) -> None:
    """Checkpoints add no entry of their own to a log that is in order."""
    bench[PT].load(records(range(2)))
    size = bench[PT].store.read(lambda tx: tx.audit.size())
    bench[ES].witnessing.contact(PT)
    bench[PT].witnessing.contact(ES)
    assert bench[PT].store.read(lambda tx: tx.audit.size()) == size
