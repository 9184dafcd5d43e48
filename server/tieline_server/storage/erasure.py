"""Taking series and imports out of the tables, in batches that let other writers have their turn.

What is deleted here is overwritten in the pages it stood in (secure_delete) or left to VACUUM
(PostgreSQL); `scrub` of the stores sees to what is left in files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    case,
    delete,
    exists,
    literal,
    or_,
    select,
    update,
)

from tieline_server.domain.messages import OutState
from tieline_server.domain.ports import Erased
from tieline_server.domain.request import SeriesState
from tieline_server.domain.series import Origin, SeriesStatus
from tieline_server.storage import exclusions as exclusion_lists
from tieline_server.storage import tallies, vote_counts
from tieline_server.storage.clues import erase as erase_clues
from tieline_server.storage.items import Items
from tieline_server.storage.operations import erase as erase_from_operations
from tieline_server.storage.same_as import erase as erase_links
from tieline_server.storage.schema import (
    alarms,
    assessments,
    broadcast_answers,
    broadcasts,
    clues,
    evaluations,
    exclusions,
    holdings,
    imports,
    inbox,
    incoming_attachments,
    item_changes,
    item_fills,
    item_links,
    items,
    meta,
    operation_series,
    outbox,
    outgoing_attachments,
    outgoing_chunks,
    queries,
    query_ids,
    referral_steps,
    referrals,
    request_series,
    requests,
    retractions,
    same_as,
    series,
    series_aliases,
    series_events,
    series_keys,
    series_notes,
    series_references,
    series_splits,
    tip_relays,
    tips,
    uploads,
    votes,
    watch_series,
)
from tieline_server.storage.series_notes import erase as erase_notes
from tieline_server.storage.session import Session
from tieline_server.storage.splits import erase as erase_splits
from tieline_server.storage.types import UtcTime

ERASED_FROM = (
    *(holdings, items, item_fills, item_links, votes, item_changes, imports, meta, exclusions),
    *(series, series_references, series_events, assessments, referrals, referral_steps),
    *(broadcasts, broadcast_answers, inbox, outbox, outgoing_attachments, outgoing_chunks),
    *(requests, request_series),
    *(operation_series, evaluations),
    *(clues, tips, tip_relays, same_as, series_notes, series_splits),
    *(watch_series, queries, query_ids),
)
"""Tables that rows are deleted from, or their words, when something is erased."""

_SPEAKS_OF = (
    *(assessments.c.series, clues.c.series, series_notes.c.series, series_events.c.series),
    *(referrals.c.series, broadcasts.c.series, uploads.c.series),
    *(retractions.c.series, same_as.c.own, operation_series.c.series, watch_series.c.series),
    *(series_splits.c.series, series_splits.c.made),
    *(series_aliases.c.series, series_aliases.c.merged),
)
"""Where it shows that somebody worked with a series, or that others were told of it."""

_CARRIERS = (
    *("referral", "referral_correction", "broadcast", "upload"),
    *("release", "tip", "deposit_report", "same_as", "note"),
)
"""Kinds of messages that carry a series; the others are words about it."""
_BROADCASTS = ("broadcast", "broadcast_answer")
_UPLOADS = ("upload", "upload_step")
_OF_OTHER_IDS = (
    *("retraction", "purge_receipt", "request_answer", "permission_request", "permission"),
    *("transfer_notice", "watch_notice"),
)
"""Kinds whose subject is neither a series nor a referral, a broadcast or an upload of one."""
_OPEN = (OutState.QUEUED.value, OutState.PARKED.value)


class Erasure:
    """`ErasureRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    # --- messages ---

    def cancel(self, series: str, recipients: Iterable[str] | None) -> list[str]:
        """Take back what is queued of a series, empty what was delivered; see the port."""
        mine = [self._about(outbox, series), outbox.c.kind.in_(_CARRIERS)]
        if recipients is not None:
            mine.append(outbox.c.recipient.in_(list(recipients)))
        waiting = select(outbox.c.recipient).where(*mine, outbox.c.state.in_(_OPEN)).distinct()
        agencies = sorted(self._session.connection.scalars(waiting))
        self._empty(*mine)
        if recipients is None:
            self._drop_chunks(series)
        return agencies

    def staged(self, series: str) -> list[tuple[str, str]]:
        """Return (peer, attachment) of items of a series that are on their way in."""
        c = incoming_attachments.c
        return [
            (row.peer, row.id) for row in self._run(select(c.peer, c.id).where(c.series == series))
        ]

    def series(self, series_id: str) -> None:
        """Erase all but holdings of a series; see the port."""
        about, came = self._about(outbox, series_id), self._about(inbox, series_id)
        told = select(referrals.c.id).where(referrals.c.series == series_id).scalar_subquery()
        asked = select(broadcasts.c.id).where(broadcasts.c.series == series_id).scalar_subquery()
        self._empty(about, outbox.c.kind.in_(_CARRIERS))
        settled = outbox.c.state.not_in(_OPEN)  # what this agency still has to say is said first
        self._empty(about, settled)
        self._run(update(inbox).where(came).values(envelope=b""))
        self._drop_chunks(series_id)
        self._run(update(referral_steps).where(referral_steps.c.referral.in_(told)).values(text=""))
        self._run(update(referrals).where(referrals.c.series == series_id).values(note=""))
        self._run(
            update(broadcast_answers)
            .where(broadcast_answers.c.broadcast.in_(asked))
            .values(text="")
        )
        self._run(update(broadcasts).where(broadcasts.c.series == series_id).values(question=""))
        self._run(
            update(alarms)
            .where(alarms.c.series == series_id, alarms.c.ended.is_(None))
            .values(ended=self._session.now())
        )
        asked_of = select(request_series.c.request).where(request_series.c.series == series_id)
        self._run(
            update(requests)
            .where(requests.c.id.in_(asked_of))
            .values(text="", terms="{}", envelope=b"")
        )
        self._run(delete(request_series).where(request_series.c.series == series_id))
        erase_clues(self._session, series_id)
        erase_from_operations(self._session, series_id)
        erase_links(self._session, series_id)
        erase_notes(self._session, series_id)
        erase_splits(self._session, series_id)
        self._run(delete(watch_series).where(watch_series.c.series == series_id))
        self._run(delete(assessments).where(assessments.c.series == series_id))
        self._run(delete(series_events).where(series_events.c.series == series_id))
        self._run(delete(series_references).where(series_references.c.series == series_id))
        self._run(delete(series).where(series.c.id == series_id))

    def _about(self, messages: Table, series_id: str) -> ColumnElement[bool]:
        """Messages about a series, by their subject: the series, or a referral, a broadcast or an
        upload of it. An id is one only with the kind of what it names: a referral that somebody
        sent under the id of a broadcast of another series takes nothing of that along."""
        c = messages.c
        kinds = {
            referrals: c.kind.not_in((*_BROADCASTS, *_UPLOADS, *_OF_OTHER_IDS)),
            broadcasts: c.kind.in_(_BROADCASTS),
            uploads: c.kind.in_(_UPLOADS),
        }
        found: list[ColumnElement[bool]] = [c.subject == series_id]  # refused ones too
        for table, of_kind in kinds.items():
            ids = select(table.c.id).where(table.c.series == series_id)
            named = list(self._session.connection.scalars(ids))
            if named:
                found.append(and_(c.subject.in_(named), of_kind))
        return or_(*found)

    def _empty(self, *where: ColumnElement[bool]) -> None:
        waits = outbox.c.state.in_(_OPEN)
        now = literal(self._session.now(), UtcTime)
        self._run(
            update(outbox)
            .where(*where)
            .values(
                envelope=b"",
                state=case((waits, OutState.CANCELLED.value), else_=outbox.c.state),
                settled=case((waits, now), else_=outbox.c.settled),
                held_until=None,
            )
        )

    def _drop_chunks(self, series_id: str) -> None:
        theirs = select(outgoing_attachments.c.id).where(outgoing_attachments.c.series == series_id)
        of_them = outgoing_chunks.c.attachment.in_(theirs.scalar_subquery())
        self._run(delete(outgoing_chunks).where(of_them))
        self._run(delete(outgoing_attachments).where(outgoing_attachments.c.series == series_id))

    # --- holdings ---

    def holdings(self, series_id: str, limit: int) -> Erased:
        """Erase up to about ``limit`` holdings of a series; see the port."""
        self._session.lock_items()
        number = self._session.connection.scalar(
            select(series_keys.c.no).where(series_keys.c.id == series_id)
        )
        if number is None:
            return Erased(0, 0, more=False)
        return self._batch(and_(holdings.c.series_no == number, holdings.c.series_no > 0), limit)

    def import_holdings(self, import_no: int, limit: int) -> Erased:
        """Erase up to about ``limit`` holdings of a complete import; see the port."""
        self._session.lock_items()
        done = self._batch(holdings.c.import_no == import_no, limit)
        if not done.more and self._is_list(import_no):
            done = replace(done, more=exclusion_lists.erase(self._session, import_no, limit))
        if not done.more:
            fingerprint = select(imports.c.fingerprint).where(imports.c.no == import_no)
            kept = f"import/{self._session.connection.scalar(fingerprint)}"
            self._run(delete(meta).where(meta.c.key == kept))
            # Its number stays: digests that other imports rely on are its rows.
            head = update(imports).where(imports.c.no == import_no)
            self._run(head.values(source="", case_ref="", fingerprint=""))
        return done

    def _is_list(self, import_no: int) -> bool:
        found = select(imports.c.exclusions).where(imports.c.no == import_no)
        return bool(self._session.connection.scalar(found))

    def emptied(self, import_no: int, limit: int) -> list[str]:
        """Erase series that are there for this import alone and hold nothing; see the port."""
        names = list(self._session.connection.scalars(self._untouched(import_no).limit(limit)))
        for name in names:
            # What a peer asked waits for a person: that is about its other series from here on.
            self._run(delete(request_series).where(request_series.c.series == name))
            self.series(name)
        return names

    def _untouched(self, import_no: int) -> Select[Any]:
        made = and_(imports.c.no == import_no, imports.c.created == series.c.created)
        held = (
            exists()
            .where(holdings.c.series_no == series_keys.c.no, holdings.c.series_no > 0)
            .where(series_keys.c.id == series.c.id)
        )
        decided = exists().where(
            request_series.c.series == series.c.id,
            request_series.c.state != SeriesState.WAITING.value,
        )
        spoken_of = (exists().where(column == series.c.id) for column in _SPEAKS_OF)
        return (
            select(series.c.id)
            .join(imports, made)
            .where(
                series.c.origin == Origin.OWN.value,
                series.c.status != SeriesStatus.WITHDRAWN.value,
                *(~each for each in (held, decided, *spoken_of)),
            )
            .order_by(series.c.id)
        )

    def _batch(self, of_it: ColumnElement[bool], limit: int) -> Erased:
        c = holdings.c
        found = select(c.item, c.import_no).where(of_it).order_by(c.item).limit(limit)
        rows = self._run(found).all()
        if not rows:
            return Erased(0, 0, more=False)
        some = and_(of_it, c.item <= rows[-1].item)
        whole = self._run(select(c.item, c.import_no).where(some)).all()
        touched = {row.item for row in whole}
        tallies.add_holdings(self._session, -1, some)
        self._run(delete(holdings).where(some))
        vote_counts.forget(self._session, touched, {row.import_no for row in whole})
        gone = Items(self._session).let_go(touched)
        return Erased(len(whole), gone, more=len(rows) == limit)

    # --- what is past its day ---

    def imports_past(self, today: date, limit: int) -> list[tuple[int, str]]:
        """Return number and id of the complete imports with holdings whose day has come."""
        found = (
            select(imports.c.no, imports.c.id)
            .where(
                imports.c.generation.is_not(None),
                imports.c.retain_until <= today,
                exists().where(holdings.c.import_no == imports.c.no),
            )
            .order_by(imports.c.no)
            .limit(limit)
        )
        return [(row.no, row.id) for row in self._run(found)]

    def series_past(self, today: date, limit: int) -> list[str]:
        """Return the series whose day has come; see the port."""
        held = (
            exists()
            .where(holdings.c.series_no == series_keys.c.no, holdings.c.series_no > 0)
            .where(series_keys.c.id == series.c.id)
        )
        stated = exists().where(
            retractions.c.series == series.c.id, retractions.c.retain_until <= today
        )
        found = (
            select(series.c.id)
            .where(series.c.retain_until <= today, or_(~held, stated))
            .order_by(series.c.id)
            .limit(limit)
        )
        return list(self._session.connection.scalars(found))
