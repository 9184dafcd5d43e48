"""What an auditor asks of the own node besides the log: a function for each RPC of AuditorService.

Functions raise TielineError: UnknownMethod where the node is of before wire v1.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from tieline.v1 import auditor_pb2 as pb

from tieline_client import limits
from tieline_client.audit_evidence import Evidence
from tieline_client.audit_search import Search
from tieline_client.digest_batch import DigestBatch
from tieline_client.operator_connection import OperatorConnection, make
from tieline_client.payloads import timestamp


def get_evidence(client: OperatorConnection) -> Evidence:
    """Return what an export carries, so that it can be verified elsewhere."""
    found = Evidence()
    texts: dict[str, list[str]] = {}
    call = client.auditor.ListEvidence(pb.ListEvidenceRequest(), timeout=limits.AUDIT_SECONDS)
    for part in client.read(call):
        kind = part.WhichOneof("part")
        if kind == "checkpoint":
            found.checkpoint = part.checkpoint
        elif kind == "countersignature":
            found.countersignatures.append(part.countersignature)
        elif kind == "file":
            texts.setdefault(part.file.name, []).append(part.file.text)
    found.files = {name: "".join(pieces).encode() for name, pieces in texts.items()}
    return found


def list_witnesses(client: OperatorConnection) -> pb.ListWitnessesResponse:
    """Return who watches this log, what is held of theirs, and proofs of equivocation."""
    return client.call(client.auditor.ListWitnesses, pb.ListWitnessesRequest())


def get_inclusion(
    client: OperatorConnection, position: int, size: int = 0
) -> pb.GetInclusionProofResponse:
    """Return the audit path of an entry; ``size`` 0 is the whole log."""
    request = make(pb.GetInclusionProofRequest, position=position, size=size)
    return client.call(client.auditor.GetInclusionProof, request)


def get_consistency(
    client: OperatorConnection, first: int, second: int = 0
) -> pb.GetConsistencyProofResponse:
    """Return the proof that one size extends another; ``second`` 0 is the whole log."""
    request = make(pb.GetConsistencyProofRequest, first=first, second=second)
    return client.call(client.auditor.GetConsistencyProof, request)


def get_receipt(client: OperatorConnection, number: str) -> pb.GetReceiptResponse:
    """Return a question and its receipt by the id of either."""
    return client.call(client.auditor.GetReceipt, make(pb.GetReceiptRequest, id=number))


def list_asked(client: OperatorConnection, question: str) -> Iterator[DigestBatch]:
    """Yield a list that this agency asked."""
    request = make(pb.ListAskedRequest, question=question)
    for part in client.read(client.auditor.ListAsked(request, timeout=limits.AUDIT_SECONDS)):
        yield DigestBatch.from_wire(part.digests)


def search(
    client: OperatorConnection, wanted: Search, start: int, limit: int
) -> pb.SearchEntriesResponse:
    """Return a page of what is looked for: it may be empty and still not the last."""
    request = make(
        pb.SearchEntriesRequest,
        person=wanted.person,
        case_ref=wanted.case_ref,
        action=wanted.action,
        subject=wanted.subject,
        peer=wanted.peer,
        purpose=wanted.purpose,
        siena=wanted.siena,
        since=timestamp(wanted.since) if wanted.since else None,
        until=timestamp(wanted.until) if wanted.until else None,
        start=start,
        limit=min(limit, limits.FOUND_AT_ONCE),
    )
    return client.call(client.auditor.SearchEntries, request, limits.AUDIT_SEARCH_SECONDS)


def hold(
    client: OperatorConnection, reason: str, case_ref: str, person: str, peer: str
) -> pb.HoldView:
    """Keep entries from being erased."""
    request = make(
        pb.HoldEntriesRequest, reason=reason, case_ref=case_ref, person=person, peer=peer
    )
    return client.call(client.auditor.HoldEntries, request).hold


def release(client: OperatorConnection, number: str) -> None:
    """End a hold."""
    client.call(client.auditor.ReleaseHold, make(pb.ReleaseHoldRequest, id=number))


def list_holds(client: OperatorConnection) -> list[pb.HoldView]:
    """Return the holds that stand."""
    return list(client.call(client.auditor.ListHolds, pb.ListHoldsRequest()).holds)
