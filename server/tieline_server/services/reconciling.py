"""What was deposited in a repository against what it holds now, series by series.

1. Deposits that stand, and came to the repository as messages. Of each series those items are asked
   that are here; policy is asked as for the deposit itself, since asking shows the digests.
2. The items are an ordinary question to the repository (peer_round.py): logged here, answered under
   its rules, with a signed receipt. Each is asked by what it has: its exact digests, or, where it
   has none, its PDQ; there only the same PDQ is the same item.
3. What it does not hold is missing. Beside that the row names what does not agree otherwise: a
   deposit that was not delivered, another number, another count in its latest report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from tieline.v1 import operator_deposits_pb2 as pb
from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import InvalidInput

from tieline_server.domain.ports import ItemRow, Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.request import Use
from tieline_server.domain.series import Series
from tieline_server.domain.upload import Upload, UploadState
from tieline_server.services.comparing import gathered
from tieline_server.services.context import Node, Person
from tieline_server.services.deposit_reports import views
from tieline_server.services.dropping import drop_of
from tieline_server.services.held_under import with_items
from tieline_server.services.peer_round import Announced, PeerRound, Terms, choose_peers
from tieline_server.services.permissions import forward_question, held
from tieline_server.services.views import find_held, upload_view

_DELIVERED = ("", "delivered", "applied")
_WORDS = 400


@dataclass(slots=True)
class _Deposited:
    """A series with its deposits that stand, the latest last."""

    series: Series
    uploads: list[Upload]


class Reconciling:
    """One comparison. Raises InvalidInput when it begins."""

    def __init__(self, node: Node, person: Person, request: pb.ReconcileDepositsRequest) -> None:
        self._node, self._request, self._to = node, request, request.repository
        if str(node.directory().member(self._to).role) != "repository":
            raise InvalidInput(f"{self._to} is no repository; see `tieline peers`")
        why = operator_pb2.CompareCollectionRequest(
            purpose=request.purpose, case_ref=request.case_ref, peers=[self._to]
        )
        self._terms = Terms.of(node, person, why)
        self._chosen = choose_peers(node, request.purpose, [self._to], everyone=False)

    def run(self) -> Iterator[pb.ReconcileDepositsResponse]:
        """Yield a row for each series."""
        for one in self._node.store.read(self._deposits):
            yield pb.ReconcileDepositsResponse(row=self._row(one))

    # 1
    def _deposits(self, tx: Tx) -> list[_Deposited]:
        found: dict[str, _Deposited] = {}
        for upload in tx.uploads.find(Direction.OUT):
            stands = upload.state is not UploadState.WITHDRAWN
            if upload.repository != self._to or not stands or drop_of(tx, upload):
                continue
            if tx.series.get(upload.series) is not None:
                series = with_items(tx, find_held(tx, upload.series))
                found.setdefault(series.id, _Deposited(series, [])).uploads.append(upload)
        return [found[series] for series in sorted(found)]

    def _row(self, one: _Deposited) -> pb.DepositRow:
        last = one.uploads[-1]
        said = {
            view.repository: view
            for view in self._node.store.read(lambda tx: views(self._node, tx, one.series))
        }
        row = pb.DepositRow(
            series=one.series.id,
            name=one.series.name,
            upload=last.id,
            state=last.state.value,
            number=last.reference if last.state is UploadState.NUMBERED else "",
            said=said.get(self._to),
        )
        self._compare(one, row)
        if not self._refused(one.series, row):
            self._ask(one.series, row)
        if row.HasField("said") and row.receipt and row.said.report.items != row.held:
            count = row.said.report.items
            row.differences.append(f"its latest report said {count} items, it holds {row.held}")
        return row

    def _refused(self, series: Series, row: pb.DepositRow) -> bool:
        """Whether its items may no longer be shown to the repository."""
        node, purpose = self._node, self._request.purpose
        question = forward_question(node, Use.UPLOAD, node.agency, self._to, series, purpose)
        permitted = node.store.read(
            lambda tx: held(node, tx, series.id, Use.UPLOAD, (self._to,), purpose)
        )
        decision = node.policy.decide(replace(question, permission=permitted is not None))
        refused = [one.reason for one in self._chosen.refused]
        if decision.allowed and not refused:
            return False
        why = decision.why if not decision.allowed else refused[0]
        row.differences.append(f"not asked: {why}"[:_WORDS])
        return True

    # 2
    def _ask(self, series: Series, row: pb.DepositRow) -> None:
        after = 0
        while page := self._page(series, after):
            after = page[-1].id
            row.deposited += len(page)
            exact = [item for item in page if _is_exact(item)]
            bare = [item for item in page if not _is_exact(item)]
            for items, kinds in ((exact, EXACT_KINDS), (bare, (DigestKind.PDQ,))):
                if items and not self._answered(items, _list_of(items, kinds), row):
                    return

    def _page(self, series: Series, after: int) -> list[ItemRow]:
        size = limits.COLLECTION_PART_ITEMS
        read = self._node.store.read
        return list(read(lambda tx: tx.items.of_series(series.id, after=after, limit=size)))

    def _answered(self, page: list[ItemRow], asked: AskedList, row: pb.DepositRow) -> bool:
        announced = Announced(len(asked), 0, tuple(asked.counts()), asked.digest)
        terms = replace(self._terms, near=DigestKind.PDQ in asked.columns)
        work = PeerRound(self._node, terms, self._chosen, announced)
        try:
            work.begin(asked.batches)
            while work.pending:
                for result in work.ended():
                    answer = gathered(asked, result)
                    result.kept.close()
                    if answer.status not in ("answered", "pending"):
                        why = f"{self._to} {answer.status}: {answer.reason}"
                        row.differences.append(why[:_WORDS])
                        return False
                    row.receipt = answer.receipt or row.receipt
                    same = answer.matches.records[answer.matches.distances == 0]
                    self._count(page, {int(n) for n in same}, row)
        finally:
            work.close()
        return True

    # 3
    @staticmethod
    def _count(page: list[ItemRow], matched: set[int], row: pb.DepositRow) -> None:
        for place, item in enumerate(page):
            if place in matched:
                row.held += 1
                continue
            row.missing_count += 1
            if len(row.missing) < limits.DIFFERENCES_LISTED:
                row.missing.append(_name(item))

    def _view(self, upload: Upload) -> operator_pb2.UploadView:
        return self._node.store.read(lambda tx: upload_view(tx, upload))

    def _compare(self, one: _Deposited, row: pb.DepositRow) -> None:
        for upload in one.uploads:
            view = self._view(upload)
            if view.delivery not in _DELIVERED:
                why = f": {view.reason}" if view.reason else ""
                row.differences.append(f"deposit {upload.id} is {view.delivery}{why}"[:_WORDS])
        there = row.said.report.number
        if row.HasField("said") and row.number and there != row.number:
            row.differences.append(f"numbered {row.number} by its step, {there} in its report")


def _is_exact(item: ItemRow) -> bool:
    return any(getattr(item, kind.label) for kind in EXACT_KINDS)


def _list_of(page: list[ItemRow], kinds: Iterable[DigestKind]) -> AskedList:
    ids = np.array([item.id for item in page], dtype=np.int64)
    digests = {}
    for kind in kinds:
        found = [(item.id, value) for item in page if (value := getattr(item, kind.label))]
        if found:
            rows = np.frombuffer(b"".join(value for _, value in found), dtype=np.uint8)
            places = np.array([item for item, _ in found], dtype=np.int64)
            digests[kind] = (places, rows.reshape(-1, kind.width))
    return AskedList.of_items(ids, digests)


def _name(item: ItemRow) -> str:
    for kind in (DigestKind.SHA256, DigestKind.SHA1, DigestKind.MD5, DigestKind.PDQ):
        value = getattr(item, kind.label)
        if value:
            return f"{kind.label}:{value.hex()}"
    return f"item {item.id}"
