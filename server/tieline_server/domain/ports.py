"""What the services need from the outside, as Protocols: storage, matching, signing, peers.

Storage story: ``store.read(work)`` and ``store.write(work)`` run ``work(tx)`` in one transaction;
``write`` returns only after the commit is durable, and on SQLite several callers' works share one
commit. ``work`` may be run again after a serialisation failure, so it does nothing but use ``tx``.
Every repository hangs off ``tx``; each returns and takes the frozen dataclasses of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from tieline_client.columns import Columns
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Record, Vote
from tieline_client.handling import Handling

from tieline_server.domain.audit import AuditEntry, AuditRecord
from tieline_server.domain.broadcast import Broadcast, BroadcastAnswer, BroadcastRecipientState
from tieline_server.domain.messages import Destination, InMessage, OutMessage, OutState
from tieline_server.domain.referral import Direction, Referral, ReferralStep
from tieline_server.domain.series import Assessment, ExternalReference, Series, SeriesStatus
from tieline_server.domain.upload import Upload, UploadStep

T = TypeVar("T")
Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint8]


# --- imports and items ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImportHead:
    """Under what an import's items are held. ``answerable`` is False for what was only referred to
    this agency: it is matched for its own people, never for peers. ``fingerprint`` identifies the
    same content under the same options."""

    id: str
    source: str
    format: str
    person: str
    agency: str
    case_ref: str
    handling: Handling
    created: datetime
    fingerprint: str
    answerable: bool = True
    exclusions: bool = False


@dataclass(frozen=True, slots=True)
class StageCounts:
    """What one staged batch amounted to; a record is counted once as new or known.

    ``conflicts`` counts records whose MD5 is already known with another SHA-1 (or SHA-256).
    """

    new: int
    known: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class DigestPage:
    """Digests of one kind: ids (n,) int64 and rows (n, width) uint8, ids ascending."""

    kind: DigestKind
    ids: Ids
    rows: Rows


@dataclass(frozen=True, slots=True)
class HoldingView:
    """One holding of a matched item, as far as an answer needs it."""

    item: int
    series: str
    handling: Handling
    import_id: str
    md5_conflict: bool


@dataclass(frozen=True, slots=True)
class HeldUnder:
    """A complete, answerable import, as far as an answer needs it."""

    import_id: str
    handling: Handling


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its digests and category votes (agency, vote)."""

    id: int
    md5: bytes | None
    sha1: bytes | None
    sha256: bytes | None
    pdq: bytes | None
    media_type: str
    votes: tuple[tuple[str, Vote], ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of what is stored, nothing else."""

    items: int
    holdings: int
    series: int
    exclusions: int
    by_kind: dict[str, int]
    generation: int


class ImportRepository(Protocol):
    """Staged batches, invisible until `complete`."""

    def begin(self, head: ImportHead) -> None: ...
    def completed(self, fingerprint: str) -> str | None:
        """Return the id of a complete import with this fingerprint."""
        ...

    def stage(
        self, import_id: str, records: Sequence[Record], series: Sequence[str | None], voter: str
    ) -> StageCounts:
        """Resolve each record to an item (new where unknown); add a holding under the import.

        ``series[i]`` is the series id of ``records[i]`` or None. Records that share a digest with
        an item are that item, and fill in digests it lacks; two different SHA-1s (or SHA-256s)
        under one MD5 stay two items, both flagged ``md5_conflict``. A holding that an earlier
        *complete* import already has (same item, series, case reference) is not added again.
        ``voter`` is the agency whose votes the records' votes are.
        """
        ...

    def stage_columns(
        self, import_id: str, columns: Columns, series: Sequence[str | None], voter: str
    ) -> StageCounts:
        """As `stage`, for columns; ``series`` is parallel to ``columns.series_names``."""
        ...

    def stage_exclusions(self, import_id: str, records: Sequence[Record]) -> StageCounts: ...
    def stage_exclusion_columns(self, import_id: str, columns: Columns) -> StageCounts:
        """As `stage_exclusions`, for columns; a record is new when any of its exact digests is."""
        ...

    def excluded(
        self, digests: Sequence[tuple[DigestKind, bytes]]
    ) -> set[tuple[DigestKind, bytes]]:
        """Return those that a complete exclusion list names."""
        ...

    def has_exclusions(self) -> bool:
        """Whether any exclusion list counts."""
        ...

    def amend(
        self, import_id: str, case_ref: str, handling: Handling, *, answerable: bool = True
    ) -> None:
        """Set what an incomplete import is held under, once the message that says so came."""
        ...

    def complete(self, import_id: str) -> int:
        """Make the import count; return the new generation. Short whatever the import's size."""
        ...

    def discard(self, import_id: str, limit: int) -> bool:
        """Erase up to ``limit`` staged rows of an incomplete import; True when none are left."""
        ...

    def incomplete(self) -> list[str]: ...


class ItemRepository(Protocol):
    """Items and their holdings."""

    def generation(self) -> int: ...
    def erasures(self) -> int:
        """How often holdings were erased: an answer under way compares it before it discloses."""
        ...

    def digests(self, kind: DigestKind, after: int, limit: int) -> DigestPage:
        """Digests of all items with a holding in a complete import, by item id > after."""
        ...

    def holdings(
        self, items: Sequence[int], *, answerable_only: bool, flag_conflicts: bool = True
    ) -> list[HoldingView]:
        """Holdings of complete imports of these items (any number; done in bounded chunks).

        ``flag_conflicts`` costs another look; only a match by MD5 needs it.
        """
        ...

    def held_under(self, numbers: Iterable[int]) -> dict[int, HeldUnder]:
        """Of imports by number (see HoldingSet), those that are complete and answerable."""
        ...

    def confirmed(self, kind: DigestKind, ids: Ids, rows: Rows) -> npt.NDArray[np.bool_]:
        """Whether complete imports alone state each pair of visible item (n,) and digest."""
        ...

    def conflicting(self, ids: Iterable[int]) -> set[int]:
        """Those whose MD5 another visible item has with another SHA-1 or SHA-256."""
        ...

    def of_series(self, series: str, *, after: int, limit: int, since: int = 0) -> list[ItemRow]:
        """Items of a series by id; ``since`` skips what imports up to that generation held."""
        ...

    def count_of_series(self, series: str, since: int = 0) -> int: ...
    def stats(self) -> Stats: ...
    def erase_series(self, series: str) -> int:
        """Erase the series' holdings, and items that then have none; return items erased."""
        ...

    def erase_items(self, ids: Iterable[int]) -> int:
        """Erase items with all their holdings; return how many there were."""
        ...


# --- series and messages ----------------------------------------------------------------------


class DisclosableSeries(NamedTuple):
    """Of a series what policy may disclose to peers; ``references`` are (scheme, value)."""

    id: str
    name: str
    status: str
    number: str
    contact_name: str
    contact_email: str
    contact_phone: str
    references: tuple[tuple[str, str], ...]


class SeriesRepository(Protocol):
    def add(self, series: Series) -> None: ...
    def get(self, series: str) -> Series | None: ...
    def disclosable(self, numbers: Sequence[int]) -> dict[int, DisclosableSeries]:
        """What peers may learn of series, by their numbers in holdings (see HoldingSet)."""
        ...

    def by_name(self, name: str) -> Series | None:
        """The own series with exactly this name."""
        ...

    def find(self, *, after: str = "", limit: int = 1000) -> list[Series]: ...
    def set_status(self, series: str, status: SeriesStatus) -> None: ...
    def set_number(self, series: str, number: str) -> None: ...
    def set_identified(self, series: str, identified: int) -> None: ...
    def add_references(self, series: str, references: Sequence[ExternalReference]) -> None: ...
    def add_assessment(self, assessment: Assessment) -> None: ...
    def assessments(self, series: str) -> list[Assessment]: ...


class ReferralRepository(Protocol):
    def add(self, referral: Referral) -> None: ...
    def get(self, referral: str) -> Referral | None: ...
    def find(self, direction: Direction | None = None, series: str = "") -> list[Referral]: ...
    def add_step(self, step: ReferralStep) -> bool:
        """Add a step and store the folded state; False when the step's id is known."""
        ...

    def steps(self, referral: str) -> list[ReferralStep]: ...


class UploadRepository(Protocol):
    def add(self, upload: Upload) -> None: ...
    def get(self, upload: str) -> Upload | None: ...
    def find(self, direction: Direction | None = None, series: str = "") -> list[Upload]: ...
    def add_step(self, step: UploadStep) -> bool: ...
    def steps(self, upload: str) -> list[UploadStep]: ...
    def next_number(self) -> int:
        """A repository's next series number, from 1, without gaps or repeats."""
        ...


class BroadcastRepository(Protocol):
    def add(self, broadcast: Broadcast, recipients: Sequence[str]) -> None: ...
    def get(self, broadcast: str) -> Broadcast | None: ...
    def find(self, direction: Direction | None = None) -> list[Broadcast]: ...
    def set_recipient(self, broadcast: str, agency: str, state: BroadcastRecipientState) -> None:
        """Move one recipient's state; never back (queued, delivered, acknowledged, answered).

        A broadcast that came in moves its own ``state``, whatever the agency.
        """
        ...

    def recipients(self, broadcast: str) -> dict[str, BroadcastRecipientState]: ...
    def add_answer(self, answer: BroadcastAnswer) -> bool: ...
    def answers(self, broadcast: str) -> list[BroadcastAnswer]: ...


class OutboxRepository(Protocol):
    def add(self, message: OutMessage) -> OutMessage:
        """Queue a message; return it with its sequence."""
        ...

    def due(self, recipient: str, limit: int) -> list[OutMessage]:
        """Queued messages for a recipient: lanes by urgency, then sequence."""
        ...

    def settle(self, message: str, state: OutState, at: datetime, reason: str = "") -> None: ...
    def get(self, message: str) -> OutMessage | None: ...
    def find(self, *, state: OutState | None = None, limit: int = 1000) -> list[OutMessage]: ...
    def of_subject(self, subject: str) -> Sequence[OutMessage]:
        """Messages that belong to a referral, upload or broadcast, oldest first."""
        ...

    def destinations(self) -> list[Destination]:
        """Every recipient with queued messages or a back-off."""
        ...

    def back_off(self, recipient: str, attempts: int, until: datetime, error: str) -> None: ...
    def clear_back_off(self, recipient: str) -> None: ...


class InboxRepository(Protocol):
    def get(self, sender: str, message: str) -> InMessage | None: ...
    def by_subject(self, subject: str) -> list[InMessage]: ...
    def add(self, message: InMessage) -> None: ...


@dataclass(frozen=True, slots=True)
class Attachment:
    """Chunks of items that belong to a message. ``id`` is hex SHA-256 over the id of the series
    and the SHA-256 of the chunks in order. At the sender chunks are kept as sent; at the receiver
    they are staged under ``import_id`` as they come, and only their digests are kept."""

    id: str
    peer: str
    chunks: int
    items: int
    import_id: str = ""
    series: str = ""


class AttachmentRepository(Protocol):
    def add_outgoing(self, attachment: Attachment, chunks: Sequence[bytes]) -> None: ...
    def outgoing(self, attachment: str) -> Attachment | None: ...
    def chunk(self, attachment: str, index: int) -> bytes | None: ...
    def open_incoming(self, attachment: Attachment, at: datetime) -> None: ...
    def incoming(self, peer: str, attachment: str) -> Attachment | None: ...
    def received(self, peer: str, attachment: str) -> list[bytes]:
        """SHA-256 of each chunk staged so far, in order; the next index is its length."""
        ...

    def add_received(self, peer: str, attachment: str, index: int, digest: bytes) -> None: ...
    def close_incoming(self, peer: str, attachment: str) -> None: ...
    def open_of(self, peer: str) -> int:
        """Return how many attachments of a peer are being received."""
        ...

    def opened_before(self, at: datetime) -> Sequence[Attachment]:
        """Return what began to come in before a time."""
        ...

    def staged_imports(self) -> Sequence[str]:
        """Import ids of incoming attachments that are still open: not leftovers."""
        ...


# --- people, queries, audit -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operator:
    """A person of the own agency. ``serials`` are certificates issued; revoked people have none."""

    name: str
    roles: tuple[str, ...]
    serials: tuple[int, ...]
    created: datetime
    revoked: datetime | None = None


class OperatorRepository(Protocol):
    def put(self, operator: Operator) -> None: ...
    def get(self, name: str) -> Operator | None: ...
    def find(self) -> list[Operator]: ...


@dataclass(frozen=True, slots=True)
class AnsweredQuery:
    """A query as this node answered it: the header proves what was asked."""

    request: str
    peer: str
    person: str
    purpose: str
    case_ref: str
    header_digest: bytes
    header: bytes
    records: int
    hits: int
    receipt: bytes
    at: datetime


class QueryRepository(Protocol):
    def reserve(self, request: str, peer: str, header_digest: bytes, at: datetime) -> bool:
        """Remember a request id; False when (peer, request) is known with the same header.

        Raises RequestIdReused when it is known with another header.
        """
        ...

    def finish(self, query: AnsweredQuery) -> None: ...
    def answered(self, peer: str, request: str) -> AnsweredQuery | None: ...
    def find(self, limit: int = 1000) -> list[AnsweredQuery]: ...


class AuditRepository(Protocol):
    def append(self, entry: AuditEntry) -> None:
        """Add an entry in this transaction; its position is fixed by the commit (on PostgreSQL
        by the sequencer, within a second)."""
        ...

    def size(self) -> int: ...
    def root(self) -> bytes:
        """The Merkle tree hash over all entries (RFC 6962, section 2.1)."""
        ...

    def records(self, start: int, limit: int) -> list[AuditRecord]: ...


class MetaRepository(Protocol):
    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str) -> None: ...


class Tx(Protocol):
    """One transaction."""

    @property
    def imports(self) -> ImportRepository: ...
    @property
    def items(self) -> ItemRepository: ...
    @property
    def series(self) -> SeriesRepository: ...
    @property
    def referrals(self) -> ReferralRepository: ...
    @property
    def uploads(self) -> UploadRepository: ...
    @property
    def broadcasts(self) -> BroadcastRepository: ...
    @property
    def outbox(self) -> OutboxRepository: ...
    @property
    def inbox(self) -> InboxRepository: ...
    @property
    def attachments(self) -> AttachmentRepository: ...
    @property
    def operators(self) -> OperatorRepository: ...
    @property
    def queries(self) -> QueryRepository: ...
    @property
    def audit(self) -> AuditRepository: ...
    @property
    def meta(self) -> MetaRepository: ...


class Index(Protocol):
    """How far the index of a store has come."""

    @property
    def failure(self) -> str | None:
        """Why it could not follow, in words."""
        ...

    def refresh(self, *, wait: bool = False) -> int:
        """Bring it up to what is committed; return the generation that answers reflect.

        While a start's catch-up runs, returns what it has reached unless told to ``wait``. Raises
        StorageUnavailable while it is being rebuilt.
        """
        ...

    def reflected(self) -> int:
        """The generation that answers reflect at this moment, however old."""
        ...

    def stored(self) -> int:
        """The generation of what is committed."""
        ...

    def start(self) -> None:
        """Make it usable when the node starts, in the background where that takes long."""
        ...


class Store(Protocol):
    """The durable truth. Raises StorageUnavailable when a write could not be made durable."""

    @property
    def index(self) -> Index:
        """The index that follows this store."""
        ...

    def read(self, work: Callable[[Tx], T]) -> T: ...
    def write(self, work: Callable[[Tx], T]) -> T: ...
    def drain(self) -> None:
        """Return once every committed audit entry has its position."""
        ...

    def close(self) -> None: ...


# --- matching ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExactHits:
    """Pairs, positions ascending; a digest that several items share gives several pairs."""

    positions: Ids
    item_ids: Ids


@dataclass(frozen=True, slots=True)
class NearHits:
    """Pairs with their Hamming distance; ``truncated`` are positions whose answers were capped."""

    positions: Ids
    item_ids: Ids
    distances: npt.NDArray[np.int32]
    truncated: Ids


HoldingSet = tuple[tuple[int, int], ...]
"""Pairs (number of an import, number of a series or 0) under which an item is held, ascending."""


class Matching(Protocol):
    """Derived from storage; never the truth. Storage keeps it in step (storage/index_feed.py)."""

    @property
    def applied(self) -> int:
        """Number of storage's last change that answers reflect; 0: it has to be rebuilt."""
        ...

    def add(self, kind: DigestKind, item_ids: Ids, digests: Rows) -> None: ...
    def erase(self, item_ids: Ids) -> None: ...
    def exact(self, kind: DigestKind, digests: Rows) -> ExactHits: ...
    def near(self, digests: Rows, radius: int = 31, cap: int = 100) -> NearHits: ...
    def holdings(self, item_ids: Ids) -> npt.NDArray[np.uint32]:
        """Return the number of each item's holding set; 0 is the empty one."""
        ...

    def holding_set(self, number: int) -> HoldingSet: ...
    def holding_numbers(self, sets: Iterable[HoldingSet]) -> npt.NDArray[np.uint32]: ...
    def hold(self, item_ids: Ids, numbers: npt.NDArray[np.uint32]) -> None: ...
    def rebuild(self, source: Iterable[tuple[DigestKind, Ids, Rows]], applied: int) -> None: ...
    def set_applied(self, applied: int) -> None: ...
    def merge_if_due(self) -> bool:
        """Start a merge in the background when enough has changed since the snapshot."""
        ...

    def tidy_if_idle(self) -> bool:
        """Put what grew in parts together, in the background, when nothing is being added."""
        ...

    def wait_for_room(self) -> None:
        """Return once so little is pending that more may be added in bounded memory."""
        ...


class Clock(Protocol):
    """The time, so that tests can turn it. Always UTC."""

    def __call__(self) -> datetime: ...
