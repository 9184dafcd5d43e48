"""One peer's part of a question: the signed header and the list out, the answer in and checked.

1. A series is named once, and before the hits that name it.
2. Hits fit the list that was asked (hit_columns.py).
3. The receipt is the peer's, for this request, this header and this answer.
4. What does not hold makes the peer refused, and none of its hits is shown. Where what it holds
   changed while it answered (answer_records.py) it is asked once more, under the same header, which
   is charged once; where it changed again it has not been reached, since it refused nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tieline.v1 import envelope_pb2, exchange_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.errors import (
    BudgetExceeded,
    DirectoryExpired,
    LimitExceeded,
    MalformedMessage,
    RefusedError,
    SignatureRefused,
    StorageUnavailable,
    TielineError,
    UnknownMethod,
    Unreachable,
    WrongState,
)
from tieline_client.hit_columns import check_hits, names_known
from tieline_client.identifiers import check_id
from tieline_client.list_salt import SALTED_LISTS, committed
from tieline_client.payloads import Audience, open_payload

from tieline_server.services.context import Node
from tieline_server.services.list_secrets import salt_of
from tieline_server.services.spool import Kept, NoRoom
from tieline_server.services.standing import Standings

Lists = Callable[[], Iterable[DigestBatch]]
"""Makes the asked list anew, as it travels."""


@dataclass(slots=True)
class PeerResult:
    """How one peer ended. ``overlaps`` counts the asked digests that hit."""

    end: operator_pb2.PeerEnd
    kept: Kept
    overlaps: int = 0
    receipt: bytes = b""
    question: bytes = b""
    """The signed header that the receipt is for."""
    request: str = ""
    """The question's id, once it was answered."""
    named: tuple[str, ...] = ()
    """Series that the answer names, at most so many as a notice tells of."""

    def messages(self) -> Iterator[operator_pb2.AskOverlapResponse]:
        """Yield what the peer answered, then its end."""
        agency = self.end.agency
        series = operator_pb2.PeerSeries(agency=agency)
        size = 0
        for data in self.kept:
            response = exchange_pb2.OverlapResponse.FromString(data)
            entries = _entries(response)
            if series.series and (
                not entries
                or size + len(data) > limits.RECORD_BATCH_BYTES
                or len(series.series) + len(entries) > limits.SERIES_PER_BATCH
            ):
                yield operator_pb2.AskOverlapResponse(series=series)
                series, size = operator_pb2.PeerSeries(agency=agency), 0
            if entries:
                series.series.extend(entries)
                size += len(data)
            else:
                told = operator_pb2.AskOverlapResponse()
                told.hits.agency = agency
                told.hits.hits.CopyFrom(response.hits)  # once: a constructor copies at each level
                yield told
        if series.series:
            yield operator_pb2.AskOverlapResponse(series=series)
        yield operator_pb2.AskOverlapResponse(end=self.end)


@dataclass(slots=True)
class _Seen:
    """What an answer has said so far."""

    series: set[int] = field(default_factory=set)
    named: list[str] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)
    hits: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


class PeerQuestion:
    """Asks one peer. ``payload`` is the query as it is signed, ``counts`` its digests by kind."""

    def __init__(
        self,
        node: Node,
        agency: str,
        payload: payload_pb2.Payload,
        counts: Sequence[int],
        deadline: float,
    ) -> None:
        self._node, self._agency = node, agency
        self._payload, self._counts, self._deadline = payload, counts, deadline
        self._list_digest = payload.query.list_digest
        self._salt = salt_of(node, payload.id)
        self._seen = _Seen()
        self._envelope: envelope_pb2.Envelope | Exception | None = None
        self._sent: Iterator[exchange_pb2.OverlapResponse] | None = None

    def seal(self, *, salted: bool = True) -> None:
        """Sign the header; what is wrong with that, `ask` tells. Peers of before v1.5 know no
        ``salted`` list."""
        node, query = self._node, self._payload.query
        query.salted = salted
        digest = self._list_digest
        query.list_digest = committed(self._salt, digest) if salted else digest
        try:
            Standings(node).check_peer(self._agency)
            self._envelope = node.sealer.seal(
                self._payload, Audience(agency=self._agency), node.clock(), limits.QUERY_LIFE
            )
        except StorageUnavailable as error:
            self._envelope = Unreachable(f"{self._agency} was not asked: {error.message}")
        except Exception as error:  # noqa: BLE001 - one peer's failure is that peer's answer
            self._envelope = error

    def send(self, lists: Lists) -> bool:
        """Send the signed header and few digests to a peer that is at hand; `ask` then reads the
        answer. Whether it is under way; where not, `ask` does all of it."""
        envelope = self._envelope
        if isinstance(envelope, Exception) or envelope is None or not self._brief:
            return False
        # What goes wrong here goes wrong in `ask` again, which says so.
        with contextlib.suppress(Exception):
            self._sent = self._node.peers.overlap_at_hand(
                self._agency, envelope, lists(), self._deadline, self._salt
            )
        return self._sent is not None

    @property
    def _brief(self) -> bool:
        return sum(self._counts) <= limits.DIGESTS_BRIEF

    def ask(self, lists: Lists) -> PeerResult:
        """Ask, once the header is signed, and return how it ended; nothing is raised."""
        end = operator_pb2.PeerEnd(agency=self._agency)
        result = PeerResult(end, Kept(self._node.scratch))
        try:
            try:
                self._exchange(result, lists)
            except WrongState:
                result.overlaps = 0
                result.kept.clear()
                self._seen, self._sent = _Seen(), None
                self._exchange(result, lists)
        except (Unreachable, DirectoryExpired) as error:
            end.status, end.reason = "unreachable", error.message
        except NoRoom as error:
            why = f"this node cannot write what {self._agency} answers: {error.message}"
            end.status, end.reason = "unreachable", why
        except (RefusedError, LimitExceeded) as error:
            end.status, end.reason = "refused", error.message
            if isinstance(error, BudgetExceeded):
                self._node.budgets_heard.refused(self._agency, error, self._node.clock())
        except TielineError as error:
            about = "" if error.message.startswith(self._agency) else f"{self._agency}: "
            end.status = "unreachable" if isinstance(error, WrongState) else "refused"
            end.reason = f"{about}{error.message}"
        except Exception as error:  # noqa: BLE001 - one peer's failure is that peer's answer
            end.CopyFrom(self.failed(error).end)
        if end.status in ("unreachable", "refused"):
            result.overlaps = 0
            result.kept.clear()
        end.reason = end.reason[: limits.FREE_TEXT_CHARS]
        return result

    def failed(self, error: BaseException) -> PeerResult:
        """Return the end of a question that failed in a way that nobody foresaw."""
        reason = f"asking {self._agency} failed: {type(error).__name__}"
        end = operator_pb2.PeerEnd(agency=self._agency, status="unreachable", reason=reason)
        return PeerResult(end, Kept(self._node.scratch))

    def _exchange(self, result: PeerResult, lists: Lists) -> None:
        seen = self._seen
        if (
            self._sent is None
            and not isinstance(self._envelope, Exception)
            and not self._takes_salt()
        ):
            self.seal(salted=False)
        envelope = self._envelope
        if isinstance(envelope, Exception):
            raise envelope
        assert envelope is not None
        end: exchange_pb2.OverlapEnd | None = None
        for response in self._responses(envelope, lists):
            part = response.WhichOneof("part")
            if part == "end":
                end = response.end
                break
            data = response.SerializeToString(deterministic=True)
            seen.digest.update(data)
            if part == "hits":
                result.overlaps += self._take_hits(response.hits)
            elif part is None:  # of a newer minor version of the wire
                continue
            else:
                self._take_series(_entries(response))
            result.kept.add(data)
        if end is None:
            raise MalformedMessage(f"{self._agency} ended its answer without a receipt")
        result.kept.finish()
        receipt = self._check_receipt(end, hashlib.sha256(envelope.payload).digest())
        told = result.end
        result.receipt = end.receipt.SerializeToString()
        result.question = envelope.SerializeToString()
        result.request, result.named = self._payload.id, tuple(seen.named)
        told.receipt, told.disclosure, told.truncated = receipt.id, end.disclosure, end.truncated
        if end.HasField("count"):
            told.count = end.count
        told.status = "pending" if end.pending and not result.overlaps else "answered"
        if end.pending:
            told.reason = f"more waits for a person at {self._agency}"
            if end.request:
                told.request = check_id(end.request, "request")
        if end.HasField("budget"):
            told.budget.CopyFrom(end.budget)
            self._node.budgets_heard.told(self._agency, end.budget, self._node.clock())

    def _takes_salt(self) -> bool:
        return SALTED_LISTS in self._node.peers.abilities(self._agency)[1]

    def _responses(
        self, envelope: envelope_pb2.Envelope, lists: Lists
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Ask in one message where that will do."""
        peers = self._node.peers
        salt = self._salt if self._payload.query.salted else b""
        if self._brief:
            try:
                yield from self._sent or peers.overlap_brief(
                    self._agency, envelope, lists(), self._deadline, salt
                )
                return
            except UnknownMethod:
                pass
            except LimitExceeded as error:
                if error.metadata.get("check") != "BRIEF":
                    raise
        yield from peers.overlap(self._agency, envelope, lists(), self._deadline, salt)

    # 1
    def _take_series(self, entries: Sequence[exchange_pb2.SeriesEntry]) -> None:
        known = self._seen.series
        for entry in entries:
            if len(known) >= limits.SERIES_PER_ANSWER:
                raise LimitExceeded(
                    f"{self._agency} names over {limits.SERIES_PER_ANSWER} series; ask for less"
                )
            if entry.index in known or not entry.index:
                raise MalformedMessage(f"{self._agency} gives two series one index")
            known.add(entry.index)
            if len(self._seen.named) < limits.DECONFLICTION_SERIES:
                self._seen.named.append(entry.id)

    # 2
    def _take_hits(self, batch: exchange_pb2.HitBatch) -> int:
        """Return how many digests hit that did not before."""
        kind, hits = check_hits(batch, self._counts)
        if not names_known(hits.series, self._seen.series):
            raise MalformedMessage(f"{self._agency} names a series that it did not send")
        positions = hits.positions
        if not len(positions):
            return 0
        self._seen.hits += len(positions)
        most = limits.HITS_PER_ANSWER + limits.HITS_PER_DIGEST * sum(self._counts)
        if self._seen.hits > most:
            raise LimitExceeded(f"{self._agency} answers with over {most} hits; ask for less")
        last = self._seen.last.get(kind, -1)
        if positions[0] < last:
            raise MalformedMessage(f"{self._agency} answered positions that do not ascend")
        self._seen.last[kind] = int(positions[-1])
        changes = int((positions[1:] != positions[:-1]).sum())
        return changes + int(positions[0] != last)

    # 3
    def _check_receipt(
        self, end: exchange_pb2.OverlapEnd, request_digest: bytes
    ) -> payload_pb2.Payload:
        payload = open_payload(
            end.receipt,
            directory=self._node.directory(),
            issuer=self._agency,
            audience=Audience(agency=self._node.agency),
            now=self._node.clock(),
        )
        receipt = payload.receipt
        if (
            payload.WhichOneof("body") != "receipt"
            or receipt.request != self._payload.id
            or receipt.request_digest != request_digest
            or receipt.answer_digest != self._seen.digest.digest()
            or receipt.disclosure != end.disclosure
        ):
            raise SignatureRefused(
                f"{self._agency}'s receipt is not for this question and its answer"
            )
        return payload


def _entries(response: exchange_pb2.OverlapResponse) -> Sequence[exchange_pb2.SeriesEntry]:
    """Return the series of a response; empty when it holds none."""
    if response.HasField("series"):
        return [response.series]
    return response.batch.series
