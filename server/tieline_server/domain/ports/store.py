"""The store, its transactions, its index, and the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol, TypeVar

from tieline_server.domain.ports.alarms import AlarmRepository
from tieline_server.domain.ports.budgets import BudgetRepository
from tieline_server.domain.ports.clues import ClueRepository
from tieline_server.domain.ports.deposits import DepositRepository
from tieline_server.domain.ports.exchange import (
    AttachmentRepository,
    BroadcastRepository,
    InboxRepository,
    OutboxRepository,
    ReferralRepository,
    SeriesRepository,
    UploadRepository,
)
from tieline_server.domain.ports.exports import ExportRepository
from tieline_server.domain.ports.items import ImportRepository, ItemRepository
from tieline_server.domain.ports.operations import OperationRepository
from tieline_server.domain.ports.people import (
    AuditRepository,
    MetaRepository,
    OperatorRepository,
    QueryRepository,
)
from tieline_server.domain.ports.requests import RequestRepository
from tieline_server.domain.ports.retraction import ErasureRepository, RetractionRepository
from tieline_server.domain.ports.same_as import SameAsRepository
from tieline_server.domain.ports.series_work import (
    AliasRepository,
    HistoryRepository,
    NoteRepository,
    SplitRepository,
    VoteRepository,
)
from tieline_server.domain.ports.sketches import SketchRepository
from tieline_server.domain.ports.standings import StandingRepository
from tieline_server.domain.ports.watches import WatchRepository
from tieline_server.domain.ports.witness import HoldRepository, WitnessRepository

T = TypeVar("T")


class Tx(Protocol):
    """One transaction."""

    @property
    def imports(self) -> ImportRepository: ...
    @property
    def items(self) -> ItemRepository: ...
    @property
    def exports(self) -> ExportRepository: ...
    @property
    def series(self) -> SeriesRepository: ...
    @property
    def history(self) -> HistoryRepository: ...
    @property
    def deposits(self) -> DepositRepository: ...
    @property
    def aliases(self) -> AliasRepository: ...
    @property
    def splits(self) -> SplitRepository: ...
    @property
    def votes(self) -> VoteRepository: ...
    @property
    def same_as(self) -> SameAsRepository: ...
    @property
    def notes(self) -> NoteRepository: ...
    @property
    def referrals(self) -> ReferralRepository: ...
    @property
    def uploads(self) -> UploadRepository: ...
    @property
    def broadcasts(self) -> BroadcastRepository: ...
    @property
    def clues(self) -> ClueRepository: ...
    @property
    def operations(self) -> OperationRepository: ...
    @property
    def watches(self) -> WatchRepository: ...
    @property
    def outbox(self) -> OutboxRepository: ...
    @property
    def inbox(self) -> InboxRepository: ...
    @property
    def retractions(self) -> RetractionRepository: ...
    @property
    def erasure(self) -> ErasureRepository: ...
    @property
    def attachments(self) -> AttachmentRepository: ...
    @property
    def standings(self) -> StandingRepository: ...
    @property
    def operators(self) -> OperatorRepository: ...
    @property
    def queries(self) -> QueryRepository: ...
    @property
    def audit(self) -> AuditRepository: ...
    @property
    def sketches(self) -> SketchRepository: ...
    @property
    def budgets(self) -> BudgetRepository: ...
    @property
    def holds(self) -> HoldRepository: ...
    @property
    def witness(self) -> WitnessRepository: ...
    @property
    def meta(self) -> MetaRepository: ...
    @property
    def alarms(self) -> AlarmRepository: ...
    @property
    def requests(self) -> RequestRepository: ...
    def savepoint(self) -> AbstractContextManager[None]:
        """A part of the transaction: what is raised inside undoes what was done inside, no more."""
        ...


class Record(Protocol):
    """One transaction that adds to what is recorded of questions, and changes nothing else."""

    @property
    def queries(self) -> QueryRepository: ...
    @property
    def requests(self) -> RequestRepository: ...
    @property
    def alarms(self) -> AlarmRepository: ...
    @property
    def audit(self) -> AuditRepository: ...
    @property
    def sketches(self) -> SketchRepository: ...
    @property
    def budgets(self) -> BudgetRepository: ...
    def erasures(self) -> int:
        """As `ItemRepository.erasures`."""
        ...


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

    def catch_up(self) -> None:
        """Return once it has what other processes committed, as staging needs it.

        Raises StorageUnavailable while it is being rebuilt.
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


class KnownGood(Protocol):
    """The index of the exclusion lists of a store."""

    def start(self) -> None:
        """Bring it up to date when the node starts, in the background where that takes long."""
        ...

    def wait_for_room(self) -> None:
        """Return once more may be staged in bounded memory."""
        ...

    def tidy_if_idle(self) -> None:
        """Put what grew in parts together, when nothing is being added."""
        ...

    def purge(self) -> bool:
        """Return once no file of it holds digests of a list that is gone; False while it is being
        brought up to date, which takes long."""
        ...


class Store(Protocol):
    """The durable truth. Raises StorageUnavailable when a write could not be made durable."""

    @property
    def index(self) -> Index:
        """The index that follows this store."""
        ...

    @property
    def known_good(self) -> KnownGood:
        """The index of its exclusion lists."""
        ...

    def read(self, work: Callable[[Tx], T]) -> T: ...
    def remembered(self) -> MutableMapping[Hashable, Any]:
        """Room for what was read, or follows from it, for as long as it is so: forgotten as soon as
        `write` has changed something, empty each time where other processes write too. Take it
        before reading."""
        ...

    def recall(self, key: Hashable, work: Callable[[Tx], T]) -> T:
        """Return what `read` would, by way of `remembered`."""
        ...

    def write(self, work: Callable[[Tx], T]) -> T: ...
    def note(self, work: Callable[[Record], T]) -> T:
        """As `write`, for the record alone: what `recall` remembers stays."""
        ...

    @property
    def damaged(self) -> bool:
        """Whether the database was found damaged. From then on StorageCorrupt refuses all."""
        ...

    def look_through(self) -> None:
        """Look for damage, in the background where that takes long."""
        ...

    def drain(self) -> None:
        """Return once every committed audit entry has its position."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other processes may use this database."""
        ...

    @property
    def left(self) -> str:
        """What the last `scrub` could not reach, in words; usually nothing."""
        ...

    def scrub(self) -> bool:
        """Rewrite the database's own files so that nothing which was erased before the call is left
        in them; False when somebody still reads what was, or it is too soon: call it again later.

        Raises StorageUnavailable.
        """
        ...

    def close(self) -> None: ...


class Clock(Protocol):
    """The time, so that tests can turn it. Always UTC."""

    def __call__(self) -> datetime: ...
