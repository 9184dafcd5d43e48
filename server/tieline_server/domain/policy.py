"""What policy is asked and what it answers, as pure data.

The answering side asks policy twice for a query: ``ask`` before it looks anything up, and
``learn-*`` for each kind of holding it found (``PolicyDecider.highest_disclosure``). The acting
side asks before it sends: ``be-told`` for each addressee of a referral, ``broadcast`` (and
``relay``) once and ``receive-broadcast`` for each recipient, ``upload``, ``pass-on``. The receiving
side asks the same question again; ``accept-upload`` is an upload's where it arrives.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from tieline_client.directory import Member, Role
from tieline_client.handling import HandlingCode, Tlp

from tieline_server.domain.referral import Urgency


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


UNION_MEMBERS = _codes(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
)
"""The 27 member states, ISO 3166-1 alpha-2."""

UNION_PARTS = _codes("AX GF GP MF MQ RE YT")
"""Parts of member states with a code of their own (Art. 349 and 355(1), (4) TFEU)."""

ROLES = frozenset(str(role) for role in Role)


class Action(enum.StrEnum):
    """What an agency wants to do. Data flows from the sender to the receiver (``Question``)."""

    ASK = "ask"
    """Ask the holder which items it holds too. Shows the asked digests to the holder."""
    LEARN_HIT = "learn-hit"
    LEARN_COUNT = "learn-count"
    LEARN_REFERENCE = "learn-reference"
    LEARN_DETAIL = "learn-detail"
    BE_TOLD = "be-told"
    """Receive a referral from the holder."""
    BROADCAST = "broadcast"
    """Send to a group at all; the holder is the hub itself."""
    RECEIVE_BROADCAST = "receive-broadcast"
    """Be one recipient of the holder's broadcast."""
    UPLOAD = "upload"
    """Deposit in the holder, a repository."""
    ACCEPT_UPLOAD = "accept-upload"
    """The same where it arrives."""
    PASS_ON = "pass-on"  # noqa: S105
    """Forward a referral to the holder."""
    EXPORT = "export"
    """Write own or received data into a file; the holder is the agency itself."""
    RELAY = "relay"
    """Put somebody's referral into a broadcast; the holder is the hub itself or a recipient."""
    PUBLISH = "publish"
    """Give a clue's words to the public; the holder is the agency itself."""
    TELL_OUTSIDE = "tell-outside"
    """Tell a country that no member serves by other means; the holder is the agency itself."""


_TOWARDS_ASKER = frozenset(
    {
        Action.LEARN_HIT,
        Action.LEARN_COUNT,
        Action.LEARN_REFERENCE,
        Action.LEARN_DETAIL,
        Action.BE_TOLD,
        Action.RECEIVE_BROADCAST,
    }
)


class Disclosure(enum.IntEnum):
    """How much an answer discloses; each level includes those below."""

    NOTHING = 0
    HIT = 1
    COUNT = 2
    REFERENCE = 3
    DETAIL = 4

    @property
    def label(self) -> str:
        """``hit`` and the like, as the command line prints it."""
        return self.name.lower()


LEARNING: tuple[tuple[Disclosure, Action], ...] = (
    (Disclosure.HIT, Action.LEARN_HIT),
    (Disclosure.COUNT, Action.LEARN_COUNT),
    (Disclosure.REFERENCE, Action.LEARN_REFERENCE),
    (Disclosure.DETAIL, Action.LEARN_DETAIL),
)


def in_union(role: str, countries: Iterable[str]) -> bool:
    """Whether Union law binds this agency: Europol, or an authority of member states alone.

    A repository belongs to an international organisation, whatever countries it names.
    """
    if role == "hub":
        return True
    served = frozenset(countries)
    return role == "national" and bool(served) and served <= UNION_MEMBERS | UNION_PARTS


@dataclass(frozen=True, slots=True)
class Party:
    """An agency as the directory describes it. ``agreement``: the directory lists one for it."""

    agency: str
    role: str
    countries: frozenset[str]
    union: bool
    agreement: bool = False

    @classmethod
    def of(cls, agency: str, role: str, countries: Iterable[str], *, agreement: bool) -> Party:
        """Return the party with ``union`` decided from its role and countries."""
        served = frozenset(countries)
        return cls(agency, role, served, in_union(role, served), agreement)

    @classmethod
    def of_member(cls, member: Member) -> Party:
        """Return the party that a directory's member is."""
        listed = bool((member.agreement or "").strip())
        return cls.of(member.agency, member.role, member.countries, agreement=listed)


@dataclass(frozen=True, slots=True)
class Question:
    """May ``asker`` do ``action`` towards ``holder``?

    ``owner`` is the agency that provided the data; empty means the sender's own. ``confirmed``: a
    person at the sender confirmed this release. ``permission``: the provider permitted this use of
    restricted data. ``vital_interests`` and ``second_officer`` are what people at the sender stated
    (2016/680 Art. 38(1)(a)). ``asked``, ``spent`` and ``budget`` are units, ``spent`` with this
    query reserved; they count for ``ask`` only.

    Nothing is checked here: a question out of bounds is answered with a denial.
    """

    action: Action
    asker: Party
    holder: Party
    purpose: str
    handling: HandlingCode = HandlingCode.H0
    tlp: Tlp = Tlp.AMBER
    owner: str = ""
    urgency: Urgency | None = None
    confirmed: bool = False
    permission: bool = False
    vital_interests: bool = False
    second_officer: bool = False
    asked: int = 0
    spent: int = 0
    budget: int = 0

    @property
    def sender(self) -> Party:
        """The party whose data leaves."""
        return self.holder if self.action in _TOWARDS_ASKER else self.asker

    @property
    def receiver(self) -> Party:
        """The party who gets it."""
        return self.asker if self.action in _TOWARDS_ASKER else self.holder

    @property
    def provider(self) -> str:
        """The owner of the data by name."""
        return self.owner or self.sender.agency

    def towards(self, action: Action) -> Question:
        """Return the same question for another action, the owner of the data kept.

        An empty owner stays empty and so means the new action's sender.
        """
        return replace(self, action=action)


@dataclass(frozen=True, slots=True)
class Decision:
    """``rules`` are the ids that decided, sorted; empty where no rule lists the question.

    ``errors`` are rules that could not be evaluated: with any, the decision is a denial. ``why`` is
    one line without data of either side.
    """

    allowed: bool
    rules: tuple[str, ...]
    errors: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class DisclosureDecision:
    """The highest level an answer may disclose now, and what people could make of it.

    ``decision`` allowed ``level``, or for NOTHING denied the hit. ``confirmable`` is the level once
    a person confirms, ``permissible`` once the provider has permitted it too; neither is lower
    than ``level``.
    """

    level: Disclosure
    decision: Decision
    confirmable: Disclosure
    permissible: Disclosure

    @property
    def pending(self) -> bool:
        """Whether a person's confirmation alone would release more."""
        return self.confirmable > self.level

    @property
    def permission_pending(self) -> bool:
        """Whether the provider's permission would release more than confirmation alone."""
        return self.permissible > self.confirmable


class PolicyDecider(Protocol):
    """Policy as the services see it. Never raises, never blocks; safe from any thread."""

    @property
    def version(self) -> str:
        """SHA-256 (hex) of the rules in force, for the audit log."""
        ...

    def decide(self, question: Question) -> Decision: ...
    def highest_disclosure(self, question: Question) -> DisclosureDecision: ...
