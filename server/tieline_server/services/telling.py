"""Telling the likely country of a series.

Telling a country means telling every agency that serves it; a country that no member serves goes to
the hub, with that said. A series that another agency referred here is told on inside its own
envelope: whoever gets it sees who wrote it, and whoever sent it sees to whom it went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tieline.v1 import envelope_pb2, operator_pb2
from tieline_client.countries import check_known_country
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused
from tieline_client.identifiers import new_id

from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.domain.request import Request, Use, check_decidable
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.domain.series_life import BEFORE_REFERRED
from tieline_server.services.attachments import pack_series
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.grown import grew_since
from tieline_server.services.held_under import with_items
from tieline_server.services.leading import announce
from tieline_server.services.likely import standing_countries
from tieline_server.services.permissions import Held, held, hint
from tieline_server.services.referring import (
    original_envelope,
    parse_urgency,
    send_referral,
    take_step,
)
from tieline_server.services.restricting import why_excluded
from tieline_server.services.series_life import advance
from tieline_server.services.views import find_held, referral_view
from tieline_server.services.vital_interests import (
    confirm,
    endangered,
    note,
    stated_out,
    statement,
    tell_provider,
)


@dataclass(frozen=True, slots=True)
class _Address:
    agency: str
    country: str
    note: str


@dataclass(frozen=True, slots=True)
class _Source:
    """The referral in which another agency's series came."""

    referral: Referral
    original: envelope_pb2.Envelope


class Telling:
    """Refers series."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def refer(
        self,
        person: Person,
        request: operator_pb2.ReferSeriesRequest,
        waiting: list[Request] | None = None,
    ) -> list[operator_pb2.ReferralView]:
        """Tell the likely country. An agency that was told already is not told twice, unless it is
        more urgent by now or has items that came since: then a new referral, with all items,
        overtakes the earlier one (`Referral.is_overtaken_by`).

        Where vital interests are stated, who may be told on that exception alone is added to
        ``waiting``: a second officer has to confirm it (`confirmed`).

        Another agency's series is told on inside the referral that it came in, whose sender learns
        of it as of a referral passed on. Raises NotFound, InvalidInput, WrongState, or
        PolicyRefused when nobody may be told; where only some may not, they are listed with the
        reason.
        """
        node = self._node
        node.check_purpose(request.purpose, request.case_ref)
        parse_urgency(request.urgency)
        series = node.store.read(lambda tx: with_items(tx, find_held(tx, request.series)))
        if series.status is SeriesStatus.WITHDRAWN:
            raise InvalidInput("the series is withdrawn; it is not referred")
        source = None if series.owner == node.agency else self._source(series)
        addresses = self._addresses(series, request)
        allowed: list[tuple[_Address, tuple[str, ...]]] = []
        stated: list[_Address] = []
        permissions: dict[str, Held | None] = {}
        waiting = [] if waiting is None else waiting
        refused: list[operator_pb2.ReferralView] = []
        for address in addresses:
            question = self._may_be_told(series, address, request.purpose)
            permission = self._permission(series, address, request.purpose)
            question = replace(question, permission=permission is not None)
            decision = node.policy.decide(question)
            narrowed = node.store.read(lambda tx, a=address: why_excluded(tx, series.id, a.agency))  # type: ignore[misc]
            if narrowed:
                refused.append(_refused_view(series, address, narrowed))
            elif decision.allowed:
                permissions[address.agency] = permission
                allowed.append((address, decision.rules))
            elif request.vital_interests and node.policy.decide(endangered(question)).allowed:
                stated.append(address)
            else:
                why = decision.why
                if series.owner != node.agency:
                    why += hint(
                        *(node, question, Use.PASS_ON, series.id, address.agency, request.case_ref)
                    )
                refused.append(_refused_view(series, address, why))
        waiting.extend(self._state(person, series, stated, request))
        if not allowed and waiting:
            return refused
        if not allowed:
            reasons = "; ".join(f"{one.recipient}: {one.reason}" for one in refused)
            raise PolicyRefused(f"nobody may be told: {reasons}")
        chosen = [(one, rules, permissions[one.agency]) for one, rules in allowed]
        return self._tell(person, request, series, chosen, source) + refused

    def _tell(
        self,
        person: Person,
        request: operator_pb2.ReferSeriesRequest,
        series: Series,
        allowed: Sequence[tuple[_Address, tuple[str, ...], Held | None]],
        source: _Source | None,
    ) -> list[operator_pb2.ReferralView]:
        """Queue the referrals, in one transaction."""
        node, urgency = self._node, parse_urgency(request.urgency)
        at = node.clock()  # what comes while they are packed is not in it
        # an agency of two countries gets two messages, each with its own copy of the items
        under = series.handling
        packed = {a: pack_series(node, series.id, a.agency, under=under) for a, _, _ in allowed}

        woken = {address.agency for address, _, _ in allowed}

        def work(tx: Tx) -> list[operator_pb2.ReferralView]:
            views = []
            for address, rules, permission in allowed:
                known = self._told_already(tx, series, address, urgency, source)
                if known is not None:
                    views.append(_known_view(tx, known))
                    continue
                new = self._new(person, series, address, urgency, request, source, at)
                send_referral(
                    node,
                    tx,
                    new,
                    series,
                    packed[address],
                    rules,
                    source.original if source else None,
                    permission=permission,
                )
                if source is not None:
                    step = self._passed_on(source.referral, address.agency, person)
                    woken.update(take_step(node, tx, source.referral, step, person))
                woken.update(announce(node, tx, new))
                views.append(referral_view(tx, new))
            now = find_held(tx, series.id)
            if now.status in BEFORE_REFERRED:
                who = {"agency": node.agency, "person": person.name}
                advance(tx, now, SeriesStatus.REFERRED, at=node.clock(), **who)
            return views

        views = node.store.write(work)
        for agency in woken:
            node.wake(agency)
        node.alarmed()
        return views

    def _permission(self, series: Series, address: _Address, purpose: str) -> Held | None:
        """The owner's permission to tell its series on, where this agency holds one."""
        node = self._node
        if series.owner == node.agency:
            return None
        return node.store.read(
            lambda tx: held(node, tx, series.id, Use.PASS_ON, (address.agency,), purpose)
        )

    def _state(
        self,
        person: Person,
        series: Series,
        addresses: Sequence[_Address],
        request: operator_pb2.ReferSeriesRequest,
    ) -> list[Request]:
        """Keep what is stated of a child in danger until a second officer confirms it."""
        node = self._node
        statements = [
            statement(
                node,
                person.name,
                address.agency,
                use=Use.REFER,
                grounds=request.vital_interests,
                purpose=request.purpose,
                case_ref=request.case_ref,
                terms={
                    "series": series.id,
                    "country": address.country,
                    "urgency": str(request.urgency),
                    "note": clean(request.note),
                },
            )
            for address in addresses
        ]
        if not statements:
            return []
        return node.store.write(lambda tx: [note(node, tx, one, series.id) for one in statements])

    def confirmed(self, person: Person, request: Request) -> operator_pb2.ReferralView:
        """Tell an agency on the exception that ``person`` confirms, as the second officer.

        Statement, referral, the notice to the series' provider and their audit entries are one
        transaction. Raises as `refer`.
        """
        node, terms = self._node, request.terms
        series = node.store.read(lambda tx: with_items(tx, find_held(tx, terms["series"])))
        source = None if series.owner == node.agency else self._source(series)
        address = _Address(request.peer, terms["country"], "")
        question = self._may_be_told(series, address, request.purpose)
        rules = node.allow(endangered(question), f"telling {address.agency}")
        asked = operator_pb2.ReferSeriesRequest(
            series=series.id,
            purpose=request.purpose,
            case_ref=request.case_ref,
            note=terms["note"],
        )
        first = Person(request.person, person.roles)
        urgency = parse_urgency(int(terms["urgency"]))
        at = node.clock()
        packed = pack_series(node, series.id, address.agency, under=series.handling)
        woken = {address.agency}

        def work(tx: Tx) -> operator_pb2.ReferralView:
            current = tx.requests.get(request.id)
            if current is None:
                raise NotFound("the request is no longer here")
            check_decidable(current, person.name, node.clock())
            decided = confirm(node, tx, person, current)
            known = self._told_already(tx, series, address, urgency, source)
            if known is not None:
                return _known_view(tx, known)
            new = self._new(first, series, address, urgency, asked, source, at)
            original = source.original if source else None
            send_referral(
                *(node, tx, new, series, packed, rules, original), stated=stated_out(decided)
            )
            if source is not None:
                step = self._passed_on(source.referral, address.agency, person)
                woken.update(take_step(node, tx, source.referral, step, person))
            woken.update(announce(node, tx, new))
            woken.add(tell_provider(node, tx, decided, series.id, node.clock()))
            return referral_view(tx, new)

        view = node.store.write(work)
        for agency in woken - {""}:
            node.wake(agency)
        node.alarmed()
        return view

    def _source(self, series: Series) -> _Source:
        """The latest referral of another agency's series that stands, as it came in."""

        def work(tx: Tx) -> _Source:
            came = tx.referrals.find(Direction.IN, series.id)
            standing = [one for one in came if one.state is not ReferralState.WITHDRAWN]
            if not standing:
                raise NotFound(
                    f"{series.owner} has not referred {series.id} to {self._node.agency}, "
                    "so it is not for it to tell on; answer the broadcast, or ask its owner"
                )
            return _Source(standing[-1], original_envelope(tx, standing[-1]))

        return self._node.store.read(work)

    def _may_be_told(self, series: Series, address: _Address, purpose: str) -> Question:
        node = self._node
        own = series.owner == node.agency
        return node.question(
            Action.BE_TOLD if own else Action.PASS_ON,
            asker=address.agency if own else node.agency,
            holder=node.agency if own else address.agency,
            purpose=purpose,
            handling=series.handling,
            owner=series.owner,
        )

    def _addresses(
        self, series: Series, request: operator_pb2.ReferSeriesRequest
    ) -> list[_Address]:
        node, directory = self._node, self._node.directory()
        if request.agency:
            if request.agency in (node.agency, series.owner):
                raise InvalidInput(f"{request.agency} has this series; name another agency")
            member = directory.member(request.agency)
            country = check_known_country(request.country) if request.country else ""
            return [_Address(member.agency, country, "")]
        countries: Sequence[str] = []
        if request.country:
            countries = [check_known_country(request.country)]
        if not countries:
            countries = node.store.read(lambda tx: standing_countries(tx, series.id))
        if not countries:
            raise InvalidInput(
                "no likely country stands; assess the series, or say --country or --agency"
            )
        addresses: dict[tuple[str, str], _Address] = {}
        for country in countries:
            for address in self._serving(country, series.owner):
                # of another's series, whoever was told in one envelope is not told in it again
                which = country if series.owner == node.agency else ""
                addresses.setdefault((address.agency, which), address)
        return list(addresses.values())

    def _serving(self, country: str, owner: str) -> list[_Address]:
        directory, have = self._node.directory(), (self._node.agency, owner)
        serving = [member.agency for member in directory.serving(country)]
        others = [agency for agency in serving if agency not in have]
        if others:
            return [_Address(agency, country, "") for agency in others]
        if serving:
            known = " and ".join(serving)
            raise InvalidInput(f"only {known} serves {country} and has the series already")
        hubs = [member.agency for member in directory.hubs() if member.agency not in have]
        if not hubs:
            raise NotFound(
                f"no member serves {country} and no hub can take it; tell it by other means, and "
                "record that with `tieline clock told-outside`"
            )
        note = f"No member of the federation serves {country}; please tell it by other means."
        return [_Address(hubs[0], country, note)]

    def _told_already(
        self, tx: Tx, series: Series, address: _Address, urgency: Urgency, source: _Source | None
    ) -> Referral | None:
        """Return the referral that says this already, with no less urgency; of another agency's
        series the one inside which the same envelope went, since a recipient takes that once."""
        for known in reversed(tx.referrals.find(Direction.OUT, series.id)):
            if known.recipient != address.agency or not known.stands:
                continue
            if source is not None:
                country = known.country == address.country
                if country and known.root == source.referral.root:
                    return known
            elif known.urgency <= urgency and address.country in ("", known.country):
                return None if grew_since(tx, series.id, known.created) else known
        return None

    def _new(
        self,
        person: Person,
        series: Series,
        address: _Address,
        urgency: Urgency,
        request: operator_pb2.ReferSeriesRequest,
        source: _Source | None,
        at: datetime,
    ) -> Referral:
        identifier = new_id()
        return Referral(
            id=identifier,
            root=source.referral.root if source else identifier,
            series=series.id,
            direction=Direction.OUT,
            sender=self._node.agency,
            recipient=address.agency,
            country=address.country,
            urgency=urgency,
            purpose=request.purpose,
            case_ref=clean(request.case_ref),
            person=person.name,
            created=at,
            note=" ".join(part for part in (address.note, clean(request.note)) if part),
        )

    def _passed_on(self, referral: Referral, agency: str, person: Person) -> ReferralStep:
        return ReferralStep(
            id=new_id(),
            referral=referral.id,
            state=ReferralState.PASSED_ON,
            agency=self._node.agency,
            person=person.name,
            at=self._node.clock(),
            passed_to=agency,
        )


def _known_view(tx: Tx, known: Referral) -> operator_pb2.ReferralView:
    view = referral_view(tx, known)
    view.reason = (
        f"told already on {known.created:%Y-%m-%d %H:%M} UTC, {known.urgency.name.lower()}, for"
        f" {known.purpose}, case {known.case_ref}: nothing was sent now"
    )
    return view


def _refused_view(series: Series, address: _Address, why: str) -> operator_pb2.ReferralView:
    return operator_pb2.ReferralView(
        series=series.id,
        direction="out",
        recipient=address.agency,
        country=address.country,
        reason=f"not told: {why}",
    )
