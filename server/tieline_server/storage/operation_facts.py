"""What was done with series, read off the tables of the work itself: nothing is counted twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from tieline_client.identifiers import series_owner

from tieline_server.domain.clue import TipState
from tieline_server.domain.operation import Progress, earlier
from tieline_server.domain.referral import SEEN, Direction, ReferralState
from tieline_server.domain.request import RequestKind, Side
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.upload import UploadState
from tieline_server.storage.schema import (
    clues,
    evaluations,
    holdings,
    imports,
    referral_steps,
    referrals,
    request_series,
    requests,
    series_events,
    series_keys,
    tips,
    upload_steps,
    uploads,
)
from tieline_server.storage.session import Session

_AT_ONCE = 500
"""Ids in one statement."""
_TRIAGED = (SeriesStatus.TRIAGED.value, SeriesStatus.UNDER_EVALUATION.value)
_STEPS = {
    ReferralState.DELIVERED.value: "told",
    ReferralState.TOLD_OUTSIDE.value: "outside",
    ReferralState.OUTCOME.value: "outcome",
}
_SEEN = frozenset(one.value for one in SEEN)


def _read(
    session: Session, found: Select[Any], column: ColumnElement[str], series: Sequence[str]
) -> Iterator[Any]:
    """Yield the rows about these series."""
    for start in range(0, len(series), _AT_ONCE):
        yield from session.connection.execute(
            found.where(column.in_(series[start : start + _AT_ONCE]))
        )


def progress(session: Session, series: Sequence[str], since: datetime) -> dict[str, Progress]:
    """See the port."""
    made = {one: Progress(one) for one in series}
    for id_, name, value in _times(session, series, since):
        changed: dict[str, Any] = {name: earlier(getattr(made[id_], name), value)}
        made[id_] = replace(made[id_], **changed)
    s, r = referral_steps.c, referrals.c
    outcomes = (
        select(r.series, func.max(s.identified), func.max(s.tentative))
        .join(referral_steps, s.referral == r.id)
        .where(s.state == ReferralState.OUTCOME.value, s.at >= since)
        .group_by(r.series)
    )
    for id_, identified, tentative in _read(session, outcomes, r.series, series):
        made[id_] = replace(made[id_], identified=identified or 0, tentative=tentative or 0)
    said = (
        select(clues.c.series, tips.c.state, func.count())
        .join(tips, tips.c.clue == clues.c.id)
        .group_by(clues.c.series, tips.c.state)
    )
    for id_, state, count in _read(session, said, clues.c.series, series):
        one = made[id_]
        verified = count if state == TipState.VERIFIED.value else 0
        made[id_] = replace(one, tips=one.tips + count, verified=one.verified + verified)
    return made


def _times(
    session: Session, series: Sequence[str], since: datetime
) -> Iterator[tuple[str, str, datetime]]:
    """Yield series, what was reached, and when first."""
    e, s, r = series_events.c, referral_steps.c, referrals.c
    moved = select(e.series, e.after, func.min(e.at)).where(e.at >= since)
    for id_, after, at in _read(session, moved.group_by(e.series, e.after), e.series, series):
        if after in _TRIAGED:
            yield id_, "triaged", at
        elif after == SeriesStatus.LOCALISED.value:
            yield id_, "localised", at
    stepped = (
        select(r.series, r.direction, s.state, func.min(s.at))
        .join(referral_steps, s.referral == r.id)
        .where(s.at >= since, s.state.in_([*_STEPS, *_SEEN]))
        .group_by(r.series, r.direction, s.state)
    )
    for id_, direction, state, at in _read(session, stepped, r.series, series):
        # That a series was told to us, and that we saw it, says nothing of its country.
        if state in _STEPS and (direction != Direction.IN.value or _STEPS[state] != "told"):
            yield id_, _STEPS[state], at
        if state in _SEEN and direction == Direction.OUT.value:
            yield id_, "acknowledged", at
    u, t = uploads.c, upload_steps.c
    numbered = (
        select(u.series, func.min(t.at))
        .join(upload_steps, t.upload == u.id)
        .where(t.at >= since, t.state == UploadState.NUMBERED.value)
        .group_by(u.series)
    )
    for id_, at in _read(session, numbered, u.series, series):
        yield id_, "uploaded", at
    v = evaluations.c
    done = select(v.series, func.min(v.done)).where(v.done >= since).group_by(v.series)
    for id_, at in _read(session, done, v.series, series):
        yield id_, "evaluated", at


def overlaps(session: Session, series: Sequence[str]) -> dict[str, set[str]]:
    """See the port."""
    made: dict[str, set[str]] = {one: set() for one in series}
    mine, theirs = holdings.alias(), holdings.alias()
    own, other = series_keys.alias(), series_keys.alias()
    shared = (
        select(own.c.id, other.c.id)
        .select_from(own)
        .join(mine, (mine.c.series_no == own.c.no) & (mine.c.series_no > 0))
        .join(theirs, (theirs.c.item == mine.c.item) & (theirs.c.series_no != mine.c.series_no))
        .join(other, other.c.no == theirs.c.series_no)
        .join(imports, imports.c.no == theirs.c.import_no)
        .where(theirs.c.series_no > 0, imports.c.generation.is_not(None))
        .distinct()
    )
    for id_, of_other in _read(session, shared, own.c.id, series):
        if series_owner(of_other) != series_owner(id_):
            made[id_].add(series_owner(of_other))
    c = requests.c
    hit = (
        select(request_series.c.series, c.peer)
        .join(requests, c.id == request_series.c.request)
        .where(c.side == Side.IN.value, c.kind == RequestKind.RELEASE.value)
        .distinct()
    )
    for id_, peer in _read(session, hit, request_series.c.series, series):
        made[id_].add(peer)
    return made


def new_clues(session: Session, series: Sequence[str]) -> dict[str, int]:
    """See the port."""
    made: dict[str, int] = defaultdict(int)
    last = (
        select(evaluations.c.series, func.max(evaluations.c.done).label("done"))
        .group_by(evaluations.c.series)
        .subquery()
    )
    since = func.coalesce(last.c.done, 0, type_=last.c.done.type)
    added = (
        select(clues.c.series, func.count())
        .join(last, last.c.series == clues.c.series, isouter=True)
        .where(clues.c.created > since)
        .group_by(clues.c.series)
    )
    verified = (
        select(clues.c.series, func.count())
        .join(tips, tips.c.clue == clues.c.id)
        .join(last, last.c.series == clues.c.series, isouter=True)
        .where(tips.c.state == TipState.VERIFIED.value, tips.c.judged > since)
        .group_by(clues.c.series)
    )
    for found in (added, verified):
        for id_, count in _read(session, found, clues.c.series, series):
            made[id_] += count
    return made
