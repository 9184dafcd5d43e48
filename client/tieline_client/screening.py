"""Which records may be held and asked abroad, and what of them says nothing of content.

The same rules hold where a file is imported (the node) and where it is asked abroad (a person's
own client), so they stand here once.
"""

from __future__ import annotations

from dataclasses import replace

from tieline_client import limits
from tieline_client.digests import DigestKind, is_junk
from tieline_client.formats.record import Record, Vote
from tieline_client.identifiers import check_code


def belongs(record: Record, categories: frozenset[Vote], stated: Vote | None) -> bool:
    """Whether a record is in a category that the agency lists, so may be held and asked abroad.

    ``stated`` is the person's ``--category``: it says what records without a category are, and
    that its own code belongs. A format whose every record belongs (``entire``) needs none.
    """
    return record.entire or votes_belong(record.votes, categories, stated)


def votes_belong(votes: tuple[Vote, ...], categories: frozenset[Vote], stated: Vote | None) -> bool:
    """Whether a record with these votes belongs; see `belongs`."""
    if not votes:
        return stated is not None
    return any(vote in categories or vote == stated for vote in votes)


def without_junk(record: Record) -> tuple[Record, int]:
    """Return the record without digests that say nothing of content, and how many there were."""
    dropped = [
        kind
        for kind in DigestKind
        if (value := getattr(record, kind.label)) is not None and is_junk(kind, value)
    ]
    quality = limits.PDQ_MIN_QUALITY if record.pdq_quality is None else record.pdq_quality
    if record.pdq is not None and quality < limits.PDQ_MIN_QUALITY:
        dropped = [*(kind for kind in dropped if kind is not DigestKind.PDQ), DigestKind.PDQ]
    if not dropped:
        return record, 0
    kept = replace(record)
    for kind in dropped:
        setattr(kept, kind.label, None)
    return kept, len(dropped)


def why_unmatched(set_aside: int) -> str:
    """Why a record is rejected that has no digest left, of which so many were set aside."""
    if set_aside:
        return "it has no digest that can be matched: what it has says nothing of content"
    return "it has no digest that can be matched"


def has_digest(record: Record) -> bool:
    """Whether anything is left to match."""
    return any((record.md5, record.sha1, record.sha256, record.pdq))


def category_of(scheme: str, code: str) -> Vote | None:
    """Return the --category that a person states; raise InvalidInput for half of one."""
    if not scheme and not code:
        return None
    return Vote(check_code(scheme, "category scheme"), check_code(code, "category code"))
