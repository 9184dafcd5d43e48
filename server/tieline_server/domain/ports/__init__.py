"""What the services need from the outside, as Protocols: storage, matching, signing, peers.

Storage story: ``store.read(work)`` and ``store.write(work)`` run ``work(tx)`` in one transaction;
``write`` returns only after the commit is durable, and on SQLite several callers' works share one
commit. ``work`` may be run again after a serialisation failure, so it does nothing but use ``tx``.
Every repository hangs off ``tx``; each returns and takes the frozen dataclasses of this package.
"""

from tieline_server.domain.ports.budgets import BudgetRepository
from tieline_server.domain.ports.clues import ClueRepository
from tieline_server.domain.ports.exchange import (
    Attachment,
    AttachmentRepository,
    BroadcastRepository,
    DisclosableSeries,
    InboxRepository,
    OutboxRepository,
    ReferralRepository,
    SeriesRepository,
    SeriesTerms,
    UploadRepository,
)
from tieline_server.domain.ports.items import (
    DigestPage,
    HeldUnder,
    HoldingView,
    ImportHead,
    ImportRepository,
    ImportRow,
    ItemRepository,
    ItemRow,
    StageCounts,
    Stats,
)
from tieline_server.domain.ports.matching import (
    Distances,
    ExactHits,
    HoldingSet,
    Ids,
    Matching,
    NearHits,
    Rows,
)
from tieline_server.domain.ports.operations import OperationRepository
from tieline_server.domain.ports.people import (
    AnsweredQuery,
    AuditRepository,
    MetaRepository,
    Operator,
    OperatorRepository,
    QueryRepository,
)
from tieline_server.domain.ports.requests import RequestRepository
from tieline_server.domain.ports.retraction import (
    Erased,
    ErasureRepository,
    Purge,
    RetractionRecipient,
    RetractionRepository,
    TombstoneLedger,
)
from tieline_server.domain.ports.store import (
    Clock,
    Index,
    Record,
    Store,
    Tx,
)

__all__ = [
    "AnsweredQuery",
    "Attachment",
    "AttachmentRepository",
    "AuditRepository",
    "BroadcastRepository",
    "BudgetRepository",
    "Clock",
    "ClueRepository",
    "OperationRepository",
    "DigestPage",
    "Distances",
    "DisclosableSeries",
    "Erased",
    "ErasureRepository",
    "ExactHits",
    "HeldUnder",
    "HoldingSet",
    "HoldingView",
    "Ids",
    "ImportHead",
    "ImportRepository",
    "ImportRow",
    "InboxRepository",
    "Index",
    "ItemRepository",
    "ItemRow",
    "Matching",
    "MetaRepository",
    "NearHits",
    "Operator",
    "OperatorRepository",
    "OutboxRepository",
    "Purge",
    "QueryRepository",
    "ReferralRepository",
    "RequestRepository",
    "RetractionRecipient",
    "RetractionRepository",
    "Rows",
    "SeriesRepository",
    "SeriesTerms",
    "StageCounts",
    "Stats",
    "Store",
    "Record",
    "TombstoneLedger",
    "Tx",
    "UploadRepository",
]
