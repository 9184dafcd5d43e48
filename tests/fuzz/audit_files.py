"""Decoders of what an auditor is handed: exports, their evidence, receipts, checkpoints, lists."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping

from tieline.v1 import envelope_pb2, payload_pb2
from tieline_client import audit_gaps, audit_log
from tieline_client.audit_evidence import Evidence, encoded
from tieline_client.audit_report import write_report
from tieline_client.cli.audit_trust import Trust, check_file
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.payloads import Audience, Sealer
from tieline_client.receipts import Receipt, verify
from tieline_server.services import asked_lists
from tieline_server.trust import tuf_folder

from tests.cli.test_cli_audit import a_log, root_of
from tests.federation.building import FEDERATION, NOW, Agency, trial
from tests.fuzz.decoders import AGENCY, Decoder, digest_list, file_of, scratch

_KEY = bytes(32)
_QUESTION = "01a2223a-9ed6-75bd-95c3-cb9462b4b497"


@functools.cache
def _members() -> tuple[Agency, Agency]:
    return Agency(AGENCY), Agency("es-pn", countries=("ES",))


@functools.cache
def _files() -> Mapping[str, bytes]:
    """The directory's files, as they travel in an export."""
    public = tuf_folder.public_part(trial(scratch() / "auditors", *_members()).folder)
    return {
        path.relative_to(public).as_posix(): path.read_bytes()
        for path in sorted(public.rglob("*.json"))
    }


def _fingerprint() -> str:
    return hashlib.sha256(_files()["root.json"]).hexdigest()


def _seal(agency: Agency, payload: payload_pb2.Payload, audience: str) -> envelope_pb2.Envelope:
    sealer = Sealer(FEDERATION, agency.agency, agency.signing_key)
    return sealer.seal(payload, Audience(agency=audience), NOW)


def _evidence(leaves: list[bytes]) -> Evidence:
    own, peer = _members()
    size, root = len(leaves), root_of(leaves)
    head = payload_pb2.Payload(
        checkpoint=payload_pb2.Checkpoint(size=size, root=root, epoch="e" * 32)
    )
    by = payload_pb2.Payload(
        countersignature=payload_pb2.Countersignature(
            agency=AGENCY, size=size, root=root, checkpoint_digest=bytes(32)
        )
    )
    checkpoint = _seal(own, head, "")
    return Evidence(checkpoint, [_seal(peer, by, AGENCY)], dict(_files()))


def _export(data: bytes) -> object:
    for line in data.splitlines()[:20]:
        audit_gaps.read_entry(line)
    path = file_of(data)
    report = scratch() / "report.html"
    report.unlink(missing_ok=True)
    _, verdict = audit_log.verify_export(path)
    write_report(report, path, verdict, "nobody", since=None, until=None)
    return verdict


def _export_seed() -> bytes:
    return _written(Evidence(), a_log(3))


def _witnessed(data: bytes) -> object:
    """With the root's fingerprint: all that came along is read and verified."""
    return check_file(file_of(data), Trust(_fingerprint(), None, ()))


def _witnessed_seed() -> bytes:
    leaves = a_log(3)
    return _written(_evidence(leaves), leaves)


def _written(evidence: Evidence, leaves: list[bytes]) -> bytes:
    path = scratch() / "export"
    path.unlink(missing_ok=True)
    audit_log.write_export(
        path,
        ((at, leaf, b"") for at, leaf in enumerate(leaves)),
        federation=FEDERATION,
        agency=AGENCY,
        size=len(leaves),
        root=root_of(leaves),
        evidence=evidence.document(),
    )
    return path.read_bytes()


def _pieces(data: bytes) -> object:
    """The evidence alone, where a change hits it more often: the export's header around it."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = data.decode("latin-1")
    leaves = a_log(1)
    header = {
        "agency": AGENCY,
        "federation": FEDERATION,
        "size": 1,
        "root": root_of(leaves).hex(),
        "evidence": document,
    }
    path = file_of(json.dumps(header).encode() + b"\n" + leaves[0] + b"\n")
    return check_file(path, Trust(_fingerprint(), None, ()))


def _pieces_seed() -> bytes:
    return json.dumps(_evidence(a_log(1)).document()).encode()


def _receipt(data: bytes) -> object:
    saved = Receipt.read(file_of(data))
    if saved is None:
        return None
    return verify(saved, None), verify(saved, Trust(_fingerprint(), None, ()).directory(_files()))


def _receipt_seed() -> bytes:
    own, peer = _members()
    query = payload_pb2.QueryHeader(records=1, counts=[1], list_digest=bytes(32))
    asked = payload_pb2.Payload(
        id=_QUESTION, person="ana", purpose="deconfliction", case_ref="C", query=query
    )
    question = _seal(own, asked, peer.agency)
    said = payload_pb2.Receipt(
        request=_QUESTION,
        request_digest=hashlib.sha256(question.payload).digest(),
        answer_digest=bytes(32),
    )
    answer = _seal(peer, payload_pb2.Payload(receipt=said), AGENCY)
    path = scratch() / "receipt.json"
    path.unlink(missing_ok=True)
    Receipt(question, answer, {}).save(path)
    return path.read_bytes()


def _checkpoint_file(data: bytes) -> object:
    trust = Trust(_fingerprint(), None, (file_of(data, "checkpoint"),))
    return trust.of(Evidence(files=dict(_files())), AGENCY)


def _checkpoint_seed() -> bytes:
    checkpoint = _evidence(a_log(3)).checkpoint
    assert checkpoint is not None
    return encoded(checkpoint).encode() + b"\n"


def _kept(data: bytes) -> object:
    return list(asked_lists.opened(_KEY, _QUESTION, data))


def _kept_seed() -> bytes:
    batch = DigestBatch.of(DigestKind.SHA1, digest_list())
    return b"".join(asked_lists.pieces(_KEY, _QUESTION, [batch, batch]))


def decoders() -> Iterator[Decoder]:
    """Yield them."""
    for name, read, seed in (
        ("audit exports", _export, _export_seed),
        ("witnessed exports", _witnessed, _witnessed_seed),
        ("audit evidence", _pieces, _pieces_seed),
        ("receipts", _receipt, _receipt_seed),
        ("checkpoint files", _checkpoint_file, _checkpoint_seed),
        ("kept lists", _kept, _kept_seed),
    ):
        yield Decoder(name, read, lambda seed=seed: [seed()])  # type: ignore[misc]
