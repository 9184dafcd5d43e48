"""A peer that hangs costs only itself: its messages wait, all others go, and nothing is lost.

One federation serves the module. fr-pn's process is stopped by a signal: its kernel goes on taking
connections and bytes, and nothing is ever answered. de-bka is behind a proxy that swallows every
byte. es-gc is well. What is asserted is the order of events, from the sender's database.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tieline_client import limits
from tieline_server.domain.messages import Reply

from tests.e2e.federation import WHY, Federation, Node, free_port, wait_for
from tests.faults.proxy import Mode, Proxy

HUB, SENDER, WELL, STOPPED, SWALLOWED = "europol-ec3", "pt-pj", "es-gc", "fr-pn", "de-bka"
MEMBERS = ((HUB, "hub"), (SENDER, "national", "PT"), (WELL, "national", "ES"))
HUNG = (STOPPED, SWALLOWED)
ROUND = 20
"""Referrals to each of the three, at a time."""
MORE_THREADS = 16
"""What a sender may need for three destinations: fewer than the messages of one round."""
_names = iter(range(1, 1_000_000))


@pytest.fixture(scope="module")
def proxy() -> Iterator[list[Proxy]]:
    made: list[Proxy] = []
    yield made
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, proxy: list[Proxy]) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("hung")).found()
    for agency, role, *countries in (*MEMBERS, (STOPPED, "national", "FR")):
        made.init(agency, role, *countries)
    port = free_port()
    hidden = made.init(SWALLOWED, "national", "DE", endpoint=f"127.0.0.1:{port}")
    proxy.append(Proxy(port, int(hidden.address.rpartition(":")[2])))
    for node in made:
        made.join(node)
    try:
        yield made.start()
    finally:
        made.close()


@contextmanager
def stopped(node: Node) -> Iterator[None]:
    """The process exists, and does nothing."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


def refer(node: Node, folder: Path, *agencies: str) -> list[str]:
    """Refer a new series to agencies; return the referrals' ids in their order."""
    name = f"Hung {next(_names)}"
    file = folder / f"{name}.txt"
    file.write_text(f"sha1:{next(_names):040x}\n")
    (series,) = node.import_file(file, "--series", name)["series"]
    made = []
    for agency in agencies:
        told = node.run("series", "refer", series, "--agency", agency, *WHY).ok().json
        (one,) = told["referrals"]
        made.append(str(one["id"]))
    return made


def states(node: Node, recipient: str, referrals: list[str]) -> set[str]:
    """The states of referrals' messages, as the sender's database has them."""
    found = dict(
        node.rows(
            "SELECT subject, state FROM outbox WHERE recipient = ? AND kind = 'referral'",
            recipient,
        )
    )
    return {found[referral] for referral in referrals}


def delivered(node: Node, recipient: str, referrals: list[str]) -> None:
    wait_for(
        f"{recipient} has all",
        lambda: states(node, recipient, referrals) == {"delivered"},
    )


def attempts(node: Node, recipient: str) -> int:
    """How many calls to a destination have failed in a row."""
    found = node.rows("SELECT attempts FROM destinations WHERE agency = ?", recipient)
    return int(found[0][0]) if found else 0


def threads(node: Node) -> int:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Threads")))


def assert_once(node: Node, sender: str, referrals: list[str]) -> None:
    """Each was applied, at the first time or told so since, and has one effect."""
    came = node.rows(
        "SELECT subject, reply FROM inbox WHERE sender = ? AND kind = 'referral'", sender
    )
    mine = sorted((subject, reply) for subject, reply in came if subject in set(referrals))
    assert mine == sorted((one, int(Reply.APPLIED)) for one in referrals)
    known: list[Any] = [row[0] for row in node.rows("SELECT id FROM referrals")]
    assert all(known.count(one) == 1 for one in referrals)


def test_others_get_theirs_meanwhile(trial: Federation, proxy: list[Proxy], tmp_path: Path) -> None:
    sender = trial[SENDER]
    three = (STOPPED, SWALLOWED, WELL)
    first = refer(sender, tmp_path, *three)
    for agency, referral in zip(three, first, strict=True):
        delivered(sender, agency, [referral])  # every connection is open and greeted
    before = threads(sender)
    sent: dict[str, list[str]] = {agency: [one] for agency, one in zip(three, first, strict=True)}
    most = before

    def a_round() -> None:
        """All of the round reach the one that is well; none the others."""
        nonlocal most
        made = [refer(sender, tmp_path, *three) for _ in range(ROUND)]
        for agency, *referrals in zip(three, *made, strict=True):
            sent[agency] += referrals
        delivered(sender, WELL, sent[WELL])
        most = max(most, threads(sender))
        for agency in HUNG:
            assert states(sender, agency, sent[agency][1:]) == {"queued"}

    proxy[0].behave(Mode.SWALLOW)
    with stopped(trial[STOPPED]):
        began = time.monotonic()
        a_round()
        tried = [attempts(sender, agency) for agency in HUNG]
        # Both are in their first call still: the round did not wait for a deadline to pass. (A
        # machine on which the round itself takes as long as that shows nothing of it.)
        assert tried == [0, 0] or time.monotonic() - began > limits.DELIVER_SECONDS
        # From here on a deadline has passed: the node comes back, and greets the black hole.
        sender.stop()
        sender.start()
        wait_for("a Hello failed", lambda: attempts(sender, SWALLOWED) >= 1)
        wait_for("a Hello failed", lambda: attempts(sender, STOPPED) >= 1)
        a_round()
        assert all(attempts(sender, agency) >= 1 for agency in HUNG)
    proxy[0].heal()
    assert most <= before + MORE_THREADS, (before, most)
    for agency in three:
        delivered(sender, agency, sent[agency])
        assert_once(trial[agency], SENDER, sent[agency])
    assert [attempts(sender, agency) for agency in three] == [0, 0, 0]


def test_a_call_from_a_peer_that_was_away_ends_its_back_off(
    trial: Federation, tmp_path: Path
) -> None:
    sender, peer = trial[SENDER], trial[WELL]
    peer.stop()
    referrals = refer(sender, tmp_path, WELL)
    wait_for("a call failed", lambda: attempts(sender, WELL) >= 1)
    sender.stop()
    # As after days without an answer; no wait of the sender's own is over within this test.
    far = datetime.now(UTC) + timedelta(days=2)
    micros = int(far.timestamp() * 1_000_000)
    sender.alter(f"UPDATE destinations SET next_attempt = {micros} WHERE agency = '{WELL}'")
    sender.start()
    assert states(sender, WELL, referrals) == {"queued"}
    waits = "SELECT next_attempt FROM destinations WHERE agency = ?"
    assert sender.rows(waits, WELL) == [(micros,)]
    peer.start()

    file = tmp_path / "asked.txt"
    file.write_text(f"{'ab' * 20}\n")
    peer.ask(file, "--peer", SENDER).ok()

    delivered(sender, WELL, referrals)
    assert sender.rows(waits, WELL) == [(None,)]
    assert_once(peer, SENDER, referrals)
