"""What every service works with: the node's identity, its ports, and small shared steps."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Protocol

from tieline.v1 import audit_pb2, delivery_pb2, envelope_pb2, exchange_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory import Directory
from tieline_client.errors import InvalidInput, PolicyRefused, RefusedError
from tieline_client.formats.record import Vote
from tieline_client.handling import Handling, HandlingCode, Tlp
from tieline_client.inert import plain
from tieline_client.payloads import Sealer

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.budget import Budgets
from tieline_server.domain.numbering import Numbering
from tieline_server.domain.policy import Action, Decision, Party, PolicyDecider, Question
from tieline_server.domain.ports import Matching, Store, TombstoneLedger
from tieline_server.domain.same_as import Likeness
from tieline_server.domain.series import DutyContact
from tieline_server.domain.targets import Targets
from tieline_server.services.budgeting import Budgeting
from tieline_server.services.budgets_heard import Heard
from tieline_server.services.watching import Watch


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the own agency, as the operator port identified them."""

    name: str
    roles: frozenset[str]


class Peers(Protocol):
    """Calls to other nodes. Every method raises a TielineError when the peer does not answer."""

    def overlap(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]: ...
    def overlap_brief(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Under way on return; the iterator waits."""
        ...

    def overlap_at_hand(
        self,
        agency: str,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes,
    ) -> Iterator[exchange_pb2.OverlapResponse] | None:
        """`overlap_brief` for a peer that is connected, greeted, and takes salted lists; None, and
        nothing is sent, for any other."""
        ...

    def deliver(
        self, agency: str, request: delivery_pb2.DeliverRequest
    ) -> delivery_pb2.DeliverResponse: ...
    def deliver_batch(
        self, agency: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse: ...
    def put_chunk(
        self, agency: str, request: delivery_pb2.PutChunkRequest
    ) -> delivery_pb2.PutChunkResponse: ...
    def contact(
        self, agency: str, request: delivery_pb2.ContactRequest
    ) -> delivery_pb2.ContactResponse: ...
    def fetch_sent(
        self, agency: str, request: delivery_pb2.FetchSentRequest
    ) -> Iterator[delivery_pb2.FetchSentResponse]: ...
    def swap_checkpoints(
        self, agency: str, request: audit_pb2.SwapCheckpointsRequest
    ) -> audit_pb2.SwapCheckpointsResponse: ...
    def countersign(
        self, agency: str, request: audit_pb2.CountersignRequest
    ) -> audit_pb2.CountersignResponse: ...
    def log_consistency(
        self, agency: str, request: audit_pb2.GetConsistencyRequest
    ) -> audit_pb2.GetConsistencyResponse: ...
    def abilities(self, agency: str) -> tuple[str, frozenset[str]]:
        """The wire version and the capabilities that a peer states in its Hello."""
        ...


@dataclass(frozen=True, slots=True)
class Defaults:
    """The agency's configuration, as far as services need it.

    ``categories`` are the (scheme, code) pairs that are child sexual abuse material here.
    """

    categories: frozenset[Vote]
    contact: DutyContact
    handling_code: HandlingCode = HandlingCode.H0
    tlp: Tlp = Tlp.AMBER
    source: str = "X"
    information: int = 4
    query_seconds: float = limits.QUERY_SECONDS
    budgets: Budgets = field(default_factory=Budgets)
    count_least: int = limits.COUNT_LEAST
    """Asked records, or items of a series, below which no count is told."""
    numbering: Numbering = field(default_factory=Numbering)
    """How a repository numbers series."""
    targets: Targets = field(default_factory=Targets)
    """How long the steps of referrals may take."""
    likeness: Likeness = field(default_factory=Likeness)
    """What proposes that two agencies' series are one."""

    def handling(self, today: date) -> Handling:
        """What an import without other word is held under."""
        return Handling(
            self.handling_code,
            self.tlp,
            self.source,
            self.information,
            today + limits.RETENTION_DEFAULT,
        )


@dataclass(slots=True)
class Node:
    """The node as its services see it. ``wake`` tells delivery that a destination has mail."""

    agency: str
    federation: str
    store: Store
    matching: Matching
    policy: PolicyDecider
    directory: Callable[[], Directory]
    sealer: Sealer
    clock: Callable[[], datetime]
    defaults: Defaults
    peers: Peers
    epoch: str
    ledger: TombstoneLedger
    wake: Callable[[str], None] = field(default=lambda _agency: None)
    contact: Callable[[str], None] = field(default=lambda _agency: None)
    """Have a peer contacted soon (delivery/contacts.py)."""
    alarmed: Callable[[], None] = field(default=lambda: None)
    """Tells the clock of alarms that one was set (delivery/alarm_clock.py)."""
    ready: Callable[[str], None] = field(default=lambda _agency: None)
    """What waits for a peer may go now: its back-off, if any, is over."""
    renewed: bool = False
    """Whether it was ever restored or resynchronised."""
    purge: Callable[[], None] = field(default=lambda: None)
    """Something is to be erased, or a receipt to be sent."""
    audit_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    """Secret of this agency, for sketches of what peers asked and the lists that it asked."""
    scratch: Path | None = None
    """Where files without a name are made; None: where the system keeps temporary ones."""
    budgets: Budgeting = field(init=False)
    """What peers may ask of this node in a day."""
    watch: Watch = field(init=False)
    """Looks at what peers ask."""
    budgets_heard: Heard = field(default_factory=Heard)
    """What this node may still ask of peers."""
    _asking: dict[tuple[object, ...], Decision] = field(default_factory=dict)
    """Decisions of `may_ask` by what it was asked, and the versions they follow from."""

    def __post_init__(self) -> None:
        self.budgets = Budgeting(
            *(self.agency, self.store, self.clock, self.defaults.budgets, self._alarm_was_set)
        )

        self.watch = Watch(self.agency, self.store, self.clock, self._alarm_was_set)

    def _alarm_was_set(self) -> None:
        self.alarmed()

    def cut_off(self, agency: str) -> str:
        """Return why nothing is exchanged with an agency, "" for a member in good standing: what
        concerns others as well goes on without it. With nobody, when the own agency is revoked."""
        members = self.directory().by_agency
        own, member = members.get(self.agency), members.get(agency)
        if own is not None and own.revoked:
            return f"{self.agency} is revoked itself; nothing is exchanged with anybody"
        if member is None:
            return f"{agency} is no member; nothing is exchanged with it"
        return f"{agency} is revoked; nothing is exchanged with it" if member.revoked else ""

    def party(self, agency: str) -> Party:
        """Return an agency as policy sees it; raise UnknownAgency or PolicyRefused."""
        member = self.directory().member(agency)
        if member.revoked:
            raise PolicyRefused(self.cut_off(agency))
        return Party.of(
            agency, str(member.role), member.countries, agreement=member.agreement is not None
        )

    def check_purpose(self, purpose: str, case_ref: str) -> None:
        """Raise InvalidInput unless a purpose of the directory and a case reference are given."""
        self.directory().purpose(purpose)
        if not case_ref.strip():
            raise InvalidInput("a case reference is needed; say --case REF")

    def allow(self, question: Question, what: str) -> tuple[str, ...]:
        """Return the rules that allow it; raise PolicyRefused, which says why, otherwise."""
        return self.allowed(self.policy.decide(question), what)

    @staticmethod
    def allowed(decision: Decision, what: str) -> tuple[str, ...]:
        """Return the rules that allow it; raise PolicyRefused, which says why, otherwise."""
        if not decision.allowed:
            raise PolicyRefused(f"{what}: {decision.why}", rules=" ".join(decision.rules))
        return decision.rules

    def may_ask(
        self,
        asker: str,
        holder: str,
        purpose: str,
        *,
        asked: int = 0,
        spent: int = 0,
        budget: int = 0,
    ) -> Decision:
        """Decide whether a member may ask another; raise UnknownAgency or PolicyRefused.

        Rules and directory stay the same for days, and this is asked of each peer of each question.
        The units are those of the answering side: what is asked, what is reserved of the day with
        it (the same while a block reserved ahead lasts, so that the decision is too), the budget.
        """
        units = asked, spent, budget
        key = asker, holder, purpose, units, self.directory().version, self.policy.version
        known = self._asking.get(key)
        if known is None:
            question = replace(
                self.question(Action.ASK, asker=asker, holder=holder, purpose=purpose),
                asked=asked,
                spent=spent,
                budget=budget,
            )
            known = self.policy.decide(question)
            if len(self._asking) >= limits.DECISIONS_CACHED:
                self._asking.clear()
            self._asking[key] = known
        return known

    def question(
        self,
        action: Action,
        *,
        asker: str,
        holder: str,
        purpose: str,
        handling: Handling | None = None,
        owner: str = "",
        permission: bool = False,
    ) -> Question:
        """Build a question about two members."""
        return Question(
            action,
            self.party(asker),
            self.party(holder),
            purpose,
            handling=handling.code if handling else HandlingCode.H0,
            tlp=handling.tlp if handling else Tlp.AMBER,
            owner=owner,
            permission=permission,
        )

    def key_for(self, use: bytes) -> bytes:
        """Derive 32 bytes from `audit_key`, apart for each use (BLAKE2b, keyed)."""
        return hashlib.blake2b(use, digest_size=32, key=self.audit_key).digest()

    def entry(
        self,
        action: str,
        *,
        person: str = "",
        peer: str = "",
        purpose: str = "",
        case_ref: str = "",
        subjects: tuple[str, ...] = (),
        rules: tuple[str, ...] = (),
        **detail: object,
    ) -> AuditEntry:
        """Build an audit entry of this agency, now."""
        return AuditEntry(
            action,
            self.clock(),
            self.agency,
            person,
            peer,
            purpose,
            case_ref,
            subjects,
            rules,
            detail,
        )


@contextmanager
def about(purpose: str, case_ref: str, person: str = "") -> Iterator[None]:
    """Let a refusal inside say what it was about, so that its audit entry can."""
    try:
        yield
    except RefusedError as error:
        error.metadata.setdefault("purpose", purpose)
        error.metadata.setdefault("case", case_ref)
        if person:
            error.metadata.setdefault("person", person)
        raise


def clean(text: str) -> str:
    """Return text as it may be kept; control characters were refused at the door."""
    return plain(text)
