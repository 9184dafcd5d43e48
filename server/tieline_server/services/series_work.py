"""Series by hand, and assessments: competing judgements stand side by side."""

from __future__ import annotations

from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.countries import check_known_country
from tieline_client.errors import InvalidInput, WrongState
from tieline_client.identifiers import check_id, new_id, new_series_id

from tieline_server.domain.ports import Tx
from tieline_server.domain.series import (
    Assessment,
    Confidence,
    Origin,
    Series,
    SeriesStatus,
)
from tieline_server.domain.series_life import BEFORE_LOCALISED
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.correcting import correct
from tieline_server.services.likely import standing_countries
from tieline_server.services.notices import contact_in, own_handling, reference_in
from tieline_server.services.series_life import advance, detailed_view
from tieline_server.services.showing import shown
from tieline_server.services.views import find_held, find_series, series_view


class SeriesWork:
    """Lists, makes and judges series."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def find(self, after: str, size: int) -> operator_pb2.ListSeriesResponse:
        """A page of series by id."""
        size = min(size or 1000, 1000)

        def work(tx: Tx) -> operator_pb2.ListSeriesResponse:
            page = tx.series.find(after=after, limit=size)
            return operator_pb2.ListSeriesResponse(
                series=[series_view(tx, one) for one in page],
                next_page_token=page[-1].id if len(page) == size else "",
            )

        return self._node.store.read(work)

    def get(self, name_or_id: str) -> operator_pb2.SeriesView:
        """One series; raises NotFound."""
        return self._node.store.read(lambda tx: shown(self._node, tx, find_held(tx, name_or_id)))

    def create(
        self, person: Person, request: operator_pb2.CreateSeriesRequest
    ) -> operator_pb2.SeriesView:
        """Make a series; raises InvalidInput, or WrongState when the name is taken."""
        node, now = self._node, self._node.clock()
        name = clean(request.name)
        if not name:
            raise InvalidInput("a series needs a name")
        default = node.defaults.handling(now.date())
        series = Series(
            id=new_series_id(node.agency),
            name=name,
            status=SeriesStatus.NEW,
            origin=Origin.OWN,
            handling=own_handling(request.handling, default, now.date()),
            contact=contact_in(request.contact)
            if request.HasField("contact")
            else node.defaults.contact,
            created=now,
            case_ref=clean(request.case_ref),
            victims=request.victims if request.HasField("victims") else None,
            clues=clean(request.clues),
            references=tuple(reference_in(one) for one in request.references),
        )

        def work(tx: Tx) -> operator_pb2.SeriesView:
            if tx.series.by_name(name) is not None:
                raise WrongState(f"there is a series of that name; choose another than {name!r}")
            tx.series.add(series)
            tx.audit.append(
                node.entry(
                    "series.created",
                    person=person.name,
                    case_ref=series.case_ref,
                    subjects=(series.id,),
                )
            )
            return series_view(tx, series)

        return node.store.write(work)

    def assess(
        self, person: Person, request: operator_pb2.AssessSeriesRequest
    ) -> operator_pb2.SeriesView:
        """Add a judgement; raises NotFound or InvalidInput."""
        node = self._node
        country = check_known_country(request.country)
        grounds = clean(request.grounds)
        if not grounds:
            raise InvalidInput("an assessment needs its grounds, in words")
        try:
            confidence = Confidence(request.confidence)
        except ValueError:
            raise InvalidInput("confidence is low, medium or high") from None
        region = clean(request.region)[: limits.REGION_CHARS]
        clues = tuple(check_id(one, "clue") for one in request.clues)
        if request.confirmed and request.eliminate:
            raise InvalidInput("a country is either confirmed or eliminated")

        def work(tx: Tx) -> tuple[operator_pb2.SeriesView, set[str]]:
            series = find_series(tx, request.series)
            woken = add_assessment(
                node,
                tx,
                series,
                Assessment(
                    id=new_id(),
                    series=series.id,
                    agency=node.agency,
                    person=person.name,
                    country=country,
                    confidence=confidence,
                    grounds=grounds[: limits.FREE_TEXT_CHARS],
                    confirmed=request.confirmed,
                    eliminated=request.eliminate,
                    made=node.clock(),
                    region=region,
                    clues=clues,
                ),
            )
            tx.audit.append(
                node.entry(
                    "series.assessed",
                    person=person.name,
                    case_ref=series.case_ref,
                    subjects=(series.id,),
                    country=country,
                    confidence=confidence.name.lower(),
                    confirmed=request.confirmed,
                    eliminated=request.eliminate,
                )
            )
            return detailed_view(tx, find_series(tx, series.id)), woken

        view, woken = node.store.write(work)
        for agency in woken:
            node.wake(agency)
        return view


def add_assessment(node: Node, tx: Tx, series: Series, assessment: Assessment) -> set[str]:
    """Store a judgement; a series with a standing likely country is localised, and whoever was told
    another country is told so. Returns who has mail now."""
    before = standing_countries(tx, series.id)
    tx.series.add_assessment(assessment)
    if series.status in BEFORE_LOCALISED and standing_countries(tx, series.id):
        advance(
            tx,
            series,
            SeriesStatus.LOCALISED,
            agency=assessment.agency,
            person=assessment.person,
            at=assessment.made,
        )
    return correct(node, tx, series.id, before, person=assessment.person)
