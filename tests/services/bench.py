"""Whole nodes without a network: real SQLite, real rules, real delivery, an index in memory.

Calls between nodes go through the wire's bytes into the other node's services, so that nothing but
TLS and gRPC is left out. ``Bench.clock`` turns every node's time; ``Bench.offline`` takes one away.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message
from tieline.v1 import (
    audit_pb2,
    delivery_pb2,
    envelope_pb2,
    exchange_pb2,
    operator_pb2,
    operator_requests_pb2,
    payload_pb2,
)
from tieline_client import constraints, keys
from tieline_client.asked_list import AskedList, AskTerms, ListBuilder
from tieline_client.digest_batch import DigestBatch, open_batch
from tieline_client.digests import DigestKind
from tieline_client.directory import Directory, Group, Member, Role, SigningKey
from tieline_client.errors import UnknownMethod, Unreachable
from tieline_client.formats.record import Record, Vote
from tieline_client.overlap_answers import Gathering, Overlap, PeerAnswer
from tieline_client.packed import Index
from tieline_client.payloads import Audience, Sealer
from tieline_client.peer_connection import WIRE_VERSION
from tieline_server.delivery.contacts import Contacts
from tieline_server.delivery.engine import DeliveryEngine
from tieline_server.domain.audit_actions import ACTIONS
from tieline_server.domain.messages import OutMessage
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import DutyContact
from tieline_server.matching.matcher import Matcher
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder
from tieline_server.rpc.exchange import CAPABILITIES
from tieline_server.services.answering import Answerer
from tieline_server.services.asking import Question
from tieline_server.services.attachments import Receiver
from tieline_server.services.context import Defaults, Node, Person
from tieline_server.services.deciding import Requests
from tieline_server.services.importing import Import
from tieline_server.services.inbox import Mailbox
from tieline_server.services.receiving import Receiving
from tieline_server.services.standing_answers import StandingAnswers, begin_new_epoch
from tieline_server.services.telling import Telling
from tieline_server.services.witnessing import Witnessing
from tieline_server.storage.engine import open_store
from tieline_server.storage.tombstone_ledger import FileLedger

T = TypeVar("T")
M = TypeVar("M", bound=Message)

FEDERATION = "demo"
PT, ES, FR, ICE, FBI = "pt-pj", "es-gc", "fr-ofmin", "us-ice", "us-fbi"
HUB, INTERPOL = "europol-ec3", "interpol"
MEMBERS: dict[str, tuple[Role, tuple[str, ...]]] = {
    PT: (Role.NATIONAL, ("PT",)),
    ES: (Role.NATIONAL, ("ES",)),
    FR: (Role.NATIONAL, ("FR",)),
    ICE: (Role.NATIONAL, ("US",)),
    FBI: (Role.NATIONAL, ("US",)),
    HUB: (Role.HUB, ()),
    INTERPOL: (Role.REPOSITORY, ()),
}
PURPOSE, CASE = "victim-identification", "2026-118"
ANA = Person("ana", frozenset({"analyst", "officer"}))
RUI = Person("rui", frozenset({"officer"}))
ABUSE = Vote("vics-us", "1")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAIT_SECONDS = 120.0

Tamper = Callable[[Iterator[exchange_pb2.OverlapResponse]], Iterable[exchange_pb2.OverlapResponse]]


@functools.cache
def _rules() -> PolicyEngine:
    """The rules as shipped, read once: they hold no state."""
    return PolicyEngine(default_folder())


@dataclass
class Bench:
    """The directory, the time, and the nodes by agency."""

    folder: Path
    empty: Path
    """A database with all tables and no rows: making the tables takes longer than most tests."""
    now: datetime = START
    offline: set[str] = field(default_factory=set)
    tampering: dict[str, Tamper] = field(default_factory=dict)
    """What an answering agency does to its answer on the way out."""
    nodes: dict[str, Running] = field(default_factory=dict)
    signing: dict[str, keys.PrivateKey] = field(
        default_factory=lambda: {agency: keys.generate() for agency in MEMBERS}
    )
    _copies: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.policy = _rules()
        self.directory = Directory(
            federation=FEDERATION,
            version=1,
            expires=self.now + timedelta(days=3650),
            members=tuple(self._member(agency) for agency in MEMBERS),
            groups=(Group(name="desks", version=2, members=(PT, ES, FBI, HUB)),),
            purposes={
                code: code
                for code in (PURPOSE, "deconfliction", "prosecution", "data-quality", "new-code")
            },
        )

    def _member(self, agency: str) -> Member:
        role, countries = MEMBERS[agency]
        public = keys.public_der(self.signing[agency])
        return Member(
            agency=agency,
            name=agency,
            role=role,
            countries=countries,
            agreement="trial agreement" if agency == ICE else None,
            signing_keys=(
                SigningKey(
                    keyid=keys.keyid(public),
                    public=base64.b64encode(public).decode(),
                    not_before=self.now - timedelta(days=400),
                ),
            ),
        )

    def clock(self) -> datetime:
        """The time at every node."""
        return self.now

    def __getitem__(self, agency: str) -> Running:
        if agency not in self.nodes:
            self.nodes[agency] = Running(self, agency)
        return self.nodes[agency]

    def flow(self) -> None:
        """Deliver what is queued anywhere, and what that leads to, until every queue is empty."""

        def happened() -> int:
            return sum(one.store.read(lambda tx: tx.audit.size()) for one in self.nodes.values())

        def empty() -> bool:
            before = happened()
            for running in self.nodes.values():
                running.node.wake = running.engine.wake
                running.node.ready = running.ready
                running.engine.start()
            waits = any(
                (self.nodes.keys() - self.offline)
                & set(running.store.read(lambda tx: tx.outbox.waiting()))
                for running in self.nodes.values()
            )
            # What one node still had may have led to more at another that was looked at before it.
            return not waits and happened() == before

        wait_for("all queues are empty", empty)

    def image(self, agency: str) -> Path:
        """Copy a node's database as it is; the node lives on."""
        copy = self.folder / f"{agency}-{next(self._copies)}.sqlite3"
        with closing(sqlite3.connect(self[agency].path)) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        return copy

    def set_back(self, agency: str, image: Path) -> Running:
        """Put an image in the place of a node's database, and start it."""
        self.nodes.pop(agency).close()
        for left in self.folder.glob(f"{agency}.sqlite3-*"):
            left.unlink()
        self.nodes[agency] = Running(self, agency, image)
        return self.nodes[agency]

    def resync(self, agency: str) -> Running:
        """The operator's word that this node lives."""
        begin_new_epoch(self[agency].store)
        return self.set_back(agency, self.image(agency))

    def close(self) -> None:
        """End every node."""
        for running in self.nodes.values():
            running.close()


def _begin_life(tx: Tx) -> str:
    tx.standings.begin_life()
    return tx.standings.epoch()


class Running:
    """One node's services over a store of its own."""

    def __init__(self, bench: Bench, agency: str, database: Path | None = None) -> None:
        """``database``: what to begin with; None: an empty one."""
        self.bench, self.agency = bench, agency
        path = self.path = bench.folder / f"{agency}.sqlite3"
        shutil.copyfile(database or bench.empty, path)
        self.matching = Matcher(None)
        self.lists = Matcher(None)
        self.store = open_store(
            f"sqlite:///{path}", clock=bench.clock, matching=self.matching, known_good=self.lists
        )
        home = bench.folder / f"{agency}.home"
        home.mkdir(exist_ok=True)
        self.node = Node(
            agency=agency,
            federation=FEDERATION,
            store=self.store,
            matching=self.matching,
            policy=bench.policy,
            directory=lambda: bench.directory,
            sealer=Sealer(FEDERATION, agency, bench.signing[agency]),
            clock=bench.clock,
            defaults=Defaults(
                categories=frozenset({ABUSE, Vote("vics-us", "2")}),
                contact=DutyContact(f"desk {agency}", f"duty@{agency}.example", "+000"),
            ),
            peers=Lines(bench, agency),
            epoch=self.store.write(_begin_life),
            renewed=self.store.read(lambda tx: tx.standings.renewed()),
            scratch=home,
            ledger=FileLedger(bench.folder / f"{agency}.tombstones"),
        )
        self.answerer = Answerer(self.node)
        self.receiving = Receiving(self.node)
        self.receiver = Receiver(self.node)
        self.engine = DeliveryEngine(self.node)
        self.contacts = Contacts(self.node, lambda: sorted(set(bench.nodes) - {agency}))
        self.standing = StandingAnswers(self.node)
        self.witnessing = Witnessing(self.node)
        self._places = itertools.count(1)
        self.one_by_one = False
        """Whether it takes no batches, as before v1.1."""
        self.wire = WIRE_VERSION
        """What its Hello says that it speaks."""

    def close(self) -> None:
        """End delivery, then storage."""
        self.engine.stop()
        self.matching.close()
        self.lists.close()
        self.store.close()

    def ready(self, agency: str) -> None:
        """What waits for a peer may go."""
        self.engine.wake(agency)
        self.engine.heard_from(agency)

    # --- short ways for tests ---

    def queued(self, recipient: str) -> list[OutMessage]:
        """Messages that wait for a recipient, in their order."""
        return list(self.store.read(lambda tx: tx.outbox.due(recipient, 1_000)))

    def sent(self, recipient: str, kind: str) -> envelope_pb2.Envelope:
        """The envelope of the one queued message of a kind."""
        (message,) = [one for one in self.queued(recipient) if one.kind == kind]
        return envelope_pb2.Envelope.FromString(message.envelope)

    def refer(self, series: str, **request: object) -> list[operator_pb2.ReferralView]:
        """Refer a series; nothing leaves before ``flow``."""
        fields: dict[str, object] = {"purpose": PURPOSE, "case_ref": CASE, "urgency": 2} | request
        made = operator_pb2.ReferSeriesRequest(series=series, **fields)  # type: ignore[arg-type]
        return Telling(self.node).refer(ANA, made)

    def release(self, request: str) -> None:
        """Release what a question asked for beyond a hit, as an officer does."""
        decision = operator_requests_pb2.DecideRequestRequest(id=request, approve=True)
        Requests(self.node).decide(RUI, decision)

    def inbox(self) -> list[operator_pb2.InboxEntry]:
        """What came in, newest first."""
        return Mailbox(self.node).inbox()

    def load(self, records: Sequence[Record], **header: object) -> operator_pb2.ImportReport:
        """Import records as one file."""
        digest = hashlib.sha256(repr(records).encode()).digest()
        fields: dict[str, object] = {
            "source": "file",
            "case_ref": CASE,
            "file_digest": digest,
        } | header
        work = Import(self.node, ANA, operator_pb2.ImportHeader(**fields))  # type: ignore[arg-type]
        if work.repeated is not None:
            return work.repeated
        work.add(records)
        return finish(work, len(records))

    def series(self, records: Sequence[Record], name: str = "Azul") -> str:
        """Import records as one series; return its id."""
        (series,) = self.load(records, series=name).series
        return series

    def ask(
        self, records: Sequence[Record], *peers: str, **header: object
    ) -> tuple[dict[str, PeerAnswer], dict[str, list[Overlap]]]:
        """Ask as a person's client does; return each peer's end and its overlaps."""
        builder = ListBuilder(
            AskTerms(self.node.defaults.categories), near=bool(header.get("near"))
        )
        for one in records:
            builder.add(one)
        asked = builder.build()
        ends: dict[str, PeerAnswer] = {}
        while known := self._converse(asked, ends, {"peers": peers} | header):
            asked = asked.without(known)
        found = {agency: list(end.overlaps()) for agency, end in ends.items()}
        return ends, {agency: overlaps for agency, overlaps in found.items() if overlaps}

    def _converse(
        self, asked: AskedList, ends: dict[str, PeerAnswer], header: dict[str, object]
    ) -> dict[DigestKind, Index]:
        """Send a list; take the ends, or return what is known good."""
        gathering = Gathering(asked)
        known: dict[DigestKind, Index] = {}
        for response in self.ask_raw(asked, **header):
            if response.HasField("known_good"):
                kind = DigestKind(response.known_good.kind)
                known[kind] = np.array(response.known_good.positions, dtype=np.int64)
            elif isinstance(event := gathering.take(response), PeerAnswer):
                ends[event.agency] = event
        return known

    def question(self, asked: AskedList, **header: object) -> Question:
        """Begin to ask; the list has still to be taken."""
        fields: dict[str, object] = {
            "purpose": PURPOSE,
            "case_ref": CASE,
            "records": len(asked),
            "excluded": asked.excluded,
            "counts": asked.counts(),
            "list_digest": asked.digest,
        } | header
        return Question(self.node, ANA, operator_pb2.AskHeader(**fields))  # type: ignore[arg-type]

    def ask_raw(
        self, asked: AskedList, **header: object
    ) -> Iterator[operator_pb2.AskOverlapResponse]:
        """Yield what the node says of a list, through the wire's bytes."""
        question = self.question(asked, **header)
        try:
            for batch in asked.batches():
                came = open_batch(batch.message)
                assert came is not None
                question.take(came)
            for response in chain.from_iterable(question.answer()):
                constraints.check(response)
                yield response
        finally:
            question.close()

    def seal(
        self,
        payload: payload_pb2.Payload,
        to: str | Audience,
        *,
        at: datetime | None = None,
        **life: timedelta,
    ) -> envelope_pb2.Envelope:
        """Sign as this agency, with purpose, case and person filled in where they are missing."""
        payload.person = payload.person or "ana"
        payload.purpose = payload.purpose or PURPOSE
        payload.case_ref = payload.case_ref or CASE
        audience = Audience(agency=to) if isinstance(to, str) else to
        return self.node.sealer.seal(payload, audience, at or self.bench.now, **life)

    def deliver(
        self, envelope: envelope_pb2.Envelope, to: str, lane: int = 3
    ) -> delivery_pb2.DeliverResponse:
        """Deliver by hand, past the outbox, each in the next place."""
        request = delivery_pb2.DeliverRequest(
            envelope=envelope, lane=lane, sequence=next(self._places)
        )
        return self.node.peers.deliver(to, request)

    def audit(self, action: str = "") -> list[dict[str, object]]:
        """Return the audit entries, or those of one action."""
        self.store.drain()
        records = self.store.read(lambda tx: tx.audit.records(0, 10_000))
        entries = [json.loads(record.leaf) for record in records]
        # Composed ones stand in no source; "something" is what tests fill a log with.
        assert {one["action"] for one in entries} <= ACTIONS | {"something"}
        return [one for one in entries if not action or one["action"] == action]


def _passed(message: M) -> M:
    """What the other side gets of a message."""
    return constraints.open_nested(message.SerializeToString(), type(message))


class Lines:
    """``services.context.Peers``: what one node sends, the other gets as parsed from bytes."""

    def __init__(self, bench: Bench, caller: str) -> None:
        self._bench, self._caller = bench, caller

    def _there(self, agency: str) -> Running:
        if agency in self._bench.offline or agency not in self._bench.nodes:
            raise Unreachable(f"{agency} cannot be reached; check the address")
        return self._bench.nodes[agency]

    def overlap(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Ask, and have the answer pass whoever tampers with it."""

        def parsed() -> Iterator[exchange_pb2.OverlapRequest | DigestBatch]:
            first = exchange_pb2.OverlapRequest(header=header, list_salt=salt)
            yield constraints.open_nested(first.SerializeToString(), exchange_pb2.OverlapRequest)
            for batch in batches:
                data = batch.message
                yield open_batch(data) or constraints.open_nested(data, exchange_pb2.OverlapRequest)

        answer = self._there(agency).answerer.answer(self._caller, parsed())
        for response in self._bench.tampering.get(agency, iter)(answer):
            yield constraints.open_nested(
                response.SerializeToString(), exchange_pb2.OverlapResponse
            )

    def overlap_brief(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Ask few digests."""
        return self.overlap(agency, header, batches, timeout, salt)

    def overlap_at_hand(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes,
    ) -> Iterator[exchange_pb2.OverlapResponse] | None:
        """There is no connection that would have to be made first."""
        there = self._bench.nodes.get(agency)
        if agency in self._bench.offline or there is None or there.one_by_one:
            return None
        return self.overlap_brief(agency, header, batches, timeout, salt)

    def deliver(
        self, agency: str, request: delivery_pb2.DeliverRequest
    ) -> delivery_pb2.DeliverResponse:
        """Deliver a message."""
        came = constraints.open_nested(request.SerializeToString(), delivery_pb2.DeliverRequest)
        answer = self._there(agency).receiving.deliver(self._caller, came)
        constraints.check(answer)
        return answer

    def deliver_batch(
        self, agency: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        """Deliver several messages."""
        came = constraints.open_nested(
            request.SerializeToString(), delivery_pb2.DeliverBatchRequest
        )
        there = self._there(agency)
        if there.one_by_one:
            raise UnknownMethod(f"{agency} takes messages one by one")
        response = there.receiving.take(self._caller, came)
        return constraints.open_nested(
            response.SerializeToString(), delivery_pb2.DeliverBatchResponse
        )

    def contact(
        self, agency: str, request: delivery_pb2.ContactRequest
    ) -> delivery_pb2.ContactResponse:
        """Exchange standings."""
        came = constraints.open_nested(request.SerializeToString(), delivery_pb2.ContactRequest)
        there = self._there(agency)
        if there.one_by_one:
            raise UnknownMethod(f"{agency} says no standings")
        answer = there.standing.contact(self._caller, came)
        return constraints.open_nested(answer.SerializeToString(), delivery_pb2.ContactResponse)

    def swap_checkpoints(
        self, agency: str, request: audit_pb2.SwapCheckpointsRequest
    ) -> audit_pb2.SwapCheckpointsResponse:
        """Swap heads of audit logs."""
        return _passed(self._there(agency).witnessing.swap(self._caller, _passed(request)))

    def countersign(
        self, agency: str, request: audit_pb2.CountersignRequest
    ) -> audit_pb2.CountersignResponse:
        """Have a head countersigned."""
        return _passed(self._there(agency).witnessing.countersign(self._caller, _passed(request)))

    def log_consistency(
        self, agency: str, request: audit_pb2.GetConsistencyRequest
    ) -> audit_pb2.GetConsistencyResponse:
        """Have a peer prove its log."""
        return _passed(self._there(agency).witnessing.consistency(_passed(request)))

    def fetch_sent(
        self, agency: str, request: delivery_pb2.FetchSentRequest
    ) -> Iterator[delivery_pb2.FetchSentResponse]:
        """Fetch what it holds of ours."""
        came = constraints.open_nested(request.SerializeToString(), delivery_pb2.FetchSentRequest)
        for part in self._there(agency).standing.fetch_sent(self._caller, came):
            yield constraints.open_nested(part.SerializeToString(), delivery_pb2.FetchSentResponse)

    def abilities(self, agency: str) -> tuple[str, frozenset[str]]:
        """What a Hello would say."""
        there = self._there(agency)
        return ("v1.0", frozenset()) if there.one_by_one else (there.wire, frozenset(CAPABILITIES))

    def put_chunk(
        self, agency: str, request: delivery_pb2.PutChunkRequest
    ) -> delivery_pb2.PutChunkResponse:
        """Send a chunk."""
        came = constraints.open_nested(request.SerializeToString(), delivery_pb2.PutChunkRequest)
        return self._there(agency).receiver.put(self._caller, came)


@contextmanager
def make_bench(folder: Path, empty: Path) -> Iterator[Bench]:
    """Make a bench; nodes come to be as they are named."""
    made = Bench(folder, empty)
    try:
        yield made
    finally:
        made.close()


def wait_for(what: str, look: Callable[[], T]) -> T:
    """Poll until ``look`` returns something true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        began = time.monotonic()
        found = look()
        if found:
            return found
        ended = time.monotonic()
        assert ended < deadline, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(max(0.01, ended - began))  # half the time is the nodes'


def record(number: int, *, kinds: str = "md5 sha1 sha256", **changes: object) -> Record:
    """A synthetic record with digests of the kinds, in a listed category unless changed."""
    made = Record(number=number, votes=(ABUSE,))
    for kind in kinds.split():
        if kind == "pdq":
            made.pdq = pdq(number)
        else:
            setattr(made, kind, hashlib.new(kind, f"{kind}{number}".encode()).digest())
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def pdq(number: int) -> bytes:
    """A synthetic PDQ hash: half of its bits are set, as of every one."""
    bits = random.Random(number).sample(range(256), 128)
    return sum(1 << bit for bit in bits).to_bytes(32)


def finish(work: Import, count: int) -> operator_pb2.ImportReport:
    """Make an import count, as a client does that sent so many records."""
    return work.finish(operator_pb2.ImportFinish(records=count))


def records(numbers: Iterable[int], **changes: object) -> list[Record]:
    """Several of them."""
    return [record(number, **changes) for number in numbers]  # type: ignore[arg-type]
