"""Writes docs/hostile-connections.md. Run ``python -m tests.rpc.mid_connection_table``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tieline_client  # noqa: F401 - before anything imports grpc: TLS 1.3 only

from tests.rpc.mid_connection import Case, cases
from tests.rpc.mid_connection_changes import SERVED

PAGE = Path(__file__).parents[2] / "docs" / "hostile-connections.md"

_HEAD = """\
# When trust ends in the middle of a connection

A connection stands for up to half an hour, a stream for minutes, a TLS session ticket longer. What
becomes of each when trust ends meanwhile, measured over real mutual TLS: callers at the node's own
listeners behind its own guard, and servers met by the client that nodes use. Each line first sees
the connection work, then something changes, then the same connection (or stream, or a session that
was kept) is used once more. `tests/rpc/test_mid_connection.py` measures each line again and
compares this page; to write it anew: `python -m tests.rpc.mid_connection_table`. Before connections
are made: [hostile certificates](hostile-certificates.md).

- *served*: it goes on, as it should.
- `STATUS/REASON/CHECK`: what a caller gets, as a status with exactly one ErrorInfo. Nothing of the
  call had an effect; of a stream, nothing after the message before.
- `cut off`: the stream ends as soon as the node has the new directory, with nothing more on it.
- `CHECK` alone: why the node's client sends nothing more. A test sees that no byte of content went.

A *twin* is a second node with the agency's keys. With a leaf of its own it is a caller like any
other, and is revoked by itself. With the very same leaf nothing in TLS tells it from the first:
there the standings do, which set both apart (`tests/services/test_standing_service.py`). A *role
change* ends no connection: what the caller may ask and be told under its new role is decided call
by call (`tests/policy/test_policy_oracle.py`). What hangs on the role itself ends: a hub that is
none any more relays no new connection, a node that can be called has no standing stream.

A *resumed session* of a server is one of a client that keeps session tickets, which the node's own
does not: TLS then looks at no certificate and no CA anew. What holds all the same is the signed
Hello, which comes first on every connection and shows the leaf.

| who | when | gets |
|---|---|---|
"""


def render(measured: Iterable[tuple[Case, str]]) -> str:
    """Return the page."""
    lines = (
        f"| {case.side} | {case.name} | {'*served*' if told == SERVED else f'`{told}`'} |\n"
        for case, told in measured
    )
    return _HEAD + "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render((case, case.run()) for case in cases()), encoding="utf-8")
