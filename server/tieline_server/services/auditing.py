"""What an agency's auditor asks of the node besides the log itself. Every call is logged."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tieline.v1 import auditor_pb2 as pb
from tieline.v1 import envelope_pb2
from tieline_client import limits
from tieline_client.audit_search import Search
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory import suggest
from tieline_client.directory_files import wanted
from tieline_client.errors import InvalidInput, NotFound, TielineError, UnknownAgency
from tieline_client.identifiers import check_id
from tieline_client.payloads import timestamp

from tieline_server.domain.audit import AuditRecord
from tieline_server.domain.audit_actions import ACTIONS, KINDS
from tieline_server.domain.ports import Tx
from tieline_server.services import asked_lists
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person
from tieline_server.services.list_secrets import salt_shown
from tieline_server.services.witnessing import Witnessing

_PIECE_CHARS = 2_000
Files = Callable[[], Mapping[str, bytes]]


class Auditing:
    """The work of AuditorService. ``files`` are those of the node's copy of the directory."""

    def __init__(self, node: Node, files: Files) -> None:
        self._node, self._files = node, files
        self._witnessing = Witnessing(node)
        self._reads = Consultations(node)

    def evidence(self, person: Person) -> Iterator[pb.ListEvidenceResponse]:
        """Yield what an export carries, so that it can be verified elsewhere."""
        self._note("audit.evidence", person)
        yield pb.ListEvidenceResponse(checkpoint=self._witnessing.checkpoint())
        for by in self._node.store.read(lambda tx: list(tx.witness.countersignatures())):
            envelope = envelope_pb2.Envelope.FromString(by.envelope)
            yield pb.ListEvidenceResponse(countersignature=envelope)
        for name, data in sorted(self._files().items()):
            if not wanted(name):
                continue
            text = data.decode()
            for start in range(0, len(text), _PIECE_CHARS):
                piece = pb.DirectoryPiece(name=name, text=text[start : start + _PIECE_CHARS])
                yield pb.ListEvidenceResponse(file=piece)

    def witnesses(self, person: Person) -> pb.ListWitnessesResponse:
        """Return who watches, what is held of theirs, and proofs."""
        self._reads.note(person, "audit.witnesses")

        def work(tx: Tx) -> pb.ListWitnessesResponse:
            response = pb.ListWitnessesResponse()
            newest = {one.witness: one for one in tx.witness.countersignatures()}
            heads = {one.agency: one for one in tx.witness.heads(self._node.agency, 1_000)}
            for agency in sorted({*newest, *heads}):
                view = response.witnesses.add(agency=agency)
                if head := heads.get(agency):
                    view.size = head.size
                    view.issue_time.CopyFrom(timestamp(head.issued))
                    view.checkpoint.ParseFromString(head.envelope)
                if by := newest.get(agency):
                    view.countersigned = by.size
                    view.countersign_time.CopyFrom(timestamp(by.issued))
            for proof in tx.witness.equivocations():
                made = response.equivocations.add(
                    id=proof.id,
                    agency=proof.agency,
                    kind=proof.kind.value,
                    source=proof.source,
                    find_time=timestamp(proof.found),
                    why=proof.why[:500],
                )
                made.first.ParseFromString(proof.first)
                made.second.ParseFromString(proof.second)
            return response

        return self._node.store.read(work)

    def search(
        self, person: Person, wanted: Search, start: int, limit: int
    ) -> pb.SearchEntriesResponse:
        """Return a page of what is looked for; who looked for what is logged before.

        Raises UnknownAgency and InvalidInput for an agency or a purpose that is neither in the
        directory nor in any entry: who left the federation stays there to be found. The same of an
        action that no node logs.
        """
        self._note("audit.searched", person, start=start, wanted=wanted.document())
        directory = self._node.directory()
        if start == 0 and wanted.peer and wanted.peer not in directory.by_agency:
            self._check_stands(Search(peer=wanted.peer), UnknownAgency, directory.by_agency)
        if start == 0 and wanted.purpose and wanted.purpose not in directory.purposes:
            self._check_stands(Search(purpose=wanted.purpose), InvalidInput, directory.purposes)
        if start == 0 and wanted.action and wanted.action not in ACTIONS | KINDS:
            known = ACTIONS if "." in wanted.action else KINDS
            self._check_stands(Search(action=wanted.action), InvalidInput, known)
        return self._page(wanted, start, limit)

    def _check_stands(
        self, wanted: Search, error: type[TielineError], known: Iterable[str]
    ) -> None:
        """Raise an error unless some entry has the one word that is looked for."""
        at, more = 0, True
        while more:
            page = self._page(wanted, at, limits.FOUND_AT_ONCE)
            if page.entries:
                return
            at, more = page.next, page.more
        ((name, word),) = wanted.document().items()
        what = {"peer": "agency"}.get(name, name)
        why = "is none that a node logs" if name == "action" else "is not in the directory"
        raise error(
            f"{what} {word[:64]!r} {why} and stands in no entry of this log; "
            + suggest(word, known)
        )

    def _page(self, wanted: Search, start: int, limit: int) -> pb.SearchEntriesResponse:
        most = min(limit or limits.FOUND_AT_ONCE, limits.FOUND_AT_ONCE)

        def work(tx: Tx) -> tuple[int, int, list[AuditRecord]]:
            size = tx.audit.size()
            end = min(size, start + limits.SEARCHED_AT_ONCE)
            return size, end, tx.audit.search(wanted, start, end, most)

        size, end, records = self._node.store.read(work)
        response = pb.SearchEntriesResponse(next=end, more=end < size)
        total = 0
        for record in records:
            total += len(record.leaf)
            if response.entries and total > limits.FOUND_BYTES:
                response.next, response.more = record.position, True
                return response
            if wanted.matches(json.loads(record.leaf)):
                response.entries.add(position=record.position, leaf=record.leaf)
        if len(records) == most:
            response.next = records[-1].position + 1
            response.more = response.next < size
        return response

    def inclusion(self, person: Person, position: int, size: int) -> pb.GetInclusionProofResponse:
        """Prove that an entry is in the log. Raises InvalidInput."""
        self._reads.note(person, "audit.proof", (str(position),))

        def work(tx: Tx) -> pb.GetInclusionProofResponse:
            whole = tx.audit.size()
            among = size or whole
            if not position < among <= whole:
                raise InvalidInput(f"there is no entry {position} in {among} of {whole} entries")
            (record,) = tx.audit.records(position, 1)
            return pb.GetInclusionProofResponse(
                leaf_hash=record.leaf_hash,
                proof=tx.audit.inclusion(position, among),
                size=among,
                root=tx.audit.root_at(among),
            )

        return self._node.store.read(work)

    def consistency(
        self, person: Person, first: int, second: int
    ) -> pb.GetConsistencyProofResponse:
        """Prove that one size extends another. Raises InvalidInput."""
        self._reads.note(person, "audit.proof", (str(first), str(second)))

        def work(tx: Tx) -> pb.GetConsistencyProofResponse:
            whole = tx.audit.size()
            later = second or whole
            if not 0 < first <= later <= whole:
                raise InvalidInput(f"the log has {whole} entries; name two sizes from 1 up to that")
            return pb.GetConsistencyProofResponse(
                proof=tx.audit.consistency(first, later),
                first_root=tx.audit.root_at(first),
                second_root=tx.audit.root_at(later),
                second=later,
            )

        return self._node.store.read(work)

    def receipt(self, person: Person, number: str) -> pb.GetReceiptResponse:
        """Return question and receipt as they were signed. Raises NotFound."""
        check_id(number, "receipt or question")
        self._reads.note(person, "audit.receipt", (number,))
        store = self._node.store
        answered = store.read(lambda tx: tx.queries.by_request(number))
        if answered is not None:
            if not answered.header:
                raise NotFound(
                    f"question and receipt of {number} are not kept: {answered.peer} asked by a"
                    " wire of before v1.5, whose header could be guessed; it has both"
                )
            return pb.GetReceiptResponse(
                question=envelope_pb2.Envelope.FromString(answered.header),
                receipt=envelope_pb2.Envelope.FromString(answered.receipt),
            )
        for record in store.read(lambda tx: tx.audit.mentioning(number, 100)):
            entry = json.loads(record.leaf)
            detail = entry["detail"]
            if entry["action"] == "query.result" and number in entry["subjects"]:
                if not detail.get("receipt"):
                    continue
                question = _envelope(detail.get("question", ""))
                return pb.GetReceiptResponse(
                    question=question,
                    receipt=_envelope(detail["receipt"]),
                    list_salt=salt_shown(self._node, question),
                )
        raise NotFound(f"no receipt {number} is in this node's log; copy the id from an answer")

    def asked_list(self, person: Person, question: str) -> Iterator[DigestBatch]:
        """Yield a list that this agency asked, once that it is read is logged."""
        batches = list(asked_lists.read(self._node, question))
        self._note("audit.list_read", person, question)
        yield from batches

    def note_read(self, person: Person, action: str) -> None:
        """Log that a person reads what is shown by another service."""
        self._reads.note(person, action)

    def _note(self, action: str, person: Person, *subjects: str, **detail: Any) -> None:
        entry = self._node.entry(action, person=person.name, subjects=subjects, **detail)
        self._node.store.write(lambda tx: tx.audit.append(entry))


def _envelope(text: str) -> envelope_pb2.Envelope:
    return envelope_pb2.Envelope.FromString(base64.b64decode(text))
