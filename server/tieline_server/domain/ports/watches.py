"""Standing queries in storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tieline_server.domain.watch import Notice, Position, Told, Watch, WatchState


class WatchRepository(Protocol):
    def add(self, watch: Watch) -> None:
        """Add one whose list is still coming."""
        ...

    def add_piece(self, watch: str, number: int, piece: bytes) -> None:
        """Add an encrypted piece of a list, numbered from 0."""
        ...

    def activate(self, watch: str) -> None:
        """The whole list is here: from now on it counts. Raises NotFound."""
        ...

    def get(self, watch: str) -> Watch | None:
        """By its id; in a writing transaction it stays as it is until the end."""
        ...

    def find(self, *, ended: bool = False, limit: int = 1000) -> Sequence[Watch]:
        """Those that are active, of the highest priority first, then the oldest; with those that
        ended behind them, newest first."""
        ...

    def coming(self, before: datetime) -> Sequence[str]:
        """Those whose list has been coming since before a time: it will not end."""
        ...

    def drop(self, watch: str) -> None:
        """Delete one whose list never came to its end."""
        ...

    def pieces(self, watch: str) -> Sequence[bytes]:
        """The pieces of its list, in order."""
        ...

    def put_list(self, watch: str, pieces: Sequence[bytes], records: int, counts: str) -> None:
        """Put another list, of fewer items, in the place of its list; rounds begin anew."""
        ...

    def end(self, watch: str, state: WatchState, at: datetime) -> None:
        """End one, and delete its list. Raises NotFound."""
        ...

    def position(self, watch: str, peer: str) -> Position:
        """How far a peer was asked; in a writing transaction it stays as it is until the end."""
        ...

    def positions(self, watch: str) -> Sequence[Position]:
        """Those of all peers that were asked or tried, by agency."""
        ...

    def put_position(self, position: Position) -> None: ...
    def free(self) -> None:
        """No run has any peer in hand."""
        ...

    def add_notice(self, notice: Notice) -> None: ...
    def notices(self, watch: str, limit: int) -> Sequence[Notice]:
        """The newest, newest first."""
        ...

    def heard(self) -> Mapping[str, Told]:
        """What peers last said of their indexes."""
        ...

    def hear(self, peer: str, told: Told, at: datetime) -> None:
        """Keep what a peer says; within an epoch the highest generation counts."""
        ...
