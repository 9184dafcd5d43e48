"""One list asked of several peers at once, none delaying another (peer_answers.py).

1. Peers: the named ones, or those that policy lists for the purpose, or every member. Policy is
   asked on this side too, since a question shows its digests to whoever is asked.
2. The question is logged durably, with whom policy kept from being asked; only then a signed header
   and the list go to every peer.
3. Each peer's end, with its receipt or the reason, is logged before it is handed on; ends that
   come together share a commit. Who was asked and has not ended when all is over is logged as
   broken off.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tieline.v1 import operator_pb2, payload_pb2, requests_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, StorageUnavailable
from tieline_client.identifiers import new_id

from tieline_server.domain.alarm import Alarm
from tieline_server.domain.audit import AuditEntry, salted
from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import Record
from tieline_server.domain.request import Request, RequestKind, Side, parse_wish
from tieline_server.services import asked_lists, deconflicting
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.peer_answers import THREADS, PeerAnswers
from tieline_server.services.peer_question import Lists, PeerQuestion, PeerResult
from tieline_server.services.refused_before import say_refused
from tieline_server.services.vital_interests import endangered, standing, stated_out

_KEEPING = ThreadPoolExecutor(8, thread_name_prefix="keep-list")


@dataclass(frozen=True, slots=True)
class Terms:
    """Who asks, why and how. ``deadline`` is in seconds, for each peer."""

    person: str
    purpose: str
    case_ref: str
    near: bool
    deadline: float
    wish: Disclosure

    @classmethod
    def of(
        cls,
        node: Node,
        person: Person,
        header: operator_pb2.AskHeader | operator_pb2.CompareCollectionRequest,
    ) -> Terms:
        """Check what a person states. Raises InvalidInput."""
        node.check_purpose(header.purpose, header.case_ref)
        if header.deadline_seconds > limits.QUERY_SECONDS_MOST:
            raise InvalidInput(f"a peer is waited for at most {limits.QUERY_SECONDS_MOST} seconds")
        deadline = header.deadline_seconds or node.defaults.query_seconds
        return cls(
            person=person.name,
            purpose=header.purpose,
            case_ref=clean(header.case_ref),
            near=header.near,
            deadline=deadline,
            wish=parse_wish(header.wish),
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whom policy lets this agency ask, and the ends of those that it does not."""

    peers: tuple[str, ...]
    refused: tuple[operator_pb2.PeerEnd, ...]
    stated: Mapping[str, requests_pb2.VitalInterests] = field(default_factory=dict)
    """What two officers stated, of peers that may be asked on that exception alone."""

    @property
    def everyone(self) -> list[str]:
        """All of them by id."""
        return [*self.peers, *(one.agency for one in self.refused)]


def choose_peers(
    node: Node, purpose: str, named: Sequence[str], *, everyone: bool, case_ref: str = ""
) -> Chosen:
    """Step 1. Raises InvalidInput when the own agency is named, UnknownAgency."""
    named = list(dict.fromkeys(named))
    if node.agency in named:
        raise InvalidInput(f"{node.agency} is this node; name other agencies")
    candidates = named or [
        member.agency
        for member in node.directory().active_members()
        if member.agency != node.agency
    ]
    peers, refused = [], []
    stated: dict[str, requests_pb2.VitalInterests] = {}
    for agency in candidates:
        if agency in node.directory().by_agency and (why := node.cut_off(agency)):
            refused.append(operator_pb2.PeerEnd(agency=agency, status="refused", reason=why))
            continue
        decision = node.may_ask(node.agency, agency, purpose)
        if decision.allowed:
            peers.append(agency)
        elif (named or everyone) and (said := _stated(node, agency, purpose, case_ref)):
            peers.append(agency)
            stated[agency] = said
        elif named or everyone:
            refused.append(
                operator_pb2.PeerEnd(agency=agency, status="refused", reason=decision.why)
            )
    return Chosen(tuple(peers), tuple(refused), stated)


def _stated(
    node: Node, agency: str, purpose: str, case_ref: str
) -> requests_pb2.VitalInterests | None:
    """Return what is confirmed of a child in danger, where it lets this agency be asked."""
    request = node.store.read(lambda tx: standing(node, tx, agency, purpose, case_ref))
    if request is None:
        return None
    question = node.question(Action.ASK, asker=node.agency, holder=agency, purpose=purpose)
    allowed = node.policy.decide(endangered(question)).allowed
    return stated_out(request) if allowed else None


@dataclass(frozen=True, slots=True)
class Announced:
    """What the header says of a list. ``counts`` are digests by kind, in the order of DigestKind;
    ``excluded`` records stay at home."""

    records: int
    excluded: int
    counts: tuple[int, ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Rerun:
    """A list of a standing query: what it is kept under, and by peer the epoch and generation of
    the receipt after which all is new."""

    watch: str
    since: Mapping[str, tuple[str, int]]


class PeerRound:
    """A list on its way to peers and back. Used by one thread; `close` ends it."""

    def __init__(
        self,
        node: Node,
        terms: Terms,
        chosen: Chosen,
        announced: Announced,
        rerun: Rerun | None = None,
    ) -> None:
        self._node, self._terms, self._chosen, self._announced = node, terms, chosen, announced
        self._rerun = rerun
        self._brief = sum(announced.counts) <= limits.DIGESTS_BRIEF
        self._answers = PeerAnswers(limits.TOGETHER_SECONDS if self._brief else 0.0)
        self._verify: Callable[[], None] | None = None
        self._number = new_id()
        self._unkept: Lists | None = None
        """A long list that is to be kept."""
        self._keeping: Future[None] | None = None
        """A long list on its way to its file."""
        self._pending: set[str] = set()
        """Peers that were asked and whose end is not logged yet."""

    @property
    def pending(self) -> bool:
        """Whether somebody has still to answer."""
        return bool(self._pending)

    def announce(self, digest: bytes) -> None:
        """Take the list's digest, which was not known from the start; before it begins."""
        self._announced = replace(self._announced, digest=digest)

    # 2
    def begin(self, lists: Lists, verify: Callable[[], None] | None = None) -> None:
        """Log the question durably, then ask every peer; nobody when nothing is asked.

        ``verify`` looks at a list that goes out unverified, before the end of a peer counts that
        gave no receipt for it; what it raises ends the round.
        """
        self._verify = verify
        announced, terms = self._announced, self._terms
        if verify is None and self._brief:
            lists = partial(iter, tuple(lists()))  # all of it is here: cut up once for everybody
        asked = self._chosen.peers if any(announced.counts) else ()
        kept: dict[str, Any] = {}
        if self._rerun is not None:  # its list is kept once, not anew every night
            since = {one: at for one, (_, at) in self._rerun.since.items() if one in asked}
            kept = {"watch": self._rerun.watch, "since": since}
        elif asked and verify is None and asked_lists.short(announced.counts):
            kept["list"] = asked_lists.in_entry(self._node, self._number, lists())
        if asked and self._rerun is None and "list" not in kept:
            self._unkept = lists
        entry = self._entry(
            "query.asked",
            subjects=(self._number,),
            records=announced.records,
            excluded=announced.excluded,
            peers=list(asked),
            refused={one.agency: one.reason for one in self._chosen.refused},
            near=terms.near,
            **salted(announced.digest),
            **self._basis(asked),
            **kept,
        )
        self._log([entry])
        self._pending = set(asked)
        self._answers.ask(map(self._question, asked), lists)

    def _keep(self) -> None:
        """Begin to keep a long list, once all of it is here and on its way to the peers: they
        should not wait for its disk."""
        lists, self._unkept = self._unkept, None
        if lists is not None:
            self._keeping = _KEEPING.submit(
                lambda: asked_lists.write(self._node, self._number, lists())
            )

    def keep(self) -> None:
        """Return once a long list that peers were asked is kept, or cannot be."""
        if not self._pending:
            return
        self._keep()
        if self._keeping is not None:
            with contextlib.suppress(StorageUnavailable):  # the log says what was asked
                self._keeping.result()

    def _basis(self, asked: Sequence[str]) -> dict[str, Any]:
        """On what law the digests go to those outside the union."""
        found = legal_basis(self._node, [one for one in asked if one not in self._chosen.stated])
        apart: dict[str, object] = {}
        for agency, said in self._chosen.stated.items():
            if agency in asked:
                apart[agency] = legal_basis(self._node, [agency], said)
        return found | ({"vital_interests": apart} if apart else {})

    def begin_aside(self, lists: Lists, verify: Callable[[], None] | None = None) -> Future[None]:
        """`begin` in a thread of its own: the list goes on coming in while the question is logged.

        Nothing else of the round may be used before it is over.
        """
        return THREADS.submit(self.begin, lists, verify)

    def _question(self, agency: str) -> PeerQuestion:
        announced, terms = self._announced, self._terms
        since = self._rerun.since.get(agency) if self._rerun is not None else None
        query = payload_pb2.QueryHeader(
            mode=payload_pb2.QUERY_MODE_NEAR if terms.near else payload_pb2.QUERY_MODE_EXACT,
            records=announced.records,
            counts=announced.counts,
            list_digest=announced.digest,
            radius=limits.NEAR_RADIUS if terms.near else 0,
            epoch=self._node.epoch,
            wish=int(terms.wish),
            reads_handling=True,
            vital_interests=self._chosen.stated.get(agency),
            since_epoch=since[0] if since else "",
            since_generation=since[1] if since else 0,
        )
        payload = payload_pb2.Payload(
            id=new_id(),
            person=terms.person,
            purpose=terms.purpose,
            case_ref=terms.case_ref,
            query=query,
        )
        return PeerQuestion(self._node, agency, payload, announced.counts, terms.deadline)

    # 3
    def ended(self) -> list[PeerResult]:
        """Wait until a peer ends; return it, and those that end with it, logged in one commit."""
        self._keep()
        results = self._answers.take(len(self._pending))
        if self._verify is not None and not all(one.receipt for one in results):
            self._verify()
            self._verify = None
        if self._keeping is not None:
            self._keeping.result()
        for one in results:
            if one.end.status == "answered" and one.overlaps:
                say_refused(
                    *(self._node, one.end, self._terms.purpose),
                    *(self._terms.case_ref, self._terms.wish),
                )
        waiting = [self._waiting(one.end) for one in results if one.end.request]
        met = [alarm for one in results for alarm in self._met(one)]
        self._log([self._result_entry(one.end, one) for one in results], waiting, met)
        if met:
            self._node.alarmed()
        self._pending.difference_update(one.end.agency for one in results)
        return results

    def _met(self, result: PeerResult) -> list[Alarm]:
        """The notices that the peer holds what is being asked for."""
        terms, peer = self._terms, result.end.agency
        if terms.purpose != deconflicting.PURPOSE or not (result.request and result.overlaps):
            return []
        return deconflicting.met_by_question(
            *(self._node, result.request, terms.case_ref),
            *(self._node.agency, peer, result.named),
        )

    def close(self) -> None:
        """Log who has not ended as broken off."""
        reason = "the question was broken off before this peer answered"
        ends = [
            operator_pb2.PeerEnd(agency=agency, status="unreachable", reason=reason)
            for agency in sorted(self._pending)
        ]
        self._pending.clear()
        if ends:
            # A node that stops has no storage any more; that it asked is in the log already.
            with contextlib.suppress(StorageUnavailable):
                self._log([self._result_entry(end) for end in ends])

    def _result_entry(
        self, end: operator_pb2.PeerEnd, result: PeerResult | None = None
    ) -> AuditEntry:
        return self._entry(
            "query.result",
            peer=end.agency,
            subjects=(end.receipt, self._number) if end.receipt else (self._number,),
            status=end.status,
            reason=end.reason,
            overlaps=result.overlaps if result else 0,
            receipt=base64.b64encode(result.receipt).decode() if result else "",
            question=base64.b64encode(result.question).decode() if result else "",
        )

    def _entry(
        self, action: str, *, peer: str = "", subjects: tuple[str, ...] = (), **detail: Any
    ) -> AuditEntry:
        return self._node.entry(
            action,
            person=self._terms.person,
            peer=peer,
            purpose=self._terms.purpose,
            case_ref=self._terms.case_ref,
            subjects=subjects,
            rules=(),
            **detail,
        )

    def _waiting(self, end: operator_pb2.PeerEnd) -> Request:
        """What waits for a person at a peer, as this side keeps it."""
        now, terms = self._node.clock(), self._terms
        return Request(
            id=end.request,
            kind=RequestKind.RELEASE,
            side=Side.OUT,
            peer=end.agency,
            person=terms.person,
            purpose=terms.purpose,
            case_ref=terms.case_ref,
            created=now,
            expires=now + limits.REQUEST_LIFE,
            level=terms.wish,
        )

    def _log(
        self,
        entries: list[AuditEntry],
        waiting: Sequence[Request] = (),
        met: Sequence[Alarm] = (),
    ) -> None:
        def append(tx: Record) -> None:
            for alarm in met:
                tx.alarms.set(alarm)
            for request in waiting:
                tx.requests.add(request)
            for entry in entries:
                tx.audit.append(entry)

        self._node.store.note(append)
