"""One row for each method of each service: on which listener, for whom, how long, how many.

Unlisted means denied: a method without a row is answered UNKNOWN_METHOD even when it is served. A
test walks the descriptors and fails for a method without a row and a row without a method.

The health service's Watch has no row: a stream that never ends cannot be bounded. Reflection has
none either.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tieline_client import limits
from tieline_client.errors import RoleRefused, UnknownMethod

from tieline_server.rpc.call import Caller


class Listener(enum.Enum):
    """Which port."""

    FEDERATION = "federation"
    OPERATOR = "operator"


class Weight(enum.Enum):
    """What a call holds while it lasts; each has its cap per caller (peer_limits.py)."""

    SINGLE = "single"
    STREAM = "stream"
    STANDING = "standing"
    """A stream that a node which only calls out keeps open."""
    RELAYED = "relayed"
    """One side of a connection to such a node."""


STANDING = frozenset({Weight.STANDING, Weight.RELAYED})
"""What lasts: worked on by threads of their own and counted apart from other calls."""


BOTH = frozenset(Listener)
ANALYST, OFFICER, AUDITOR, ADMIN = "analyst", "officer", "auditor", "admin"
ROLES = frozenset({ANALYST, OFFICER, AUDITOR, ADMIN})
_READERS = frozenset({ANALYST, OFFICER})


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method, and within which bounds.

    ``roles`` are those of persons of which one is needed; nodes have none, so they count on the
    operator port only. ``seconds`` is the whole call's bound, ``idle`` that of a silent or blocked
    stream; ``silence``, where given, that of a silent one alone.
    """

    listeners: frozenset[Listener]
    roles: frozenset[str] = ROLES
    seconds: float = limits.UNARY_SECONDS
    idle: float = limits.STREAM_IDLE_SECONDS
    weight: Weight = Weight.SINGLE
    silence: float | None = None
    batches: bool = False
    """Whether the servicer takes requests that are a batch of digests as a DigestBatch."""
    past_expiry: bool = False
    """Whether it is answered while the directory has expired."""


def _peer(seconds: float, weight: Weight = Weight.SINGLE, *, batches: bool = False) -> Rule:
    return Rule(frozenset({Listener.FEDERATION}), seconds=seconds, weight=weight, batches=batches)


def _relayed() -> Rule:
    return Rule(
        frozenset({Listener.FEDERATION}),
        seconds=limits.RELAY_SECONDS,
        weight=Weight.RELAYED,
        silence=limits.RELAY_SILENCE_SECONDS,
    )


def _person(roles: frozenset[str], seconds: float = limits.OPERATOR_SECONDS) -> Rule:
    return Rule(frozenset({Listener.OPERATOR}), roles=roles, seconds=seconds)


def _person_stream(roles: frozenset[str], seconds: float, *, batches: bool = False) -> Rule:
    return Rule(
        frozenset({Listener.OPERATOR}),
        roles=roles,
        seconds=seconds,
        weight=Weight.STREAM,
        batches=batches,
    )


_EXCHANGE = {
    "Hello": _peer(limits.HELLO_SECONDS),
    "Overlap": _peer(limits.QUERY_SECONDS, Weight.STREAM, batches=True),
    "OverlapBrief": _peer(limits.QUERY_SECONDS),
}
_DELIVERY = {
    "Deliver": _peer(limits.DELIVER_SECONDS),
    "DeliverBatch": _peer(limits.DELIVER_SECONDS),
    "Contact": _peer(limits.UNARY_SECONDS),
    "FetchSent": _peer(limits.QUERY_SECONDS, Weight.STREAM),
    "PutChunk": _peer(limits.DELIVER_SECONDS),
}
_AUDIT = {
    "SwapCheckpoints": _peer(limits.UNARY_SECONDS),
    "Countersign": _peer(limits.UNARY_SECONDS),
    "GetConsistency": _peer(limits.UNARY_SECONDS),
}
_RELAY = {
    "Attach": _peer(limits.RELAY_SECONDS, Weight.STANDING),
    "Carry": _relayed(),
    "Connect": _relayed(),
}
_DIRECTORY = {
    "FetchFiles": replace(_peer(limits.DIRECTORY_CALL_SECONDS, Weight.STREAM), past_expiry=True),
    "SubmitOwn": replace(_peer(limits.UNARY_SECONDS), past_expiry=True),
}
_OPERATOR = {
    "Import": _person_stream(frozenset({ANALYST}), limits.IMPORT_SECONDS),
    "ListImports": _person(_READERS | {AUDITOR}),
    "RemoveImport": _person(frozenset({OFFICER})),
    "GetStats": _person(ROLES),
    "GetStatus": _person(ROLES),
    "ListPeers": _person(ROLES),
    "GetAskTerms": _person(frozenset({ANALYST})),
    "AskOverlap": _person_stream(frozenset({ANALYST}), limits.ASK_SECONDS, batches=True),
    "AskBrief": _person_stream(frozenset({ANALYST}), limits.ASK_SECONDS),
    "CompareCollection": _person_stream(frozenset({ANALYST}), limits.COLLECTION_SECONDS),
    "ListSeries": _person(_READERS),
    "GetSeries": _person(_READERS),
    "CreateSeries": _person(frozenset({ANALYST})),
    "AssessSeries": _person(frozenset({ANALYST})),
    "SetSeriesStatus": _person(_READERS),
    "MergeSeries": _person(frozenset({OFFICER})),
    "SplitSeries": _person(frozenset({OFFICER})),
    "ListSameAs": _person(_READERS),
    "AnswerSameAs": _person(frozenset({OFFICER})),
    "AddNote": _person(frozenset({OFFICER})),
    "RetractSeries": _person(frozenset({OFFICER})),
    "ReferSeries": _person(frozenset({OFFICER})),
    "ListInbox": _person(_READERS),
    "GetInboxEntry": _person(_READERS),
    "StepReferral": _person(frozenset({OFFICER})),
    "AnswerBroadcast": _person(frozenset({OFFICER})),
    "ListOutbox": _person(_READERS | {ADMIN}),
    "ListClock": _person(_READERS),
    "GetClockReport": _person(_READERS),
    "TellOutside": _person(frozenset({OFFICER})),
    "BroadcastSeries": _person(frozenset({OFFICER})),
    "ListBroadcasts": _person(_READERS),
    "UploadSeries": _person(frozenset({OFFICER})),
    "ListUploads": _person(_READERS),
    "StepUpload": _person(frozenset({OFFICER})),
    "ListRequests": _person(_READERS),
    "GetRequest": _person(_READERS),
    "DecideRequest": _person(frozenset({OFFICER})),
    "AskPermission": _person(frozenset({OFFICER})),
    "StateVitalInterests": _person(frozenset({OFFICER})),
    "ExportSeries": _person_stream(frozenset({OFFICER}), limits.EXPORT_SECONDS),
    "ReconcileDeposits": _person_stream(frozenset({OFFICER}), limits.EXPORT_SECONDS),
    "RecordDrop": _person(frozenset({OFFICER})),
    "TakeAnswer": _person(frozenset({OFFICER})),
    "AddClue": _person(frozenset({ANALYST})),
    "PublishClue": _person(frozenset({OFFICER})),
    "ListClues": _person(_READERS),
    "ListPublishedClues": _person(frozenset({OFFICER})),
    "AddTips": _person(frozenset({ANALYST})),
    "ListTips": _person(_READERS),
    "JudgeTip": _person(frozenset({ANALYST})),
    "RelayTips": _person(frozenset({OFFICER})),
    "CreateOperation": _person(frozenset({OFFICER})),
    "AddOperationSeries": _person(_READERS),
    "AssignEvaluation": _person(_READERS),
    "ListOperations": _person(_READERS),
    "GetOperation": _person(_READERS),
    "ReportOperation": _person(_READERS),
    "AddWatch": _person_stream(frozenset({ANALYST}), limits.ASK_SECONDS),
    "ListWatches": _person(_READERS),
    "GetWatch": _person(_READERS),
    "RemoveWatch": _person(frozenset({ANALYST})),
    "RunWatches": _person(frozenset({ANALYST}), limits.WATCH_RUN_SECONDS),
    "AddOperator": _person(frozenset({ADMIN})),
    "GetAccess": _person(ROLES),
    "ListOperators": _person(frozenset({ADMIN, AUDITOR})),
    "ListBudgets": _person(ROLES),
    "SetBudget": _person(frozenset({ADMIN})),
    "RevokeOperator": _person(frozenset({ADMIN})),
    "Examine": _person(ROLES, limits.EXAMINE_SECONDS),
    "GetAuditHead": _person(frozenset({AUDITOR})),
    "ListAuditEntries": _person_stream(frozenset({AUDITOR}), limits.AUDIT_STREAM_SECONDS),
}
_AUDITOR = {
    "ListEvidence": _person_stream(frozenset({AUDITOR}), limits.AUDIT_STREAM_SECONDS),
    "ListWitnesses": _person(frozenset({AUDITOR})),
    "GetInclusionProof": _person(frozenset({AUDITOR})),
    "GetConsistencyProof": _person(frozenset({AUDITOR})),
    "GetReceipt": _person(frozenset({ANALYST, AUDITOR})),
    "ListAsked": _person_stream(frozenset({AUDITOR}), limits.AUDIT_STREAM_SECONDS),
    "HoldEntries": _person(frozenset({AUDITOR})),
    "ReleaseHold": _person(frozenset({AUDITOR})),
    "ListHolds": _person(frozenset({AUDITOR})),
    "SearchEntries": _person(frozenset({AUDITOR}), limits.AUDIT_SEARCH_SECONDS),
}
_PROFILE = {"RenewCertificate": _person(ROLES)}
_HEALTH = {"Check": Rule(BOTH, seconds=limits.HELLO_SECONDS, past_expiry=True)}

RULES: Mapping[str, Rule] = {
    f"/{service}/{method}": rule
    for service, rows in {
        "tieline.v1.ExchangeService": _EXCHANGE,
        "tieline.v1.DeliveryService": _DELIVERY,
        "tieline.v1.AuditService": _AUDIT,
        "tieline.v1.RelayService": _RELAY,
        "tieline.v1.DirectoryService": _DIRECTORY,
        "tieline.v1.OperatorService": _OPERATOR,
        "tieline.v1.AuditorService": _AUDITOR,
        "tieline.v1.ProfileService": _PROFILE,
        "grpc.health.v1.Health": _HEALTH,
    }.items()
    for method, rule in rows.items()
}
"""Full method name, as gRPC gives it, to its row."""


def find_rule(
    method: str, listener: Listener, caller: Caller, rules: Mapping[str, Rule] = RULES
) -> Rule:
    """Return the row that lets this caller use the method on this listener.

    Raises UnknownMethod for a method without a row or of the other listener, RoleRefused for a
    person without the role. A person on the federation port, or a node on the operator port, never
    comes here: their certificates are of the wrong kind.
    """
    rule = rules.get(method)
    if rule is None or listener not in rule.listeners:
        raise UnknownMethod(
            f"{method[: limits.NAME_CHARS]} is not served on the {listener.value} port;"
            " compare the versions of both sides"
        )
    if listener is Listener.OPERATOR and not caller.roles & rule.roles:
        name = method.rpartition("/")[2]
        raise RoleRefused(
            f"{name} needs the role {' or '.join(sorted(rule.roles))}; {caller.operator} has"
            f" {', '.join(sorted(caller.roles)) or 'none'}; ask an admin of your agency"
        )
    return rule
