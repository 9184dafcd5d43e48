"""Operations: a taskforce's series, who evaluates them, and what came of it.

1. An officer makes an operation, with its days and its participants, members of the directory.
2. People add series that are here. A series that became part of another counts as that one.
3. A person assigns a series to an expert of a participant: from then on it is under evaluation.
   The experts sit with the agency that runs the operation, so nothing is told to anybody by it.
4. Figures and the triage list are read off what was done with the series. An erased series is taken
   out of every operation, with all that was said of it there, and no longer counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from tieline.v1 import operator_operations_pb2 as pb
from tieline_client import limits
from tieline_client.errors import InvalidInput, LimitExceeded, NotFound, WrongState
from tieline_client.identifiers import check_agency, new_id
from tieline_client.payloads import timestamp

from tieline_server.domain import operation as figures
from tieline_server.domain.operation import Evaluation, Operation, Progress, check_operation
from tieline_server.domain.ports import Tx
from tieline_server.domain.series import Origin, Series, SeriesStatus
from tieline_server.domain.triage import WEIGHTS, Lead, Ranked, rank
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.likely import standing_countries
from tieline_server.services.restricting import still
from tieline_server.services.series_life import advance
from tieline_server.services.views import find_series

_TO_EVALUATE = frozenset({SeriesStatus.NEW, SeriesStatus.TRIAGED})


class OperationDesk:
    """What people do with operations."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- 1 ---

    def create(self, person: Person, request: pb.CreateOperationRequest) -> pb.OperationView:
        """Make an operation; raises InvalidInput, UnknownAgency, or WrongState for a known name."""
        node = self._node
        participants = tuple(dict.fromkeys(map(check_agency, request.participants)))
        for agency in participants:
            node.party(agency)
        operation = Operation(
            id=new_id(),
            name=clean(request.name),
            begins=_day(request.begin_day, "first"),
            ends=_day(request.end_day, "last"),
            participants=participants,
            person=person.name,
            case_ref=clean(request.case_ref),
            created=node.clock(),
        )
        check_operation(operation.name, operation.begins, operation.ends, participants)

        def work(tx: Tx) -> pb.OperationView:
            if tx.operations.get(operation.name) is not None:
                raise WrongState(
                    f"there is an operation {operation.name!r}; choose another name for this one"
                )
            if len(tx.operations.find()) >= limits.OPERATIONS_LISTED:
                raise LimitExceeded(f"there are {limits.OPERATIONS_LISTED} operations already")
            tx.operations.add(operation)
            self._log(tx, person, "operation.created", operation, (), agencies=list(participants))
            return self._view(tx, operation)

        return node.store.write(work)

    # --- 2 ---

    def add_series(
        self, person: Person, request: pb.AddOperationSeriesRequest
    ) -> pb.AddOperationSeriesResponse:
        """Add series, all or none; raises NotFound, WrongState or LimitExceeded."""
        node = self._node
        if not request.series:
            raise InvalidInput("name at least one series")

        def work(tx: Tx) -> pb.AddOperationSeriesResponse:
            operation = _find(tx, request.operation)
            found = [self._standing(tx, name).id for name in request.series]
            at = node.clock()
            added = [
                one
                for one in dict.fromkeys(found)
                if tx.operations.add_series(operation.id, one, person.name, at)
            ]
            if len(tx.operations.series(operation.id)) > limits.OPERATION_SERIES:
                raise LimitExceeded(f"an operation has at most {limits.OPERATION_SERIES} series")
            self._log(tx, person, "operation.series_added", operation, added)
            return pb.AddOperationSeriesResponse(
                operation=self._view(tx, operation), added=len(added)
            )

        return node.store.write(work)

    def _standing(self, tx: Tx, name: str) -> Series:
        """Return a series that may be worked on; raises NotFound, WrongState or PolicyRefused."""
        return still(tx, find_series(tx, name), self._node.agency)

    # --- 3 ---

    def assign(
        self, person: Person, request: pb.AssignEvaluationRequest
    ) -> pb.AssignEvaluationResponse:
        """Assign series to an expert, or keep that the expert is done; all or none.

        Raises NotFound, InvalidInput or WrongState.
        """
        node = self._node
        agency = check_agency(request.agency)
        expert = clean(request.person)
        text = clean(request.text)
        if text and not request.done:
            raise InvalidInput("what was found is said with --done")
        if not request.series:
            raise InvalidInput("name at least one series")

        def work(tx: Tx) -> pb.AssignEvaluationResponse:
            operation = _find(tx, request.operation)
            if agency not in (*operation.participants, node.agency):
                raise InvalidInput(f"{agency} takes no part; participants: {_words(operation)}")
            found = [self._standing(tx, name) for name in request.series]
            within = set(_current(tx, tx.operations.series(operation.id)))
            for one in found:
                if one.id not in within:
                    raise WrongState(f"{one.id} is not in the operation; add it first")
            tasks = [
                Evaluation(operation.id, one.id, agency, expert, node.clock(), person.name)
                for one in {one.id: one for one in found}.values()
            ]
            if request.done:
                changed = self._finish(tx, person, tasks, text)
            else:
                changed = [one.series for one in tasks if tx.operations.assign(one)]
                self._evaluate(tx, person, found)
            action = "operation.evaluated" if request.done else "operation.assigned"
            self._log(tx, person, action, operation, changed, agency=agency, expert=expert)
            return pb.AssignEvaluationResponse(
                operation=self._view(tx, operation), changed=len(changed)
            )

        return node.store.write(work)

    def _finish(self, tx: Tx, person: Person, tasks: Sequence[Evaluation], text: str) -> list[str]:
        """Keep that tasks are done; one that is done stays as it was said first."""
        known = {
            (one.series, one.agency, one.person): one
            for one in tx.operations.evaluations(tasks[0].operation)
        }
        changed = []
        for task in tasks:
            before = known.get((task.series, task.agency, task.person))
            if before is None:
                who = f"{task.person or 'anybody'} of {task.agency}"
                raise NotFound(f"{who} was not assigned to {task.series}; assign it first")
            if before.done is None:
                tx.operations.finish(
                    replace(before, done=self._node.clock(), done_by=person.name, text=text)
                )
                changed.append(task.series)
        return changed

    def _evaluate(self, tx: Tx, person: Person, found: Iterable[Series]) -> None:
        """What is assigned is under evaluation, unless it came further."""
        node = self._node
        for one in found:
            now = find_series(tx, one.id)
            if now.status in _TO_EVALUATE:
                who = {"agency": node.agency, "person": person.name}
                advance(tx, now, SeriesStatus.UNDER_EVALUATION, at=node.clock(), **who)

    # --- 4 ---

    def find(self) -> pb.ListOperationsResponse:
        """Return all operations."""
        return self._node.store.read(
            lambda tx: pb.ListOperationsResponse(
                operations=[self._view(tx, one) for one in tx.operations.find()]
            )
        )

    def get(self, name_or_id: str, most: int) -> pb.GetOperationResponse:
        """Return an operation with its triage list, as much of it as one message holds."""
        node = self._node

        def work(tx: Tx) -> pb.GetOperationResponse:
            operation = _find(tx, name_or_id)
            tasks: dict[str, list[Evaluation]] = {}
            for task in tx.operations.evaluations(operation.id):
                tasks.setdefault(tx.aliases.current(task.series), []).append(task)
            answer = pb.GetOperationResponse(
                operation=self._view(tx, operation),
                weights=[pb.TriageWeight(name=n, points=p) for n, p in WEIGHTS.items()],
            )
            size = 0
            ranked = rank(self._leads(tx, operation), node.clock())
            for one in ranked[: most or limits.TRIAGE_SHOWN]:
                view = _triage_view(tx, one, tasks.get(one.lead.series, ()))
                size += view.ByteSize()
                if size > limits.TRIAGE_BYTES:
                    break
                answer.series.append(view)
            return answer

        return node.store.read(work)

    def _leads(self, tx: Tx, operation: Operation) -> list[Lead]:
        families = self._families(tx, operation)
        every = [part for family in families.values() for part in family]
        overlaps, clues = tx.operations.overlaps(every), tx.operations.new_clues(every)
        leads = []
        for id_, family in families.items():
            series = tx.series.get(id_)
            if series is None:
                continue
            others = {agency for part in family for agency in overlaps[part]}
            leads.append(
                Lead(
                    series=id_,
                    name=series.name if series.origin is Origin.OWN else "",
                    status=series.status,
                    items=tx.items.count_of_series(id_),
                    identified=series.identified,
                    seen=series.last_seen or series.created,
                    overlaps=tuple(sorted(others - {self._node.agency, series.owner})),
                    new_clues=sum(clues.get(part, 0) for part in family),
                )
            )
        return leads

    def report(self, name_or_id: str) -> pb.ReportOperationResponse:
        """Return an operation's figures."""
        node = self._node

        def work(tx: Tx) -> pb.ReportOperationResponse:
            operation, now = _find(tx, name_or_id), node.clock()
            families = self._families(tx, operation)
            every = [part for family in families.values() for part in family]
            facts = tx.operations.progress(every, operation.since)
            done = [_of_family(id_, [facts[part] for part in f]) for id_, f in families.items()]
            countries = {id_: standing_countries(tx, id_) for id_ in families}
            made = figures.report(done, countries, operation.begins, now.date())
            return _report_view(self._view(tx, operation), made, now)

        return node.store.read(work)

    @staticmethod
    def _families(tx: Tx, operation: Operation) -> dict[str, list[str]]:
        """Return an operation's series, each with what became part of it."""
        current = _current(tx, tx.operations.series(operation.id))
        return {one: list(tx.aliases.family(one)) for one in current}

    def _view(self, tx: Tx, operation: Operation) -> pb.OperationView:
        done = {o.series for o in tx.operations.evaluations(operation.id) if o.done is not None}
        return pb.OperationView(
            id=operation.id,
            name=operation.name,
            begin_day=operation.begins.isoformat(),
            end_day=operation.ends.isoformat(),
            participants=operation.participants,
            person=operation.person,
            case_ref=operation.case_ref,
            create_time=timestamp(operation.created),
            series=len(_current(tx, tx.operations.series(operation.id))),
            evaluated=len(_current(tx, sorted(done))),
        )

    def _log(
        self,
        tx: Tx,
        person: Person,
        action: str,
        operation: Operation,
        series: Sequence[str],
        **detail: Any,
    ) -> None:
        """Log it in the transaction of its effect; many series stand in several entries."""
        step = limits.SUBJECTS_PER_ENTRY - 1
        for start in range(0, max(len(series), 1), step):
            tx.audit.append(
                self._node.entry(
                    action,
                    person=person.name,
                    case_ref=operation.case_ref,
                    subjects=(operation.id, *series[start : start + step]),
                    **detail,
                )
            )


def _day(text: str, which: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"the {which} day {text[:32]!r} is none; say 2020-11-02") from None


def _find(tx: Tx, name_or_id: str) -> Operation:
    found = tx.operations.get(name_or_id) if name_or_id else None
    if found is None:
        raise NotFound(f"no operation {name_or_id[:80]!r} here; see `tieline operation list`")
    return found


def _words(operation: Operation) -> str:
    return ", ".join(operation.participants)


def _current(tx: Tx, series: Iterable[str]) -> list[str]:
    """Return what these series are by now, each once."""
    return list(dict.fromkeys(map(tx.aliases.current, series)))


def _of_family(series: str, parts: Sequence[Progress]) -> Progress:
    whole = replace(parts[0], series=series)
    for part in parts[1:]:
        whole = whole.and_of(part)
    return whole


def _triage_view(tx: Tx, ranked: Ranked, tasks: Iterable[Evaluation]) -> pb.TriageView:
    lead = ranked.lead
    return pb.TriageView(
        series=lead.series,
        name=lead.name,
        status=lead.status.value,
        points=ranked.points,
        parts=[pb.TriagePart(name=p.name, points=p.points, why=p.why) for p in ranked.parts],
        evaluations=[_evaluation_view(task) for task in tasks],
        likely_countries=standing_countries(tx, lead.series),
    )


def _evaluation_view(task: Evaluation) -> pb.EvaluationView:
    return pb.EvaluationView(
        agency=task.agency,
        person=task.person,
        assign_time=timestamp(task.assigned),
        assigned_by=task.assigned_by,
        done_time=timestamp(task.done) if task.done else None,
        done_by=task.done_by,
        text=task.text,
    )


def _millis(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000)


def _report_view(
    operation: pb.OperationView, made: figures.Report, now: datetime
) -> pb.ReportOperationResponse:
    totals = {name: getattr(made.figures, name) for name in figures.NAMES}
    return pb.ReportOperationResponse(
        operation=operation,
        figures=pb.OperationFigures(**totals, median_millis=_millis(made.figures.median_seconds)),
        countries=[
            pb.OperationCountry(
                country=one.country,
                localised=one.localised,
                told=one.told,
                median_millis=_millis(one.median_seconds),
            )
            for one in made.countries
        ],
        days=[
            pb.OperationDay(
                day=one.day.isoformat(),
                triaged=one.triaged,
                localised=one.localised,
                told=one.told,
                identified=one.identified,
            )
            for one in made.days
        ],
        report_time=timestamp(now),
    )
