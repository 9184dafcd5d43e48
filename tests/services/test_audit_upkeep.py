"""Retention, holds, kept lists, receipts, and exports of the audit log held against peers."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tieline.v1 import envelope_pb2
from tieline_client import limits
from tieline_client.audit_evidence import Evidence, witnessed
from tieline_client.audit_log import Verdict, verify_export, verify_leaves, write_export
from tieline_client.checkpoints import open_checkpoint
from tieline_client.errors import (
    InvalidInput,
    MalformedMessage,
    NotFound,
    SignatureRefused,
    StorageUnavailable,
)
from tieline_client.receipts import Receipt, verify
from tieline_server.domain import merkle
from tieline_server.services import asked_lists
from tieline_server.services.auditing import Auditing
from tieline_server.services.consulting import Consultations
from tieline_server.services.log_retention import LogRetention

from tests.services.bench import ANA, CASE, ES, FR, PT, Bench, Running, record, records
from tests.services.rewriting import edited, rewrite

YEARS = timedelta(days=1_096)


def _export(running: Running, path: Path, *, evidence: bool = True) -> Path:
    """What `tieline audit export` writes, without the wire."""
    found = Evidence()
    for part in Auditing(running.node, dict).evidence(ANA) if evidence else ():
        if part.HasField("checkpoint"):
            found.checkpoint = part.checkpoint
        elif part.HasField("countersignature"):
            found.countersignatures.append(part.countersignature)
    size, root = running.store.read(lambda tx: (tx.audit.size(), tx.audit.root()))
    kept = running.store.read(lambda tx: tx.audit.records(0, size))
    write_export(
        path,
        ((one.position, one.shown, one.leaf_hash) for one in kept),
        federation="demo",
        agency=running.agency,
        size=size,
        root=root,
        evidence=found.document(),
    )
    return path


def _verified(bench: Bench, path: Path, *more: envelope_pb2.Envelope) -> Verdict:
    header, _ = verify_export(path)
    found = witnessed(Evidence.read(header.evidence), bench.directory, header.agency, more)
    return verify_export(path, found.heads)[1]


def _log(running: Running, count: int) -> None:
    for number in range(count):
        entry = running.node.entry("something", person="ana", case_ref=f"case-{number % 2}")
        running.store.write(lambda tx, one=entry: tx.audit.append(one))  # type: ignore[misc]


# --- an export against what peers countersigned ---------------------------------------------------


def _remove(at: int) -> Any:
    return lambda leaves: [*leaves[:at], *leaves[at + 1 :]]


def _swap(at: int) -> Any:
    return lambda leaves: [*leaves[:at], leaves[at + 1], leaves[at], *leaves[at + 2 :]]


def _cut(at: int) -> Any:
    return lambda leaves: leaves[:at]


@pytest.mark.parametrize("at", [0, 3, 8])
@pytest.mark.parametrize("kind", ["edited", "removed", "reordered", "truncated"])
def test_a_rewritten_log_does_not_verify_against_countersignatures(
    bench: Bench, tmp_path: Path, kind: str, at: int
) -> None:
    """All hashes were made anew and the head signed again: only what peers signed tells."""
    for _ in range(5):  # countersigned at 2, 4, ... entries, on five days
        _log(bench[PT], 2)
        bench[ES].witnessing.contact(PT)
        bench.now += timedelta(days=1)
    honest = _export(bench[PT], tmp_path / "honest.jsonl")
    assert _verified(bench, honest).verified
    by = bench[PT].store.read(lambda tx: tx.witness.countersignatures())
    assert [one.size for one in by] == [2, 4, 6, 8, 10]
    tamper = {
        "edited": edited(at, person="nobody"),
        "removed": _remove(at),
        "reordered": _swap(at),
        "truncated": _cut(at),
    }[kind]
    image = bench.image(PT)
    rewrite(image, tamper)
    bench.set_back(PT, image)
    path = _export(bench[PT], tmp_path / "export.jsonl")
    assert verify_export(path)[1].verified  # self-consistent: the forger did his work
    verdict = _verified(bench, path)
    assert not verdict.verified
    if kind == "truncated":
        assert "tail is missing" in verdict.why or "not those" in verdict.why
    else:
        first = at // 2 * 2
        assert f"entries {first} to {first + 1}" in verdict.why
        assert ES in verdict.why


def test_a_lost_tail_shows_against_a_checkpoint_that_only_the_peer_has(
    bench: Bench, tmp_path: Path
) -> None:
    """The forger also removed the countersignatures; the peer's auditor hands its copy over."""
    _log(bench[PT], 9)
    bench[ES].witnessing.contact(PT)
    held = bench[ES].store.read(lambda tx: tx.witness.head(PT))
    assert held is not None
    image = bench.image(PT)
    rewrite(image, _cut(7))
    bench.set_back(PT, image)
    path = _export(bench[PT], tmp_path / "export.jsonl")
    header, _ = verify_export(path)
    stripped = Evidence.read(header.evidence)
    stripped.countersignatures.clear()
    found = witnessed(
        stripped,
        bench.directory,
        PT,
        [envelope_pb2.Envelope.FromString(held.envelope)],
    )
    verdict = verify_export(path, found.heads)[1]
    assert not verdict.verified
    assert verdict.position == verdict.entries
    assert "tail is missing" in verdict.why


def test_an_entry_changed_in_the_database_alone_is_named(bench: Bench, tmp_path: Path) -> None:
    """Somebody edits the row and knows nothing of hashes."""
    import sqlite3
    from contextlib import closing

    _log(bench[PT], 9)
    image = bench.image(PT)
    with closing(sqlite3.connect(image)) as database, database:
        database.execute(
            "UPDATE audit_leaves SET leaf = CAST(replace(CAST(leaf AS TEXT), 'ana', 'rui') AS BLOB)"
            " WHERE position = 5"
        )
    bench.set_back(PT, image)
    verdict = verify_export(_export(bench[PT], tmp_path / "export.jsonl"))[1]
    assert (verdict.verified, verdict.position) == (False, 5)


def test_evidence_that_does_not_hold_is_not_passed_over(bench: Bench, tmp_path: Path) -> None:
    _log(bench[PT], 3)
    bench[ES].witnessing.contact(PT)
    header, _ = verify_export(_export(bench[PT], tmp_path / "export.jsonl"))
    found = Evidence.read(header.evidence)
    with pytest.raises(SignatureRefused):
        witnessed(found, bench.directory, FR)
    found.countersignatures[0].payload += b" "
    with pytest.raises((SignatureRefused, MalformedMessage)):
        witnessed(found, bench.directory, PT)
    with pytest.raises(InvalidInput):
        Evidence.read({"checkpoint": "%%%"})
    with pytest.raises(InvalidInput):
        Evidence.read({"countersignatures": 5})


def test_proofs_for_the_auditor_verify(bench: Bench) -> None:
    _log(bench[PT], 11)
    auditing = Auditing(bench[PT].node, dict)
    for position in range(11):
        found = auditing.inclusion(ANA, position, 0)
        assert merkle.verify_inclusion(
            found.leaf_hash, position, found.size, list(found.proof), found.root
        )
    proof = auditing.consistency(ANA, 4, 0)
    assert merkle.verify_consistency(
        4, proof.second, list(proof.proof), proof.first_root, proof.second_root
    )
    for call in (
        lambda: auditing.inclusion(ANA, 999, 0),
        lambda: auditing.inclusion(ANA, 3, 3),
        lambda: auditing.consistency(ANA, 0, 3),
        lambda: auditing.consistency(ANA, 5, 999),
    ):
        with pytest.raises(InvalidInput):
            call()


# --- retention ------------------------------------------------------------------------------------


def test_what_is_past_its_time_is_erased_and_the_log_still_verifies(
    bench: Bench, tmp_path: Path
) -> None:
    _log(bench[PT], 6)
    bench[ES].witnessing.contact(PT)
    before = [one.leaf for one in bench[PT].store.read(lambda tx: tx.audit.records(0, 6))]
    bench.now += YEARS
    _log(bench[PT], 2)
    retention = LogRetention(bench[PT].node)
    assert retention.erase() == 0  # not before its time is over
    bench.now += timedelta(seconds=1)
    assert retention.erase() == 6
    assert retention.erase() == 0
    (entry,) = [one for one in _entries(bench[PT]) if one["action"] == "audit.erased"]
    detail = cast(dict[str, Any], entry["detail"])
    assert (detail["ranges"], detail["entries"], detail["held"]) == ([[0, 5]], 6, 0)
    path = _export(bench[PT], tmp_path / "export.jsonl")
    verdict = _verified(bench, path)
    assert (verdict.verified, verdict.erased) == (True, 6)
    # What was erased is nowhere in the database any more.
    bench[PT].store.close()
    held = bench[PT].path.read_bytes()
    for leaf in before:
        assert leaf not in held
        assert json.loads(leaf)["salt"].encode() not in held


def test_a_gap_that_no_entry_explains_is_damage(bench: Bench, tmp_path: Path) -> None:
    _log(bench[PT], 6)
    bench[PT].store.write(lambda tx: tx.audit.erase(2, 3))
    verdict = verify_export(_export(bench[PT], tmp_path / "export.jsonl"))[1]
    assert (verdict.verified, verdict.position, verdict.erased) == (False, 2, 2)
    assert "no later entry says" in verdict.why


def test_an_erasure_explains_nothing_after_itself(bench: Bench) -> None:
    leaves = [
        b'{"erased":"%b"}' % (b"ab" * 32),
        _erasure([[0, 0], [2, 2]]),
        b'{"erased":"%b"}' % (b"cd" * 32),
    ]
    root, size = _root(leaves), len(leaves)
    verdict = verify_leaves(enumerate(leaves), size, root)
    assert (verdict.verified, verdict.position) == (False, 2)
    assert verify_leaves(enumerate(leaves[:2]), 2, _root(leaves[:2])).verified


def _erasure(ranges: object) -> bytes:
    return json.dumps(
        {"action": "audit.erased", "detail": {"ranges": ranges}},
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def _root(leaves: list[bytes]) -> bytes:
    return verify_leaves(enumerate(leaves), len(leaves), b"").root


def test_a_hold_keeps_what_a_control_needs_until_it_is_released(bench: Bench) -> None:
    _log(bench[PT], 6)
    retention = LogRetention(bench[PT].node)
    with pytest.raises(InvalidInput):
        retention.hold(ANA, "  ", "", "", "")
    hold = retention.hold(ANA, "DPA 7/26", "case-1", "", "")
    bench.now += YEARS + timedelta(hours=1)
    # The three of the other case, and the entry that the hold itself made.
    assert retention.erase() == 3
    kept = [one["case"] for one in _entries(bench[PT]) if one["action"] == "something"]
    assert kept == ["case-1"] * 3
    assert retention.erase() == 0
    retention.release(ANA, hold.id)
    with pytest.raises(NotFound):
        retention.release(ANA, hold.id)
    assert retention.holds() == []
    assert retention.erase() == 4
    actions = [one["action"] for one in _entries(bench[PT])]
    assert actions.count("audit.erased") == 2
    assert "audit.released" in actions


def _entries(running: Running) -> list[dict[str, Any]]:
    running.store.drain()
    found = running.store.read(lambda tx: tx.audit.records(0, 10_000))
    return [json.loads(one.leaf) for one in found if one.leaf]


def test_a_held_question_keeps_its_list_and_its_receipt(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    for node in (es, pt):
        _log(node, 2)  # something else is erased beside it
    es.ask(records(range(900), kinds="sha1 md5"), PT)
    (question,) = cast(list[str], es.audit("query.asked")[0]["subjects"])
    answered = cast(list[str], pt.audit("query.answered")[0]["subjects"])[0]
    holds = {node: LogRetention(node.node).hold(ANA, "DPA 7/26", CASE, "", "") for node in (es, pt)}

    def kept() -> tuple[bool, bool]:
        there = pt.store.read(lambda tx: tx.queries.by_request(answered)) is not None
        assert es.node.scratch is not None
        return (es.node.scratch / "asked" / f"{question}.list").is_file(), there

    assert kept() == (True, True)
    bench.now += YEARS + timedelta(days=20_000)  # the file's own time is that of this machine
    for node in (es, pt):
        assert LogRetention(node.node).erase() > 0
    assert kept() == (True, True)
    assert any(True for _ in Auditing(es.node, dict).asked_list(ANA, question))
    for node, hold in holds.items():
        LogRetention(node.node).release(ANA, hold.id)
        LogRetention(node.node).erase()
    assert kept() == (False, False)


# --- the asker's own lists ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 900])
def test_an_asked_list_is_kept_encrypted_and_opens_for_the_auditor(
    bench: Bench, count: int
) -> None:
    bench[PT].load(records(range(2)))
    asked = records(range(count), kinds="sha1 md5")
    bench[ES].ask(asked, PT)
    (entry,) = bench[ES].audit("query.asked")
    (question,) = cast(list[str], entry["subjects"])
    home = bench[ES].node.scratch
    assert home is not None
    in_file = (home / "asked" / f"{question}.list").is_file()
    assert in_file == (count == 900)
    got = {
        batch.digests[at : at + batch.kind.width].tobytes()
        for batch in Auditing(bench[ES].node, dict).asked_list(ANA, question)
        for at in range(0, len(batch.digests), batch.kind.width)
    }
    assert got == {digest for one in asked for digest in (one.sha1, one.md5)}
    assert [one["subjects"] for one in bench[ES].audit("audit.list_read")] == [[question]]
    bench[ES].store.close()
    stored = bench[ES].path.read_bytes() + b"".join(
        path.read_bytes() for path in (home / "asked").glob("*")
    )
    for one in asked[2:]:
        for digest in filter(None, (one.sha1, one.md5)):
            assert digest not in stored
            assert digest.hex().encode() not in stored


def test_a_kept_list_goes_with_its_entry(bench: Bench) -> None:
    bench[PT].load(records(range(2)))
    bench[ES].ask(records(range(900)), PT)
    (entry,) = bench[ES].audit("query.asked")
    (question,) = cast(list[str], entry["subjects"])
    bench.now += YEARS + timedelta(days=20_000)  # the file's own time is that of this machine
    LogRetention(bench[ES].node).erase()
    with pytest.raises(NotFound):
        list(asked_lists.read(bench[ES].node, question))


def test_a_kept_list_that_was_altered_does_not_open(bench: Bench) -> None:
    bench[PT].load(records(range(2)))
    bench[ES].ask(records(range(900)), PT)
    (entry,) = bench[ES].audit("query.asked")
    (question,) = cast(list[str], entry["subjects"])
    home = bench[ES].node.scratch
    assert home is not None
    path = home / "asked" / f"{question}.list"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StorageUnavailable, match="altered"):
        list(asked_lists.read(bench[ES].node, question))
    with pytest.raises(InvalidInput):
        list(asked_lists.read(bench[ES].node, "../../etc/passwd"))


def test_a_kept_list_of_which_a_piece_is_missing_is_told_at_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST_IN_ENTRY_BYTES", 10)
    bench[PT].load(records(range(2)))
    bench[ES].ask(records(range(900)), PT)  # of several kinds, a piece each
    (entry,) = bench[ES].audit("query.asked")
    (question,) = cast(list[str], entry["subjects"])
    home = bench[ES].node.scratch
    assert home is not None
    path = home / "asked" / f"{question}.list"
    data = path.read_bytes()
    first = 5 + int.from_bytes(data[1:5], "big")
    assert first < len(data)
    assert len(list(asked_lists.read(bench[ES].node, question))) > 1
    path.write_bytes(data[:first])
    reading = asked_lists.read(bench[ES].node, question)
    assert len(next(reading)) == 900
    with pytest.raises(StorageUnavailable, match="missing"):
        next(reading)


# --- receipts -------------------------------------------------------------------------------------


def _receipt(bench: Bench, agency: str = ES) -> Receipt:
    bench[PT].load(records(range(3)))
    bench[ES].ask(records(range(5)), PT)
    number = (
        cast(list[str], bench[ES].audit("query.result")[0]["subjects"])[0]
        if agency == ES
        else cast(list[str], bench[PT].audit("query.answered")[0]["subjects"])[0]
    )
    found = Auditing(bench[agency].node, dict).receipt(ANA, number)
    return Receipt(found.question, found.receipt, {})


@pytest.mark.parametrize("agency", [ES, PT])
def test_a_receipt_out_of_either_log_verifies(bench: Bench, tmp_path: Path, agency: str) -> None:
    saved = _receipt(bench, agency)
    saved.save(tmp_path / "receipt.json")
    read = Receipt.read(tmp_path / "receipt.json")
    assert read is not None
    document = verify(read, bench.directory).document()
    told = (document["asker"], document["answerer"], document["case"], document["person"])
    assert told == (ES, PT, CASE, "ana")
    assert (document["records"], document["hits"]) == (5, 9)
    assert document["generation"] == bench[PT].store.index.reflected()
    assert verify(read, None).document() == document


def test_a_receipt_for_another_question_is_refused(bench: Bench) -> None:
    saved = _receipt(bench)
    bench[ES].ask([record(9)], PT)
    numbers = cast(list[str], bench[ES].audit("query.result")[1]["subjects"])
    other = Auditing(bench[ES].node, dict).receipt(ANA, numbers[0])
    for directory in (bench.directory, None):
        with pytest.raises(SignatureRefused):
            verify(Receipt(other.question, saved.receipt, {}), directory)
    altered = Receipt(saved.question, saved.receipt, {})
    altered.receipt.payload = altered.receipt.payload.replace(b"hit", b"hat")
    with pytest.raises(SignatureRefused):
        verify(altered, bench.directory)
    with pytest.raises(NotFound):
        Auditing(bench[ES].node, dict).receipt(ANA, "01a2223a-9ed6-75bd-95c3-cb9462b4b497")


# --- reading is logged ----------------------------------------------------------------------------


def test_what_people_read_is_logged_once_in_five_minutes(bench: Bench) -> None:
    reads = Consultations(bench[PT].node)
    for _ in range(4):
        reads.note(ANA, "series.read", ("pt-pj/1",))
    reads.note(ANA, "series.read", ("pt-pj/2",))
    assert len(bench[PT].audit("series.read")) == 2
    bench.now += timedelta(minutes=5)
    reads.note(ANA, "series.read", ("pt-pj/1",))
    *_, last = bench[PT].audit("series.read")
    assert (last["person"], last["subjects"]) == ("ana", ["pt-pj/1"])
    assert cast(dict[str, Any], last["detail"])["repeated"] == 3
    reads.note(ANA, "series.listed", [f"pt-pj/{n}" for n in range(900)])
    assert [len(cast(list[str], one["subjects"])) for one in bench[PT].audit("series.listed")] == [
        400,
        400,
        100,
    ]


def test_reading_goes_on_being_logged_after_the_clock_was_set_back(bench: Bench) -> None:
    reads = Consultations(bench[PT].node)
    reads.note(ANA, "series.read", ("pt-pj/1",))
    bench.now -= timedelta(days=1)
    reads.note(ANA, "series.read", ("pt-pj/1",))
    assert len(bench[PT].audit("series.read")) == 2


def test_a_read_that_cannot_be_logged_is_not_shown(bench: Bench) -> None:
    reads = Consultations(bench[PT].node)
    bench[PT].store.close()
    with pytest.raises(StorageUnavailable):
        reads.note(ANA, "series.read", ("pt-pj/1",))


def test_a_checkpoint_is_signed_by_its_agency(bench: Bench) -> None:
    _log(bench[PT], 2)
    said = open_checkpoint(bench[PT].witnessing.checkpoint(), bench.directory, issuer=PT)
    assert (said.agency, said.size) == (PT, 2)
