"""SIGKILL of the receiver between its commit and its reply (threats.md 2), on real nodes.

A proxy lets a whole batch through and nothing back, until its commit is seen in the receiver's
database; then the receiver is killed and the line cut. The sender
sends again, the stored replies come back, and each message has had one effect.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.e2e.federation import WHY, Federation, Node, free_port, wait_for
from tests.faults.proxy import Mode, Proxy

SENDER, RECEIVER = "pt-pj", "es-gc"
COUNT = 5
_IN = "SELECT count(*) FROM inbox WHERE kind = 'referral'"
_SETTLED = "SELECT count(*) FROM outbox WHERE kind = 'referral' AND state = 'delivered'"
_BATCH_BYTES = 2_500
"""Less than COUNT referrals in one call, more than whatever is said before."""


def test_a_batch_whose_reply_was_lost_with_its_receiver_has_one_effect(tmp_path: Path) -> None:
    made = Federation(tmp_path).found()
    sender = made.init(SENDER, "national", "PT")
    port = free_port()
    receiver = made.init(RECEIVER, "national", "ES", endpoint=f"127.0.0.1:{port}")
    for node in made:
        made.join(node)
    proxy = Proxy(port, int(receiver.address.rpartition(":")[2]))
    try:
        made.start()
        proxy.behave(Mode.REFUSE)
        told = [_refer(sender, tmp_path, number) for number in range(COUNT)]
        proxy.behave(Mode.HOLD, after=_BATCH_BYTES)
        wait_for("the batch is committed", lambda: receiver.rows(_IN)[0][0] == COUNT)
        receiver.kill()
        proxy.behave(Mode.REFUSE)
        assert sender.rows(_SETTLED) == [(0,)], "the reply came through"
        committed = receiver.rows("SELECT id, digest, reply FROM inbox ORDER BY id")
        proxy.behave(Mode.PASS)
        receiver.start()  # it greets, which ends the sender's back-off
        wait_for("all are settled", lambda: sender.rows(_SETTLED)[0][0] == COUNT)
        assert receiver.rows("SELECT id, digest, reply FROM inbox ORDER BY id") == committed
        effects = receiver.rows("SELECT series FROM referrals WHERE direction = 'in'")
        assert sorted(row[0] for row in effects) == sorted(told)
        assert _logged(receiver, "referral.received") == COUNT
        assert _logged(sender, "message.delivered") == COUNT
        assert len(receiver.inbox()) == COUNT
        clock = sender.run("clock").ok().json["referrals"]
        assert {one["state"] for one in clock} == {"delivered"}
        for node in made:
            assert node.run("audit", "verify").ok().json["verified"]
    finally:
        made.close()
        proxy.close()


def _refer(node: Node, folder: Path, number: int) -> str:
    file = folder / f"{number}.txt"
    file.write_text(f"sha1:{hashlib.sha1(f'reply/{number}'.encode()).hexdigest()}\n")
    (series,) = node.import_file(file, "--series", f"S{number}")["series"]
    said = ("--country", "ES", "--confidence", "high", "--grounds", "sockets")
    node.run("series", "assess", series, *said).ok()
    node.run("series", "refer", series, *WHY).ok()
    return str(series)


def _logged(node: Node, action: str) -> int:
    leaves = node.rows("SELECT leaf FROM audit_leaves")
    return sum(json.loads(leaf)["action"] == action for (leaf,) in leaves)
