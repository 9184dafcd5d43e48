"""Series and assessments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select
from tieline_client.errors import NotFound
from tieline_client.handling import Handling

from tieline_server.domain.ports import DisclosableSeries, SeriesTerms
from tieline_server.domain.series import (
    Assessment,
    Confidence,
    DutyContact,
    ExternalReference,
    Origin,
    Series,
    SeriesStatus,
)
from tieline_server.storage.aliases import Aliases
from tieline_server.storage.imports import handling_row, row_handling
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import (
    assessments,
    retractions,
    series_aliases,
    series_keys,
    series_references,
)
from tieline_server.storage.schema import series as table
from tieline_server.storage.session import Session
from tieline_server.storage.types import moment_of

_NAMES = tuple(column.name for column in table.columns)
_INSERT = Prepared(lambda _: insert(table).values({name: bindparam(name) for name in _NAMES}))
_ONE = select(table).where(table.c.id == bindparam("series"))
_GET = Prepared(lambda _: _ONE)
_GET_LOCKED = Prepared(lambda postgres: _ONE.with_for_update() if postgres else _ONE)
_REFERENCES = Prepared(
    lambda _: (
        select(series_references.c.scheme, series_references.c.value)
        .where(series_references.c.series == bindparam("series"))
        .order_by(series_references.c.position)
    )
)
_ASSESSED = tuple(field.name for field in fields(Assessment))
_ASSESSMENTS = Prepared(
    lambda _: (
        select(*(assessments.c[name] for name in _ASSESSED))
        .where(assessments.c.series == bindparam("of"))
        .order_by(assessments.c.made, assessments.c.id)
    )
)
_AT_ONCE = 500
"""Series looked up in one statement."""


class SeriesRows:
    """`SeriesRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, series: Series) -> None:
        """Add a series with its references. Raises AlreadyStored when the id exists."""
        row = {
            "id": series.id,
            "name": series.name,
            "status": series.status.value,
            "origin": series.origin.value,
            **handling_row(series.handling),
            "contact_name": series.contact.name,
            "contact_email": series.contact.email,
            "contact_phone": series.contact.phone,
            "created": series.created,
            "case_ref": series.case_ref,
            "victims": series.victims,
            "identified": series.identified,
            "first_seen": series.first_seen,
            "last_seen": series.last_seen,
            "clues": series.clues,
            "number": series.number,
        }
        _INSERT.run(self._session, row)
        self.add_references(series.id, series.references)

    def get(self, series: str) -> Series | None:
        """Return a series; in a writing transaction it stays as it is until the end."""
        get = _GET_LOCKED if self._session.writing else _GET
        found = get.rows(self._session, {"series": series})
        if not found:
            return None
        references = _REFERENCES.rows(self._session, {"series": series})
        owned = tuple(ExternalReference(one.scheme, one.value) for one in references)
        return _series(found[0], owned)

    def disclosable(self, numbers: Sequence[int]) -> dict[int, DisclosableSeries]:
        """Return what peers may learn of series, by their numbers in holdings."""
        found: dict[int, DisclosableSeries] = {}
        for start in range(0, len(numbers), _AT_ONCE):
            wanted = select(self._session.bulk.ids(numbers[start : start + _AT_ONCE]).c.value)
            keyed = series_keys.c.no.in_(wanted)
            references: dict[int, tuple[tuple[str, str], ...]] = {}
            of_them = (
                select(series_keys.c.no, series_references.c.scheme, series_references.c.value)
                .join(series_references, series_references.c.series == series_keys.c.id)
                .where(keyed)
                .order_by(series_keys.c.no, series_references.c.position)
            )
            for number, scheme, value in self._run(of_them):
                references[number] = (*references.get(number, ()), (scheme, value))
            rows = select(
                *(series_keys.c.no, table.c.id, table.c.name, table.c.status, table.c.number),
                *(table.c.contact_name, table.c.contact_email, table.c.contact_phone),
            )
            for row in self._run(
                rows.join(table, table.c.id == series_keys.c.id).where(keyed)
            ).all():
                found[row[0]] = DisclosableSeries(*row[1:], references=references.get(row[0], ()))
        return self._as_wholes(found)

    def _as_wholes(self, found: dict[int, DisclosableSeries]) -> dict[int, DisclosableSeries]:
        """Put the whole in the place of what became part of another series, unless the whole is
        restricted more: what another agency merged came here under terms of its own each."""
        aliases, by_id = Aliases(self._session), {one.id: one for one in found.values()}
        parts = select(series_aliases.c.merged).where(series_aliases.c.merged.in_(list(by_id)))
        for part in self._session.connection.scalars(parts).all():
            whole = aliases.current(part)
            one = self.get(whole)
            if one is None or not self._as_open(one, part):
                continue
            if whole not in by_id:
                by_id[whole] = DisclosableSeries(
                    *(one.id, one.name, one.status.value, one.number),
                    *(one.contact.name, one.contact.email, one.contact.phone),
                    references=tuple((each.scheme, each.value) for each in one.references),
                )
            by_id[part] = by_id[whole]
        return {number: by_id[one.id] for number, one in found.items()}

    def _as_open(self, whole: Series, part: str) -> bool:
        """Whether a whole may be named to everybody to whom its part may be."""
        known, limits = self.get(part), self._limits(whole.id)
        if known is None or whole.status is SeriesStatus.WITHDRAWN:
            return False
        before = self._limits(part)
        if limits is not None and (before is None or not before <= limits):
            return False
        one, other = known.handling, whole.handling
        return one.code >= other.code and one.tlp >= other.tlp

    def _limits(self, series: str) -> frozenset[str] | None:
        """Return the agencies that a series is narrowed to; None where it is not."""
        limited = select(retractions.c.only).where(
            retractions.c.series == series, retractions.c.limited
        )
        found = [frozenset(json.loads(one)) for one in self._session.connection.scalars(limited)]
        return frozenset.intersection(*found) if found else None

    def existing(self, series: Iterable[str]) -> set[str]:
        """Return those that exist; in a writing transaction they stay until the end."""
        found: set[str] = set()
        for some in _some(sorted(series)):
            wanted = select(table.c.id).where(table.c.id.in_(some)).order_by(table.c.id)
            found.update(self._session.connection.scalars(self._session.locked(wanted)))
        return found

    def terms(self, numbers: Iterable[int]) -> dict[int, SeriesTerms]:
        """Return what restricts series, by their numbers in holdings; those that have a row."""
        found: dict[int, SeriesTerms] = {}
        wanted = sorted(numbers)
        for start in range(0, len(wanted), _AT_ONCE):
            keyed = series_keys.c.no.in_(
                select(self._session.bulk.ids(wanted[start : start + _AT_ONCE]).c.value)
            )
            of_them = select(series_keys.c.no.label("key"), table).join(
                table, table.c.id == series_keys.c.id
            )
            for row in self._run(of_them.where(keyed)).all():
                withdrawn = row.status == SeriesStatus.WITHDRAWN.value
                found[row.key] = SeriesTerms(row.id, row_handling(row), withdrawn, None)
            limited = (
                select(series_keys.c.no, retractions.c.only)
                .join(retractions, retractions.c.series == series_keys.c.id)
                .where(keyed, retractions.c.limited)
            )
            for number, names in self._run(limited).all():
                if number in found:
                    before, only = found[number].only, frozenset(json.loads(names))
                    only = only if before is None else before & only
                    found[number] = found[number]._replace(only=only)
        return found

    def by_name(self, name: str) -> Series | None:
        """Return the oldest own series with exactly this name."""
        return self.by_names([name]).get(name)

    def by_names(self, names: Iterable[str]) -> dict[str, Series]:
        """Return the oldest own series of each of these names."""
        found: dict[str, Series] = {}
        for some in _some(sorted(names)):
            wanted = select(table).where(table.c.name.in_(some), table.c.origin == Origin.OWN.value)
            for one in self._with_references(self._run(wanted.order_by(table.c.id)).all()):
                found.setdefault(one.name, one)
        for name, one in found.items():
            whole = self.get(Aliases(self._session).current(one.id))
            found[name] = whole or one
        return found

    def find(self, *, after: str = "", limit: int = 1000) -> list[Series]:
        """Return series by id, from the one after ``after``."""
        found = select(table).where(table.c.id > after).order_by(table.c.id).limit(limit)
        return self._with_references(self._run(found).all())

    def set_handling(self, series: str, handling: Handling) -> None:
        """Set what restricts a series. Raises NotFound."""
        self._session.change(table, series, handling_row(handling), "series")

    def set_status(self, series: str, status: SeriesStatus) -> None:
        """Set a status. Raises NotFound."""
        self._session.change(table, series, {"status": status.value}, "series")

    def set_number(self, series: str, number: str) -> None:
        """Set a repository's number. Raises NotFound."""
        self._session.change(table, series, {"number": number}, "series")

    def numbered(self, number: str) -> list[str]:
        """Return the series that bear a repository's number, by id."""
        found = select(table.c.id).where(table.c.number == number).order_by(table.c.id)
        return list(self._session.connection.scalars(found))

    def set_identified(self, series: str, identified: int) -> None:
        """Set how many victims are identified. Raises NotFound."""
        self._session.change(table, series, {"identified": identified}, "series")

    def add_references(self, series: str, references: Sequence[ExternalReference]) -> None:
        """Add references that the series lacks, keeping order. Raises NotFound."""
        if not references:
            return
        found = self._session.locked(select(table.c.id).where(table.c.id == series))
        if self._run(found).one_or_none() is None:
            raise NotFound(f"series {series[:80]} does not exist; see `tieline series list`")
        position = self._session.connection.scalar(
            select(func.max(series_references.c.position)).where(
                series_references.c.series == series
            )
        )
        for place, one in enumerate(references, start=(position or 0) + 1):
            row = {"series": series, "scheme": one.scheme, "value": one.value, "position": place}
            self._session.insert_new(series_references, row)

    def add_assessment(self, assessment: Assessment) -> None:
        """Add an assessment; one of this agency, series and id is left as first told."""
        self._session.insert_new(assessments, _row(assessment))

    def put_assessment(self, assessment: Assessment) -> None:
        """Keep an assessment in the place of what is known of it."""
        self._session.put(assessments, _row(assessment))

    def assessments(self, series: str) -> list[Assessment]:
        """Return a series' assessments in order of time."""
        found = _ASSESSMENTS.run(self._session, {"of": series}).fetchall()
        return [_assessment(dict(zip(_ASSESSED, row, strict=True))) for row in found]

    def _with_references(self, rows: Sequence[Row[Any]]) -> list[Series]:
        owned: dict[str, list[ExternalReference]] = {row.id: [] for row in rows}
        for some in _some(list(owned)):
            found = select(series_references).where(series_references.c.series.in_(some))
            for one in self._run(found.order_by(series_references.c.position)):
                owned[one.series].append(ExternalReference(one.scheme, one.value))
        return [_series(row, tuple(owned[row.id])) for row in rows]


def _some(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _row(assessment: Assessment) -> dict[str, object]:
    return {
        "id": assessment.id,
        "series": assessment.series,
        "agency": assessment.agency,
        "person": assessment.person,
        "country": assessment.country,
        "confidence": int(assessment.confidence),
        "grounds": assessment.grounds,
        "confirmed": assessment.confirmed,
        "eliminated": assessment.eliminated,
        "made": assessment.made,
        "region": assessment.region,
        "clues": json.dumps(assessment.clues),
    }


def _assessment(row: dict[str, Any]) -> Assessment:
    """A row as the driver gives it."""
    row["made"] = moment_of(row["made"])
    row["confidence"] = Confidence(row["confidence"])
    row["clues"] = tuple(json.loads(row["clues"]))
    for name in ("confirmed", "eliminated"):
        row[name] = bool(row[name])
    return Assessment(**row)


def _series(row: Row[Any], references: tuple[ExternalReference, ...]) -> Series:
    return Series(
        id=row.id,
        name=row.name,
        status=SeriesStatus(row.status),
        origin=Origin(row.origin),
        handling=row_handling(row),
        contact=DutyContact(row.contact_name, row.contact_email, row.contact_phone),
        created=row.created,
        case_ref=row.case_ref,
        victims=row.victims,
        identified=row.identified,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        clues=row.clues,
        number=row.number,
        references=references,
    )
