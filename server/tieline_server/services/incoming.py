"""What every handler of a message that came in works with: the message, and steps they share.

A handler checks what a message says and returns its subject and its effect. It raises InvalidInput,
RefusedError or WrongState for what will never be applied, NotYet or NotFound for what may be later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2, series_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, SignatureRefused, TielineError, WrongState
from tieline_client.handling import Handling, is_within, stricter
from tieline_client.identifiers import series_owner
from tieline_client.payloads import Audience, moment, open_payload

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Origin, Series
from tieline_server.services import attachments, judgements
from tieline_server.services.context import Node
from tieline_server.services.correcting import correct, was_told
from tieline_server.services.likely import standing_countries
from tieline_server.services.notices import handling_in, series_in
from tieline_server.services.restricting import received


@dataclass(frozen=True, slots=True)
class Message:
    """A verified message of ``peer``."""

    peer: str
    payload: payload_pb2.Payload
    request: delivery_pb2.DeliverRequest
    woken: set[str] = field(default_factory=set)
    """Who has mail once the effect is durable."""
    moved: set[str] = field(default_factory=set)
    """Series of which items came that a split had put elsewhere."""

    @property
    def kind(self) -> str:
        """The name of its body."""
        return self.payload.WhichOneof("body") or ""


Effect = Callable[[Tx], None]
Handled = tuple[str, Effect]
"""The id of what the message is about, and what it does, inside the transaction of its row."""


class NotYet(TielineError):
    """It cannot be applied now; the sender tries again."""

    reason = "WRONG_STATE"


def told_series(
    node: Node, notice: series_pb2.SeriesNotice, origin: Origin, case_ref: str
) -> Series:
    """Return a series that somebody tells us of; raise InvalidInput when it is ours, or past."""
    if series_owner(notice.id) == node.agency:
        raise InvalidInput("the series is this agency's own")
    series = series_in(notice, origin, case_ref)
    if series.handling.retain_until <= node.clock().date():
        raise InvalidInput("its retention date is past")
    return series


def keep_series(
    node: Node,
    tx: Tx,
    series: Series,
    told: Iterable[tuple[str, series_pb2.SeriesNotice]],
    woken: set[str] | None = None,
) -> Series:
    """Add a received series, or add what is new of it: references, what its owner restricts more by
    now, and judgements as notices state them, each with the agency that signed it (judgements.py).

    Returns it under what its owner restricted it to meanwhile; ``woken`` grows by those whom the
    new judgements are to be told to. Raises PolicyRefused when it may not be kept.
    """
    told = list(told)
    series = received(tx, series, node.agency)
    known = tx.series.get(series.id)
    if known is None:
        tx.series.add(series)
    else:
        fresh = [one for one in series.references if one not in known.references]
        room = max(limits.REFERENCES_PER_SERIES - len(known.references), 0)
        tx.series.add_references(series.id, fresh[:room])
        for who, notice in told:
            if who == series.owner:
                _restrict(tx, known, handling_in(notice.handling))
    stated = [(who, notice.assessments) for who, notice in told]
    judged = judgements.news(node, tx, series, stated)
    tell = bool(judged) and was_told(tx, series.id)
    before = standing_countries(tx, series.id) if tell else ()
    judgements.keep(node, tx, judged)
    corrected = correct(node, tx, series.id, before) if tell else set()
    if woken is not None:
        woken |= corrected
    return series


def _restrict(tx: Tx, known: Series, said: Handling) -> None:
    """Put a series that is here under a higher code or TLP that its owner tells it under now."""
    before = known.handling
    handling = replace(stricter(before, said), retain_until=before.retain_until)
    if handling != before:
        tx.series.set_handling(known.id, handling)
        tx.items.restricted()


def claim_items(
    tx: Tx, message: Message, reference: series_pb2.AttachmentRef, series: Series
) -> None:
    """Make the staged items of a message count; raise NotYet when chunks are missing."""
    try:
        attachments.claim(
            tx,
            message.peer,
            reference,
            series=series.id,
            case_ref=message.payload.case_ref,
            handling=series.handling,
            answerable=message.kind == "upload",
        )
    except WrongState as error:
        raise NotYet(error.message) from None


def stated_time(node: Node, stamp: Timestamp) -> datetime:
    """Return when somebody says that it acted; raise InvalidInput for a time that has not come."""
    at = moment(stamp)
    if at > node.clock() + limits.CLOCK_TOLERANCE:
        raise InvalidInput("the step is dated in the future")
    return at


def owners_referral(
    node: Node, original: envelope_pb2.Envelope, holder: str
) -> payload_pb2.Payload:
    """Return a series' referral by its owner, out of the envelope that ``holder`` was sent.

    1. The envelope is a referral that was made for the holder, whoever signed it.
    2. Signed by the series' owner, it is the owner's word.
    3. Otherwise its signer was told as well: it holds the envelope that was made for the signer,
       about the same series, root and restrictions. And so on, PASS_ONS_MOST times.

    Raises SignatureRefused.
    """
    last: payload_pb2.Referral | None = None
    for _ in range(limits.PASS_ONS_MOST):
        # 1
        payload = open_payload(
            original,
            directory=node.directory(),
            issuer=None,
            audience=Audience(agency=holder),
            now=node.clock(),
        )
        if payload.WhichOneof("body") != "referral":
            raise SignatureRefused("the envelope inside is no referral")
        told = payload.referral
        if last is not None and not _same(last, told):
            raise SignatureRefused("the envelope inside is about something else")
        # 2
        if series_owner(told.series.id) == payload.issuer:
            return payload
        # 3
        if not told.HasField("original"):
            raise SignatureRefused("the envelope inside is not by the series' owner")
        last, holder, original = told, payload.issuer, told.original
    raise SignatureRefused(f"it was passed on more than {limits.PASS_ONS_MOST} times")


def innermost(
    node: Node, envelope: envelope_pb2.Envelope, holder: str, kind: str
) -> payload_pb2.Payload:
    """Return the payload inside envelopes of a kind, each of which was made for the signer of the
    one around it; the outermost for ``holder``. They may have expired: who was to hand them on was
    perhaps cut off for long, and they disclose nothing. Raises SignatureRefused."""
    for _ in range(limits.PASS_ONS_MOST):
        payload = open_payload(
            envelope,
            directory=node.directory(),
            issuer=None,
            audience=Audience(agency=holder),
            now=node.clock(),
            lasting=True,
        )
        if payload.WhichOneof("body") != kind:
            raise SignatureRefused(f"the envelope inside is no {kind}")
        body = getattr(payload, kind)
        if not body.HasField("original"):
            return payload
        holder, envelope = payload.issuer, body.original
    raise SignatureRefused(f"it was passed on more than {limits.PASS_ONS_MOST} times")


def _same(one: payload_pb2.Referral, other: payload_pb2.Referral) -> bool:
    """Whether a referral is about what the one inside it is about, and nowhere laxer: its owner may
    have restricted it meanwhile."""
    if (one.series.id, one.root) != (other.series.id, other.root):
        return False
    return is_within(handling_in(one.series.handling), handling_in(other.series.handling))


def check_told(body: payload_pb2.Referral, owners: payload_pb2.Payload) -> None:
    """Raise SignatureRefused when a referral differs from what the series' owner told."""
    if not _same(body, owners.referral):
        raise SignatureRefused("the envelope inside is about something else")
