"""Numbered changes of items: what the index follows (index_feed.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import insert, select
from tieline_client.digests import DigestKind

from tieline_server.domain.ports import HoldingSet, Ids, Rows
from tieline_server.storage.schema import item_changes

if TYPE_CHECKING:
    from tieline_server.storage.session import Session

Digests = dict[DigestKind, tuple[Ids, Rows]]

CHANGES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Change:
    """One numbered change. Items [first, last] are new; ``import_no`` is an import that became
    complete; ``generation`` is storage's after it. ``fresh`` and ``held`` repeat what the new items
    state, so that it need not be read back: digests by kind, and holding sets by item."""

    no: int
    generation: int
    first: int = 0
    last: int = -1
    import_no: int = 0
    touched: tuple[int, ...] = ()
    erased: tuple[int, ...] = ()
    fresh: Digests | None = field(default=None, compare=False, repr=False)
    held: tuple[Ids, list[HoldingSet]] | None = field(default=None, compare=False, repr=False)


def record_change(
    session: Session,
    *,
    new: tuple[int, int] = (0, -1),
    import_no: int = 0,
    touched: Iterable[int] = (),
    erased: Iterable[int] = (),
    fresh: Digests | None = None,
    held: tuple[Ids, list[HoldingSet]] | None = None,
) -> None:
    """Number a change of this transaction and keep it. ``erased`` are gone, or hold less."""
    change = Change(
        no=session.next("change"),
        generation=session.counter("generation"),
        first=new[0],
        last=new[1],
        import_no=import_no,
        touched=tuple(sorted(touched)),
        erased=tuple(sorted(erased)),
        fresh=fresh,
        held=held,
    )
    row = {
        "no": change.no,
        "generation": change.generation,
        "first": change.first,
        "last": change.last,
        "import_no": change.import_no,
        "touched": _packed(change.touched),
        "erased": _packed(change.erased),
    }
    session.connection.execute(insert(item_changes).values(**row))
    session.uncommitted.append(change)


def changes_after(session: Session, after: int, limit: int = CHANGES_AT_ONCE) -> list[Change]:
    """Return committed changes after a number, in order."""
    found = select(item_changes).where(item_changes.c.no > after)
    return [
        Change(
            row.no,
            row.generation,
            row.first,
            row.last,
            row.import_no,
            unpacked(row.touched),
            unpacked(row.erased),
        )
        for row in session.connection.execute(found.order_by(item_changes.c.no).limit(limit))
    ]


def _packed(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype="<i8").tobytes()


def unpacked(packed: bytes) -> tuple[int, ...]:
    """Return the item ids of a packed column."""
    return tuple(np.frombuffer(packed, dtype="<i8").tolist())
