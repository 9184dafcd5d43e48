"""Series, referrals, uploads, broadcasts, and the messages that carry them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from tieline_client.handling import Handling

from tieline_server.domain.broadcast import Broadcast, BroadcastAnswer, BroadcastRecipientState
from tieline_server.domain.messages import (
    Destination,
    InMessage,
    OutMessage,
    OutState,
    Settled,
    StoredReply,
)
from tieline_server.domain.referral import Direction, Referral, ReferralStep, Urgency
from tieline_server.domain.series import Assessment, ExternalReference, Series, SeriesStatus
from tieline_server.domain.upload import Upload, UploadStep


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


class SeriesTerms(NamedTuple):
    """What restricts a series' items beyond what each was imported under. ``only`` None: nobody is
    left out."""

    id: str
    handling: Handling
    withdrawn: bool
    only: frozenset[str] | None


class SeriesRepository(Protocol):
    def add(self, series: Series) -> None: ...
    def get(self, series: str) -> Series | None: ...
    def disclosable(self, numbers: Sequence[int]) -> dict[int, DisclosableSeries]:
        """What peers may learn of series, by their numbers in holdings (see HoldingSet)."""
        ...

    def terms(self, numbers: Iterable[int]) -> dict[int, SeriesTerms]:
        """What restricts series, by their numbers in holdings; those that have a row."""
        ...

    def set_handling(self, series: str, handling: Handling) -> None: ...
    def existing(self, series: Iterable[str]) -> set[str]:
        """Those that exist; in a writing transaction they stay until the end."""
        ...

    def by_name(self, name: str) -> Series | None:
        """The own series with exactly this name."""
        ...

    def by_names(self, names: Iterable[str]) -> dict[str, Series]:
        """The own series with these names."""
        ...

    def find(self, *, after: str = "", limit: int = 1000) -> list[Series]: ...
    def set_status(self, series: str, status: SeriesStatus) -> None: ...
    def set_number(self, series: str, number: str) -> None: ...
    def numbered(self, number: str) -> list[str]:
        """The series that bear a repository's number, by id."""
        ...

    def set_identified(self, series: str, identified: int) -> None: ...
    def add_references(self, series: str, references: Sequence[ExternalReference]) -> None: ...
    def add_assessment(self, assessment: Assessment) -> None: ...
    def put_assessment(self, assessment: Assessment) -> None: ...
    def assessments(self, series: str) -> list[Assessment]: ...


class ReferralRepository(Protocol):
    def add(self, referral: Referral) -> None: ...
    def get(self, referral: str) -> Referral | None: ...
    def find(self, direction: Direction | None = None, series: str = "") -> list[Referral]: ...
    def was_sent(self, series: str) -> bool:
        """Whether a referral of the series went out from here."""
        ...

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

    def number_used(self, number: int) -> None:
        """Let the next number be above this one."""
        ...


class BroadcastRepository(Protocol):
    def add(self, broadcast: Broadcast, recipients: Sequence[str]) -> None: ...
    def get(self, broadcast: str) -> Broadcast | None: ...
    def find(self, direction: Direction | None = None, series: str = "") -> list[Broadcast]: ...
    def set_recipient(self, broadcast: str, agency: str, state: BroadcastRecipientState) -> None:
        """Move one recipient's state; never back (queued, delivered, acknowledged, answered).

        A broadcast that came in moves its own ``state``, whatever the agency.
        """
        ...

    def settle_recipient(
        self, broadcasts: Sequence[str], agency: str, state: BroadcastRecipientState
    ) -> None:
        """Move a recipient of these on from queued; who has done more already stays."""
        ...

    def add_recipient(self, broadcast: str, agency: str) -> None: ...
    def recipients(self, broadcast: str) -> dict[str, BroadcastRecipientState]: ...
    def add_answer(self, answer: BroadcastAnswer) -> bool: ...
    def answers(self, broadcast: str) -> list[BroadcastAnswer]: ...
    def claimed_to(self, series: str) -> list[str]:
        """The hubs that this agency told, in answer to a broadcast, that it has a series."""
        ...


class OutboxRepository(Protocol):
    def add(self, message: OutMessage) -> OutMessage:
        """Queue a message; return it with its sequence."""
        ...

    def add_for(self, message: OutMessage, recipients: Iterable[str]) -> None:
        """Queue one message for each of several recipients, each in its place there. Raises
        AlreadyStored."""
        ...

    def due(self, recipient: str, limit: int, most_bytes: int = 1 << 62) -> list[OutMessage]:
        """Queued messages for a recipient: lanes by urgency, then sequence."""
        ...

    def queued(self, recipient: str, messages: Collection[str]) -> set[str]:
        """Those of these messages that are still to be delivered."""
        ...

    def most_urgent(self, recipient: str) -> Urgency | None:
        """The lane of the message that is due first."""
        ...

    def behind(
        self, recipient: str, subjects: Collection[str], *, passing: Collection[str] = ()
    ) -> dict[str, tuple[OutState, datetime | None]]:
        """Which of these subjects have a message that is parked, or put off and until when; those
        of the kinds ``passing`` hold nothing up."""
        ...

    def settle(
        self, recipient: str, message: str, state: OutState, at: datetime, reason: str = ""
    ) -> None: ...
    def settle_all(self, recipient: str, settled: Iterable[Settled], at: datetime) -> None: ...
    def hold(
        self, recipient: str, message: str, until: datetime, reason: str, *, tried: bool = True
    ) -> None:
        """Put a queued message off, counting an attempt where it was ``tried``."""
        ...

    def renew(self, recipient: str, message: str, envelope: bytes) -> bool:
        """Put another signature in the place of the one before; False when it is not queued."""
        ...

    def held(self, recipient: str) -> datetime | None:
        """Until when the first message that is put off waits."""
        ...

    def release(self, recipient: str, until: datetime) -> None:
        """Let go what was put off until then, or before."""
        ...

    def get(self, recipient: str, message: str) -> OutMessage | None: ...
    def find(
        self,
        *,
        state: OutState | None = None,
        limit: int = 1000,
        before: tuple[str, str] | None = None,
    ) -> list[OutMessage]:
        """Messages without their envelopes, newest first, below a place (id, recipient)."""
        ...

    def of_subject(self, subject: str) -> Sequence[OutMessage]:
        """Messages that belong to a referral, upload or broadcast, oldest first."""
        ...

    def destinations(self) -> list[Destination]:
        """Every recipient with queued messages or a back-off."""
        ...

    def waiting(self) -> list[str]:
        """Every recipient with queued messages, without counting them."""
        ...

    def destination(self, recipient: str) -> Destination:
        """What is remembered of one recipient, without what is queued."""
        ...

    def back_off(self, recipient: str, attempts: int, until: datetime, error: str) -> None: ...
    def clear_back_off(self, recipient: str) -> None: ...
    def progressed(self, recipient: str, count: int, at: datetime) -> None:
        """Count messages settled since the queue began to move; the back-off is over."""
        ...

    def caught_up(self, recipient: str) -> None:
        """The queue is empty."""
        ...


class InboxRepository(Protocol):
    def get(self, sender: str, message: str) -> InMessage | None: ...
    def replies(self, sender: str, messages: Sequence[str]) -> dict[str, StoredReply]:
        """What was said to those of these messages that came before, by id."""
        ...

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
