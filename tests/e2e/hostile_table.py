"""Writes docs/hostile-certificates.md: what became of every hostile certificate, measured anew.

Run ``python -m tests.e2e.hostile_table`` in the root of the clone. It makes a federation in a
temporary folder, starts one real node, and shows it every certificate of tests/trust/hostile.py;
tests/e2e/test_e2e_hostile_callers.py measures the same again and compares the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import tieline_client  # noqa: F401 - before anything imports grpc: TLS 1.3 only

from tests.e2e.hostile_world import HostileFederation, as_caller, as_server, hostile_federation
from tests.trust.handshakes import Row, hostile_identity
from tests.trust.hostile import HANDSHAKE, NOT_APPLICABLE, hostile_cases

PAGE = Path(__file__).parents[2] / "docs" / "hostile-certificates.md"

_HEAD = """\
# Hostile certificates

What becomes of a certificate that must not open a door, measured on the product itself over real
mutual TLS: as caller at the federation port of a running node (`tieline node serve`), and as server
met by the client that nodes use (`PeerClient`). `tests/trust/hostile.py` forges them around the CAs
of real homes; `tests/e2e/test_e2e_hostile_callers.py` measures each line again and compares this
page. To write it anew: `python -m tests.e2e.hostile_table`.

- *handshake*: TLS itself refuses. No handler runs, no connection, no effect.
- `CERTIFICATE_...`: the handshake went through, and the check of
  `client/tieline_client/certificates.py` refuses. A caller gets the status UNAUTHENTICATED with
  exactly one ErrorInfo (reason `UNTRUSTED`, this check in its metadata), and the node's log counts
  it. A server got a Hello, which holds a nonce and versions, and nothing more: not even when it
  holds the agency's signing key too.
- `UNKNOWN_AGENCY`: the client does not even connect.
- *honest*: that use is what the certificate was issued for.

The `pki-` lines are of an agency with an existing PKI: an RSA-3072 root, under it the RSA-3072
issuing CA that the directory pins. What that CA signs itself is let in both ways, with P-256 and
RSA leaves, whether or not the chain comes along (`tests/trust/test_existing_pki.py`, and at a
running node); nothing above, beside or below it counts. A CA that has name constraints itself, is
expired, or is weak is not admitted (`CERTIFICATE_MALFORMED`, `CERTIFICATE_AUTHORITY`,
`CERTIFICATE_WEAK`).

| certificate | what it is | as caller at a node | as server seen by a client |
|---|---|---|---|
"""


def measure(stage: HostileFederation) -> Iterator[Row]:
    """Show every certificate both ways."""
    for case in hostile_cases(stage.world):
        yield Row(case, as_caller(stage, hostile_identity(case)), as_server(stage, case))


def render(rows: Iterable[Row]) -> str:
    """Return the page; no certificate's bytes, address or time is in it."""
    lines = (
        f"| {row.case.name} | {row.case.description} | {_cell(row.case.as_caller, row.as_caller)}"
        f" | {_cell(row.case.as_server, row.as_server)} |\n"
        for row in rows
    )
    return _HEAD + "".join(lines)


def _cell(expected: str, outcome: str) -> str:
    if expected == NOT_APPLICABLE:
        return "*honest*"
    return "*handshake*" if outcome == HANDSHAKE else f"`{outcome}`"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, hostile_federation(Path(folder)) as made:
        PAGE.write_text(render(measure(made)), encoding="utf-8")
