"""Tips of the public: brought in, judged by a person, relayed to whoever can follow them up.

1. Tips come in batches, each batch one transaction. The same words on the same clue by the same
   contact are known; what a source brings over its day's limit is counted and not kept. Contact and
   source are kept as keyed hashes alone: the site that took the tip knows who gave it.
2. A person verifies a tip (it supports or eliminates a country) or dismisses it; only verified ones
   count (clues.py:support). Where that changes a likely country, referrals are corrected.
3. A tip goes to the agency of its country as a signed message, where policy allows it and that
   agency has the series: so a retraction of the series reaches every tip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tieline.v1 import operator_clues_pb2 as pb
from tieline.v1 import payload_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, TielineError
from tieline_client.identifiers import check_country, new_id
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.clue import (
    Clue,
    Fate,
    Tip,
    TipState,
    check_judgement,
    check_words,
    keyed,
    most_of_day,
)
from tieline_server.domain.policy import Action, Question
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Urgency
from tieline_server.domain.series import Series
from tieline_server.services.clues import find_clue
from tieline_server.services.context import Node, Person, about, clean
from tieline_server.services.correcting import correct
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.likely import standing_countries
from tieline_server.services.restricting import still
from tieline_server.services.retracting import agencies_told
from tieline_server.services.sending import send

_PAGE = 200


@dataclass(frozen=True, slots=True)
class _Relay:
    tip: Tip
    clue: Clue
    series: Series
    agency: str
    rules: tuple[str, ...]


class TipDesk:
    """What people do with tips."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = node.key_for(b"tips")

    # --- 1 ---

    def add(self, person: Person, tips: Sequence[pb.NewTip]) -> list[str]:
        """Keep tips; return what became of each, or why one cannot be kept."""
        node = self._node
        read = [self._read(one) for one in tips]

        def work(tx: Tx) -> list[str]:
            clues = {name: tx.clues.get(name) for name in {one.clue for one in tips}}
            spent: dict[tuple[str, str], int] = {}
            limited: Counter[str] = Counter()
            fates = []
            for given, tip in zip(tips, read, strict=True):
                clue = clues[given.clue]
                if isinstance(tip, str):
                    fates.append(tip)
                elif clue is None:
                    fates.append(Fate.UNKNOWN_CLUE.value)
                else:
                    fate = self._keep(tx, clue, tip, spent)
                    limited[clue.id] += fate is Fate.LIMITED
                    fates.append(fate.value)
            for clue_id, count in limited.items():
                if count:
                    tx.clues.count_limited(clue_id, count)
            tx.audit.append(self._brought(person, clues, fates))
            return fates

        return node.store.write(work)

    def _brought(
        self, person: Person, clues: dict[str, Clue | None], fates: Sequence[str]
    ) -> AuditEntry:
        words = {fate.value for fate in Fate}
        counts: dict[str, object] = dict(
            Counter(fate if fate in words else "rejected" for fate in fates)
        )
        found = sorted({one.id for one in clues.values() if one})
        entry = self._node.entry(
            "tips.added", person=person.name, subjects=tuple(found[:100]), tips=len(fates)
        )
        return replace(entry, detail={**entry.detail, **counts})

    def _keep(self, tx: Tx, clue: Clue, tip: Tip, spent: dict[tuple[str, str], int]) -> Fate:
        source = tip.source or tip.contact
        day = tip.received.date().isoformat()
        if (source, day) not in spent:
            spent[source, day] = tx.clues.of_day(source, day)
        if spent[source, day] >= most_of_day(source):
            return Fate.LIMITED
        fate = tx.clues.add_tip(_of(clue, tip, source))
        spent[source, day] += fate is Fate.ADDED
        return fate

    def _read(self, given: pb.NewTip) -> Tip | str:
        """Return a tip, or why it is none."""
        node, now = self._node, self._node.clock()
        try:
            received = moment(given.receive_time) if given.HasField("receive_time") else now
            if received > now + limits.CLOCK_TOLERANCE:
                raise InvalidInput("the tip is dated in the future")
            return Tip(
                id=new_id(),
                clue="",
                text=check_words(given.text, "a tip"),
                contact=keyed(self._key, given.contact),
                source=keyed(self._key, given.source),
                received=received,
                origin=node.agency,
                country=check_country(given.country) if given.country else "",
            )
        except TielineError as error:
            return error.message

    def find(self, person: Person, request: pb.ListTipsRequest) -> pb.ListTipsResponse:
        """Return a page of tips. Raises NotFound or InvalidInput."""
        node, size = self._node, min(request.page_size or _PAGE, _PAGE)
        state = parse_state(request.state) if request.state else None

        def work(tx: Tx) -> pb.ListTipsResponse:
            clue = find_clue(tx, request.clue).id if request.clue else ""
            page = tx.clues.tips(clue, state, after=request.page_token, limit=size)
            tx.audit.append(
                node.entry(
                    "tips.read",
                    person=person.name,
                    subjects=(clue,) if clue else (),
                    tips=len(page),
                )
            )
            return pb.ListTipsResponse(
                tips=[tip_view(tx, one) for one in page],
                next_page_token=page[-1].id if len(page) == size else "",
            )

        return node.store.write(work)

    # --- 2 ---

    def judge(self, person: Person, request: pb.JudgeTipRequest) -> pb.TipView:
        """Verify or dismiss a tip. Raises NotFound, InvalidInput or WrongState."""
        node = self._node
        state = parse_state(request.state)
        supports = check_country(request.supports) if request.supports else ""
        eliminates = check_country(request.eliminates) if request.eliminates else ""
        reason = clean(request.reason)

        def work(tx: Tx) -> tuple[pb.TipView, set[str]]:
            tip = find_tip(tx, request.tip)
            check_judgement(tip, state, supports, eliminates, reason)
            clue = find_clue(tx, tip.clue)
            whole = tx.aliases.current(clue.series)
            before = standing_countries(tx, whole)
            tx.clues.judge(
                tip.id,
                state,
                supports=supports,
                eliminates=eliminates,
                person=person.name,
                at=node.clock(),
                reason=reason,
            )
            tx.audit.append(
                node.entry(
                    f"tip.{state.value}",
                    person=person.name,
                    subjects=(tip.id, clue.id, clue.series),
                    supports=supports,
                    eliminates=eliminates,
                    before=tip.state.value,
                )
            )
            woken = correct(node, tx, whole, before, person=person.name)
            return tip_view(tx, find_tip(tx, tip.id)), woken

        view, woken = node.store.write(work)
        for agency in woken:
            node.wake(agency)
        return view

    # --- 3 ---

    def relay(self, person: Person, request: pb.RelayTipsRequest) -> pb.RelayTipsResponse:
        """Tell tips to their countries' agencies, or to one agency.

        Raises NotFound, InvalidInput, or PolicyRefused when nobody may be told any of them; where
        only some may not, they are named with the reason.
        """
        node = self._node
        node.check_purpose(request.purpose, request.case_ref)
        if not request.tips:
            raise InvalidInput("name at least one tip")
        if request.agency:
            node.directory().member(request.agency)

        def work(tx: Tx) -> tuple[pb.RelayTipsResponse, set[str]]:
            refused: dict[str, str] = {}
            relays: list[_Relay] = []
            for name in dict.fromkeys(request.tips):
                relays += self._relays(tx, name, request, refused)
            if not relays and refused:
                reasons = "; ".join(f"{agency}: {why}" for agency, why in sorted(refused.items()))
                raise PolicyRefused(f"nobody may be told: {reasons}")
            woken = {one.agency for one in relays if self._send(tx, person, one, request)}
            views = [tip_view(tx, find_tip(tx, one)) for one in dict.fromkeys(request.tips)]
            return pb.RelayTipsResponse(tips=views, refused=refused), woken

        with about(request.purpose, request.case_ref, person.name):
            response, woken = node.store.write(work)
        for agency in woken:
            node.wake(agency)
        return response

    def _relays(
        self, tx: Tx, name: str, request: pb.RelayTipsRequest, refused: dict[str, str]
    ) -> list[_Relay]:
        node, tip = self._node, find_tip(tx, name)
        if tip.state is TipState.DISMISSED:
            raise InvalidInput(f"tip {tip.id} was dismissed; verify it first")
        clue = find_clue(tx, tip.clue)
        series = tx.series.get(clue.series)
        if series is None:
            raise NotFound("the series of this tip is gone")
        known, made = holders(node, tx, series), []
        for agency in self._competent(tip, request.agency):
            try:
                if agency not in known:
                    raise PolicyRefused(f"it was not told of {series.id}; refer the series first")
                current = still(tx, series, agency)
                question = relay_question(node, current, node.agency, agency, request.purpose)
                rules = node.allow(question, f"a tip on {series.id}")
            except PolicyRefused as error:
                refused[agency] = error.message
                continue
            made.append(_Relay(tip, clue, current, agency, rules))
        return made

    def _competent(self, tip: Tip, agency: str) -> list[str]:
        node = self._node
        if agency:
            if agency == node.agency:
                raise InvalidInput("a tip is relayed to another agency")
            return [agency]
        country = tip.supports or tip.country
        if not country:
            raise InvalidInput(f"tip {tip.id} names no country; verify it, or say --to AGENCY")
        serving = [member.agency for member in node.directory().serving(country)]
        others = [one for one in serving if one != node.agency]
        if not others:
            raise NotFound(f"no other member serves {country}; say --to AGENCY")
        return others

    def _send(self, tx: Tx, person: Person, one: _Relay, request: pb.RelayTipsRequest) -> bool:
        """Queue a tip for an agency; False when it has it already."""
        node, tip, clue = self._node, one.tip, one.clue
        if not tx.clues.relayed(tip.id, one.agency, node.clock()):
            return False
        body = payload_pb2.TipRelay(
            id=tip.id,
            series=clue.series,
            clue=clue.id,
            clue_kind=clue.kind,
            clue_text=clue.text,
            text=tip.text,
            country=tip.country,
            receive_time=timestamp(tip.received),
            state=tip.state.value,
            supports=tip.supports,
            eliminates=tip.eliminates,
        )
        payload = payload_pb2.Payload(
            person=person.name,
            purpose=request.purpose,
            case_ref=clean(request.case_ref),
            tip=body,
        )
        send(node, tx, payload, recipient=one.agency, lane=Urgency.ROUTINE, subject=clue.series)
        tx.audit.append(
            node.entry(
                "tip.relayed",
                person=person.name,
                peer=one.agency,
                purpose=request.purpose,
                case_ref=clean(request.case_ref),
                subjects=(tip.id, clue.id, clue.series),
                rules=one.rules,
                **legal_basis(node, [one.agency]),
            )
        )
        return True


def holders(node: Node, tx: Tx, series: Series) -> frozenset[str]:
    """Return who has a series, as far as this node knows: its owner, whom this node told, and who
    told this node. A retraction reaches them all."""
    came = {one.sender for one in tx.referrals.find(Direction.IN, series.id)}
    return (agencies_told(node, tx, series.id) | came | {series.owner}) - {node.agency}


def relay_question(
    node: Node, series: Series, sender: str, recipient: str, purpose: str
) -> Question:
    """What policy is asked on both sides: telling one's own series on, or back to its owner, is a
    referral's words; telling another's is passing on."""
    direct = series.owner in (sender, recipient)
    return node.question(
        Action.BE_TOLD if direct else Action.PASS_ON,
        asker=recipient if direct else sender,
        holder=sender if direct else recipient,
        purpose=purpose,
        handling=series.handling,
        owner=series.owner,
    )


def _of(clue: Clue, tip: Tip, source: str) -> Tip:
    return Tip(
        tip.id, clue.id, tip.text, tip.contact, source, tip.received, tip.origin, tip.country
    )


def parse_state(text: str) -> TipState:
    """Return a tip's state; raise InvalidInput."""
    try:
        return TipState(text)
    except ValueError:
        raise InvalidInput("a tip is new, verified or dismissed") from None


def find_tip(tx: Tx, tip: str) -> Tip:
    """Return a tip; raise NotFound."""
    found = tx.clues.tip(tip)
    if found is None:
        raise NotFound(f"no tip {tip[:40]!r} here; see `tieline clue tips`")
    return found


def tip_view(tx: Tx, tip: Tip) -> pb.TipView:
    """A tip as the agency's own people see it."""
    return pb.TipView(
        id=tip.id,
        clue=tip.clue,
        text=tip.text,
        country=tip.country,
        receive_time=timestamp(tip.received),
        origin=tip.origin,
        said=tip.said,
        state=tip.state.value,
        supports=tip.supports,
        eliminates=tip.eliminates,
        person=tip.person,
        judge_time=timestamp(tip.judged) if tip.judged else None,
        reason=tip.reason,
        relayed_to=tx.clues.relays(tip.id),
    )
