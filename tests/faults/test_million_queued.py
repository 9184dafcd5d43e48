"""A million messages wait for one destination: the node's memory does not grow with them, people
still get their page at once, others are served, and delivery goes on from the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.federation import WHY, Federation, Node, wait_for

WAITING = 1_000_000
GROWTH_BYTES = 64 << 20
SOME = 2_000
"""Messages that are delivered before the look at memory."""

_MANY = f"""
INSERT INTO outbox
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {WAITING})
SELECT printf('00000000-0000-7000-8000-%012x', i), recipient, lane, kind,
       printf('%s/%d', subject, i), created, attachment, sequence + i, 'queued', 0, NULL, NULL, '',
       envelope
FROM n, outbox WHERE recipient = 'es-gc' AND kind = 'referral'
"""


def _peak(node: Node) -> int:
    """The most memory that the process had so far, in bytes (proc(5): VmHWM)."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text(encoding="ascii")
    (line,) = [one for one in status.splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def _refer(node: Node, name: str, agency: str) -> None:
    made = node.run("series", "create", name).ok().json["id"]
    node.run("series", "refer", made, "--agency", agency, *WHY).ok()


@pytest.mark.slow
def test_memory_is_bounded_with_a_million_queued(tmp_path: Path) -> None:
    made = Federation(tmp_path).found()
    for agency, country in (("pt-pj", "PT"), ("es-gc", "ES"), ("fr-of", "FR")):
        made.init(agency, "national", country)
    for each in made:
        made.join(each)
    pt, es, fr = made["pt-pj"], made["es-gc"], made["fr-of"]
    try:
        made.start("pt-pj", "fr-of")
        _refer(pt, "Azul", "es-gc")
        wait_for("it was tried", lambda: pt.rows("SELECT 1 FROM destinations WHERE attempts > 0"))
        pt.run("outbox").ok()
        few = _peak(pt)
        pt.stop()
        pt.alter(_MANY)
        pt.start()
        shown = pt.run("outbox", "--limit", "10").ok().json
        assert len(shown["entries"]) == 10
        (there,) = [one for one in shown["destinations"] if one["agency"] == "es-gc"]
        assert there["queued"] == WAITING + 1
        _refer(pt, "Verde", "fr-of")  # others do not wait for it
        wait_for("fr-of has its own", fr.inbox)
        es.start()
        settled = "SELECT count(*) FROM outbox WHERE state IN ('delivered', 'refused')"
        wait_for("some are settled", lambda: pt.rows(settled)[0][0] >= SOME)
        assert len(es.inbox()) == 1  # the same message under other ids is refused, not repeated
        assert _peak(pt) - few < GROWTH_BYTES
    finally:
        made.close()
