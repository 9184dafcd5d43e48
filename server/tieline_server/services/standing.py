"""Standings on their way: said with every batch and contact, heard from every peer.

Exactly once in effect rests on three things. A message's id: a second copy gets the stored reply.
Its place (lane, sequence): another message in a taken place means that two speak for one agency.
And standings: each side says how far it came, so that whoever was set back shows at once
(domain/standing.py judges). A peer found SET_BACK or a FORK is quarantined: nothing of it is taken,
nothing is sent to it, no question of it is answered, until its operator says which home lives
(`tieline node resync`, or `restore`) and it comes in a new epoch. A word in an epoch that was given
up is refused each time, and said once (left_behind.py). Both sides are alarmed: the log, an audit
entry ``alarm.*``, `node status`, `doctor`.

A peer's word also says what it lacks of ours: what was delivered to it before is queued again from
the outbox, which keeps envelopes for limits.ARCHIVE_LIFE; what never comes is told as void.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
from tieline.v1 import delivery_pb2
from tieline_client.errors import Quarantined
from tieline_client.identifiers import new_id

from tieline_server.domain.ports import Tx
from tieline_server.domain.ports.standings import Challenge
from tieline_server.domain.standing import (
    BELIEVED,
    Finding,
    Judgement,
    Known,
    LaneKnown,
    LaneWord,
    Ranges,
    Trouble,
    Word,
    judge,
    missing,
)
from tieline_server.services import left_behind
from tieline_server.services.accepting import note_heard
from tieline_server.services.context import Node
from tieline_server.services.standing_words import pairs, standing_out, word_in

_log = structlog.get_logger(__name__)

QUARANTINED = Quarantined.reason


@dataclass(frozen=True, slots=True)
class Said:
    """Our standing as it goes out, and what was known of the peer at that moment."""

    standing: delivery_pb2.Standing
    known: Known


@dataclass(frozen=True, slots=True)
class Verdict:
    """What hearing a standing, or looking at a message's place, came to.

    ``ok``: go on. Otherwise nothing of this call takes effect, and messages get RETRY with
    ``reason``. ``again``: the peer wants, or we want, a fresh word: call `Contacts.soon`.
    ``wake``: messages to the peer were queued again, or may go again.
    """

    ok: bool
    reason: str = ""
    text: str = ""
    again: bool = False
    wake: bool = False
    trouble: Trouble = Trouble.NONE


_OK = Verdict(True)
_NOTHING = LaneKnown()


class Standings:
    """Says and hears standings. Keeps nothing in memory: every process on a database agrees."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- saying ---

    def mine(self, tx: Tx, peer: str, *, answer: str = "") -> Said:
        """Return our standing towards a peer, for a request or a response.

        With a request, keep the whole and give it to `heard` with the standing that comes back.
        """
        word, known = tx.standings.mine(peer), tx.standings.known(peer)
        challenge = tx.standings.challenge(peer)
        standing = standing_out(word)
        standing.answer, standing.trouble = answer, known.trouble.value
        standing.again = challenge.id if challenge is not None and challenge.open else ""
        return Said(standing, known)

    @staticmethod
    def marked(standing: delivery_pb2.Standing, verdict: Verdict) -> delivery_pb2.Standing:
        """Return our standing in answer to a word that was refused, which says so."""
        if verdict.trouble is not Trouble.NONE:
            standing.trouble = verdict.trouble.value
        return standing

    # --- hearing ---

    def heard(
        self,
        tx: Tx,
        peer: str,
        standing: delivery_pb2.Standing,
        said: Said | None = None,
    ) -> Verdict:
        """Judge and store a peer's standing, in a writing transaction.

        ``said``: what we said in the request that this answers; None for a standing in a request.
        A peer of v1.0 says none (an empty epoch): it is taken as it is.
        """
        known = tx.standings.known(peer)
        if not standing.epoch:
            return quarantined(known) or _OK
        word = word_in(standing)
        if known.trouble is not Trouble.NONE:
            note_heard(tx, peer, word, self._node.clock())
        asked, challenge = said.known if said else None, tx.standings.challenge(peer)
        if asked is None and challenge is not None and standing.answer == challenge.id:
            asked = challenge.asked
        judged = judge(known, word, asked)
        if judged.finding is Finding.STALE:
            if challenge is None or not challenge.open:
                tx.standings.put_challenge(peer, Challenge(new_id(), known))
            _log.info("standing.asked_again", peer=peer, why=judged.why)
            return Verdict(False, "WRONG_STATE", f"say it again: {judged.why}", again=True)
        if challenge is not None and judged.finding is Finding.RENEWED:
            tx.standings.put_challenge(peer, None)  # it was of the epoch before
        elif asked is not None and challenge is not None and challenge.open:
            tx.standings.put_challenge(peer, replace(challenge, open=False))
        if judged.finding in BELIEVED:
            return self._believed(tx, peer, known, judged, word, standing, answers=said is not None)
        if judged.finding is Finding.LATE:
            return quarantined(known) or _OK
        return self._bad(tx, peer, known, judged, word)

    def glance(self, tx: Tx, peer: str, standing: delivery_pb2.Standing) -> bool:
        """Whether a standing in a request says nothing that has to be written down.

        The usual case, at the cost of a read: the same life, which knows what it knew.
        """
        known = tx.standings.known(peer)
        if known.trouble is not Trouble.NONE or not standing.epoch:
            return known.trouble is Trouble.NONE
        if standing.trouble != known.told or standing.again or standing.answer:
            return False
        word = word_in(standing)
        judged = judge(known, word)
        if judged.finding is not Finding.SAME:
            return False
        return all(
            not one.gaps
            and not one.voids
            and not known.lanes.get(lane, _NOTHING).voids
            and (one.applied, one.highest)
            == (known.lanes.get(lane, _NOTHING).applied, known.lanes.get(lane, _NOTHING).highest)
            for lane, one in word.lanes.items()
        )

    def _believed(
        self,
        tx: Tx,
        peer: str,
        known: Known,
        judged: Judgement,
        word: Word,
        standing: delivery_pb2.Standing,
        *,
        answers: bool,
    ) -> Verdict:
        looked = answers and not standing.again
        after = self._told(tx, peer, judged.known, standing, judged=looked)
        if known.trouble is not Trouble.NONE and judged.finding is not Finding.RENEWED:
            # Only its operator's word ends it; what it says meanwhile is not followed.
            after = replace(known, told=after.told, told_since=after.told_since)
            if after != known:
                tx.standings.put(peer, after)
            return quarantined(after) or _OK
        if after != known:
            tx.standings.put(peer, after)
        if judged.finding is Finding.RENEWED:
            self._note(tx, peer, "standing.renewed", judged.why)
        wake = self._fill(tx, peer, known, judged, word)
        self._pass_voids(tx, peer, standing)
        wake |= judged.finding is Finding.RENEWED or bool(known.told and not after.told)
        again = bool(standing.again) or not self._recovered(tx, after)
        return Verdict(True, again=again, wake=wake)

    def _bad(self, tx: Tx, peer: str, known: Known, judged: Judgement, word: Word) -> Verdict:
        trouble = Trouble[judged.finding.name]
        if judged.finding is Finding.LEFT_BEHIND:
            self.refused_copy(tx, peer, word.epoch, judged.why)
            return Verdict(False, QUARANTINED, f"{trouble.value}: {judged.why}", trouble=trouble)
        if known.trouble is Trouble.NONE:
            self.quarantine(tx, peer, trouble, judged.why)
            note_heard(tx, peer, word, self._node.clock())
        return quarantined(tx.standings.known(peer)) or _OK

    def _told(
        self, tx: Tx, peer: str, known: Known, standing: delivery_pb2.Standing, *, judged: bool
    ) -> Known:
        """Follow what the peer holds against us; the first word of it is an alarm here, too.

        ``judged``: it has looked at our word. Else it may speak of the copy that it holds for the
        living one, and takes LEFT_BEHIND, which is said of an epoch, not back.
        """
        if standing.trouble == known.told or (known.told == Trouble.LEFT_BEHIND and not judged):
            return known
        if standing.trouble:
            why = f"{peer} holds {standing.trouble} against this node and takes nothing from it"
            self.alarm(tx, peer, f"told_{standing.trouble}", why)
        since = self._node.clock() if standing.trouble else None
        return replace(known, told=standing.trouble, told_since=since)

    # --- gaps ---

    def _fill(self, tx: Tx, peer: str, known: Known, judged: Judgement, word: Word) -> bool:
        """Queue again what a peer lacks and was delivered before; whether anything was."""
        count = 0
        whole = judged.finding in {Finding.RENEWED, Finding.FIRST}
        own = tx.standings.mine(peer) if whole else None
        for lane, one in word.lanes.items():
            lacking: Ranges = one.gaps
            if own is not None:
                lacking = missing(one, own.lanes.get(lane, LaneWord()).sent)
            before = known.lanes.get(lane, LaneKnown())
            if not lacking and not before.voids:
                continue
            queued, voids = tx.standings.requeue(peer, lane, lacking)
            tx.standings.put_voids(peer, lane, voids)
            count += queued
        if count:
            self._note(tx, peer, "messages.replayed", judged.finding.value, messages=count)
        return bool(count)

    def _pass_voids(self, tx: Tx, peer: str, standing: delivery_pb2.Standing) -> None:
        """Let the watermark pass what the peer says will never come; an alarm for what we lack."""
        for lane in standing.lanes:
            for first, last in pairs(lane.voids):
                before = tx.standings.mine(peer).lanes[lane.lane]
                tx.standings.settle(peer, lane.lane, first, min(last, lane.sent))
                after = tx.standings.mine(peer).lanes[lane.lane]
                if before != after:
                    why = f"messages {first} to {last} of lane {lane.lane} will never come"
                    self.alarm(tx, peer, "void", why)

    # --- messages ---

    def gate(self, tx: Tx, peer: str) -> Gate:
        """Return what looks at the places of a batch's messages, in the transaction of it."""
        return Gate(self, tx, peer)

    def may_send(self, tx: Tx, peer: str) -> Verdict:
        """Whether messages and questions may go to a peer now."""
        known = tx.standings.known(peer)
        held = quarantined(known)
        if held is not None:
            return held
        if known.told:
            text = f"{peer} holds {known.told} against this node; see `tieline node status`"
            return Verdict(False, QUARANTINED, text)
        if not self._recovered(tx, known):
            return Verdict(False, "WRONG_STATE", f"{peer} has not told yet what it had", again=True)
        return _OK

    def check_peer(self, peer: str) -> None:
        """Raise Quarantined when questions of a peer, or to it, are not for now."""
        known = self._node.store.recall(("standing", peer), lambda tx: tx.standings.known(peer))
        held = quarantined(known)
        if held is not None:
            raise Quarantined(f"{peer} is quarantined: {held.text}")

    def check_epoch(self, peer: str, epoch: str) -> None:
        """Raise Quarantined, with the alarm, for a question out of an epoch that was given up."""
        known = self._node.store.recall(("standing", peer), lambda tx: tx.standings.known(peer))
        if epoch and epoch in known.retired:
            why, store = "it asks in an epoch that its agency has given up", self._node.store
            said = peer, known.epoch, epoch, self._node.clock()
            if store.read(lambda tx: left_behind.due(tx, *said)):
                store.write(lambda tx: self.refused_copy(tx, peer, epoch, why))
            raise Quarantined(f"{peer}: {why}; end that copy, or have its certificate revoked")

    # --- after our own restore ---

    def must_recover(self, tx: Tx, peer: str) -> bool:
        """Whether a peer still has to give back what an older image of this node lacks."""
        return not self._recovered(tx, tx.standings.known(peer))

    def make_room(
        self, tx: Tx, peer: str, standing: delivery_pb2.Standing
    ) -> delivery_pb2.FetchSentRequest:
        """Let our sequences go on above all that a peer has seen; return what to fetch of it."""
        request = delivery_pb2.FetchSentRequest()
        for lane, one in sorted(word_in(standing).lanes.items()):
            first = tx.standings.first_unsure(peer, lane)
            seen = max(one.applied, one.highest)
            tx.standings.raise_sent(peer, lane, seen)
            if first <= seen:
                request.lanes.add(lane=lane, first=first)
        return request

    def recovered(self, tx: Tx, peer: str, count: int) -> None:
        """Note that a peer has given back all that it holds of ours."""
        known = tx.standings.known(peer)
        tx.standings.put(peer, replace(known, recovered=tx.standings.epoch()))
        self._note(tx, peer, "standing.recovered", "what it holds of ours is back", count)

    # --- trouble ---

    def quarantine(self, tx: Tx, peer: str, trouble: Trouble, why: str) -> None:
        """Hold something against a peer from now on, with the alarm."""
        known = tx.standings.known(peer)
        now = self._node.clock()
        tx.standings.put(peer, replace(known, trouble=trouble, reason=why[:500], since=now))
        self.alarm(tx, peer, trouble, why)

    def refused_copy(self, tx: Tx, peer: str, epoch: str, why: str) -> None:
        """Note that a peer spoke in an epoch that was given up; the first time is an alarm."""
        if left_behind.note(tx, peer, tx.standings.known(peer).epoch, epoch, self._node.clock()):
            self.alarm(tx, peer, Trouble.LEFT_BEHIND, why)

    @staticmethod
    def _recovered(tx: Tx, known: Known) -> bool:
        return not tx.standings.renewed() or known.recovered == tx.standings.epoch()

    def alarm(self, tx: Tx, peer: str, what: str, why: str, *subjects: str) -> None:
        """Say it in the log and in the audit log: somebody has to look."""
        name = f"alarm.{str(what).lower()}"
        _log.error(name, peer=peer, why=why)
        tx.audit.append(self._node.entry(name, peer=peer, subjects=subjects, reason=why[:500]))

    def _note(self, tx: Tx, peer: str, action: str, why: str, messages: int = 0) -> None:
        _log.warning(action, peer=peer, why=why, messages=messages)
        entry = self._node.entry(action, peer=peer, reason=why[:500], messages=messages)
        tx.audit.append(entry)


class Gate:
    """Whether messages of a peer may take their places, in the transaction of a batch. `close` ends
    it, before the commit: only then are the places settled."""

    def __init__(self, standings: Standings, tx: Tx, peer: str) -> None:
        self._standings, self._tx, self._peer = standings, tx, peer
        self._known = tx.standings.known(peer)
        self._highest = tx.standings.highest(peer)
        self._taken: dict[tuple[int, int], str] = {}

    def check(self, lane: int, sequence: int, message: str, epoch: str) -> Verdict:
        """Look at one, before it takes effect; ``epoch`` is what came with it.

        A place that another message has shows that two speak for the peer: it is quarantined. An
        earlier message of the same batch counts.
        """
        tx, peer = self._tx, self._peer
        if epoch and epoch in self._known.retired:
            why = "it comes in an epoch that its agency has given up"
            self._standings.refused_copy(tx, peer, epoch, why)
            return Verdict(False, QUARANTINED, why, trouble=Trouble.LEFT_BEHIND)
        held = quarantined(self._known)
        if held is not None:
            return held
        holder = self._holder(lane, sequence)
        if holder is None or holder == message:
            return _OK
        why = f"message {message} has sequence {sequence} of lane {lane}, which {holder} has"
        self._standings.quarantine(tx, peer, Trouble.FORK, why)
        self._known = tx.standings.known(peer)
        return quarantined(self._known) or _OK

    def take(self, lane: int, sequence: int, message: str) -> None:
        """A message that was stored has this place."""
        if sequence:
            self._taken[lane, sequence] = message

    def close(self) -> None:
        """Settle the places that were taken."""
        self._tx.standings.came(self._peer, self._taken)

    def _holder(self, lane: int, sequence: int) -> str | None:
        if not sequence:
            return None
        if sequence > self._highest.get(lane, 0):  # as in every batch that comes in order
            return self._taken.get((lane, sequence))
        held = self._tx.standings.holder(self._peer, lane, sequence)
        return held or self._taken.get((lane, sequence))


def quarantined(known: Known) -> Verdict | None:
    """Return why nothing is exchanged with a peer, None when it is."""
    if known.trouble is Trouble.NONE:
        return None
    return Verdict(False, QUARANTINED, f"{known.trouble.value}: {known.reason}")
