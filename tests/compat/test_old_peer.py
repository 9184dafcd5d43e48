"""Today's nodes and a peer that speaks v1.0: everything that both know goes both ways.

pt-pj, the hub and the repository are real nodes; es-gc is ``wire_v1_0/old_peer.py`` in a process
of its own, with the generated modules of v1.0 and no other code of the project.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from tieline_client import tls
from tieline_client.payload_kinds import unread
from tieline_server.trust.directory_store import DirectoryStore

from tests.e2e.federation import WHY, Federation, Node, federation, wait_for

_HERE = Path(__file__).parent
NEW, OLD, HUB, REPOSITORY = "pt-pj", "es-gc", "europol-ec3", "interpol"
_MEMBERS = [
    (NEW, "national", "PT"),
    (OLD, "national", "ES"),
    (HUB, "hub"),
    (REPOSITORY, "repository"),
]
_APPLIED, _DUPLICATE = 1, 2


class OldPeer:
    """The process, and the way to command it."""

    def __init__(self, made: Federation, folder: Path) -> None:
        peers = folder / "peers.json"
        peers.write_text(json.dumps(_peers(made)))
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(_HERE / "wire_v1_0" / "old_peer.py")),
                *(str(made[OLD].home), made.name, OLD, str(peers)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == {"ready": False}, "the old peer knows messages of a newer wire"

    def __call__(self, do: str, **words: object) -> Any:
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **words}), file=self._process.stdin, flush=True)
        return self._read()

    def received(self, kind: str, subject: str) -> Any:
        """Wait for a message of a kind about a subject; return it."""

        def look() -> Any:
            for one in self("received")["messages"]:
                if (one["kind"], one["subject"]) == (kind, subject):
                    return one
            return None

        return wait_for(f"the old peer has {kind} {subject}", look)

    def close(self) -> None:
        """End the process by closing its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120.0)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _peers(made: Federation) -> dict[str, Any]:
    directory = DirectoryStore(made[NEW].home).current()
    return {
        member.agency: {
            "address": made[member.agency].address,
            "ca": tls.to_pem(member.node_cas).decode(),
            "keys": {
                hashlib.sha256(key.der).hexdigest(): serialization.load_der_public_key(key.der)
                .public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                .decode()
                for key in member.signing_keys
            },
        }
        for member in directory.members
    }


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    root = tmp_path_factory.mktemp("compat")
    with federation(root, _MEMBERS, groups=[("all", NEW, OLD)]) as made:
        made[OLD].stop()
        yield made


@pytest.fixture(scope="module")
def old(trial: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldPeer]:
    peer = OldPeer(trial, tmp_path_factory.mktemp("old"))
    yield peer
    peer.close()


def _digests(name: str, count: int) -> list[str]:
    return [hashlib.sha1(f"{name}/{number}".encode()).hexdigest() for number in range(count)]


def _list(folder: Path, name: str, digests: list[str]) -> Path:
    path = folder / f"{name}.txt"
    path.write_text("".join(f"sha1:{one}\n" for one in digests))
    return path


def _series(node: Node, folder: Path, name: str, items: int = 3) -> str:
    file = _list(folder, name, _digests(name, items))
    return str(node.import_file(file, "--series", name)["series"][0])


def test_a_referral_goes_to_the_old_peer_and_its_steps_come_back(
    trial: Federation, old: OldPeer, tmp_path: Path
) -> None:
    new = trial[NEW]
    series = _series(new, tmp_path, "to the old peer")
    words = ("series", "refer", series, "--agency", OLD, *WHY)
    (referral,) = new.run(*words).ok().json["referrals"]
    came = old.received("referral", referral["id"])
    assert came["series"] == series
    for state in ("acknowledged", "accepted", "outcome"):
        told = old("step", to=NEW, referral=referral["id"], state=state)
        assert (told["reply"], told["again"]) == (_APPLIED, _DUPLICATE), told
        shown = new.run("clock").ok().json["referrals"]
        assert next(one for one in shown if one["id"] == referral["id"])["state"] == state


def test_a_referral_comes_from_the_old_peer_and_its_steps_go_back(
    trial: Federation, old: OldPeer
) -> None:
    new = trial[NEW]
    told = old("refer", to=NEW, country="PT")
    assert (told["reply"], told["again"]) == (_APPLIED, _DUPLICATE), told
    assert told["referral"] in [one["id"] for one in new.inbox()]
    new.run("inbox", "ack", told["referral"]).ok()
    assert old.received("referral_step", told["referral"])["state"] == "acknowledged"


@pytest.mark.parametrize("brief", [True, False])
def test_the_old_peer_asks_a_new_node(
    trial: Federation, old: OldPeer, tmp_path: Path, brief: bool
) -> None:
    name = f"asked by the old peer, {brief}"
    held = _digests(name, 5)
    trial[NEW].import_file(_list(tmp_path, "held", held))
    told = old("overlap", to=NEW, digests=held + _digests("unknown", 20), brief=brief)
    assert told == {"hits": 5, "receipt": True}


@pytest.mark.parametrize("count", [3, 3_000])
def test_a_new_node_asks_the_old_peer(
    trial: Federation, old: OldPeer, tmp_path: Path, count: int
) -> None:
    asked = _digests(f"asked of the old peer {count}", count)
    old("hold", digests=asked[:2])
    (answer,) = trial[NEW].ask(_list(tmp_path, "asked", asked), "--peer", OLD).ok().json["peers"]
    assert answer["status"] == "answered"
    assert sorted(one["asked"] for one in answer["overlaps"]) == sorted(
        f"sha1:{one}" for one in asked[:2]
    )


def test_a_broadcast_reaches_the_old_peer_and_it_answers(
    trial: Federation, old: OldPeer, tmp_path: Path
) -> None:
    hub = trial[HUB]
    series = _series(hub, tmp_path, "who can place this")
    (shown,) = hub.run("broadcast", series, "--group", "all", *WHY).ok().json["broadcasts"]
    old.received("broadcast", shown["id"])
    told = old("answer", to=HUB, broadcast=shown["id"], country="FR")
    assert (told["reply"], told["again"]) == (_APPLIED, _DUPLICATE), told
    answers = hub.rows(
        "SELECT agency, country FROM broadcast_answers WHERE broadcast = ?", shown["id"]
    )
    assert answers == [(OLD, "FR")]


def test_the_old_peer_deposits_in_a_repository_and_learns_its_number(
    trial: Federation, old: OldPeer
) -> None:
    repository = trial[REPOSITORY]
    told = old("upload", to=REPOSITORY)
    assert (told["reply"], told["again"]) == (_APPLIED, _DUPLICATE), told
    # A node that has not yet heard in which version it speaks asks it with what it cannot read.
    met = "SELECT 1 FROM standings WHERE agency = ? AND wire = 'v1.0'"
    wait_for("the repository knows whom it speaks to", lambda: repository.rows(met, OLD))
    words = ("upload", "step", told["upload"], "--state", "numbered", "--reference", "ICSE-9")
    repository.run(*words).ok()
    assert old.received("upload_step", told["upload"])["state"] == "numbered"


def test_a_new_node_deposits_and_refers_with_chunks_beside_an_old_one(
    trial: Federation, old: OldPeer, tmp_path: Path
) -> None:
    """What v1.0 does not know is not needed for what it does: a series of several chunks."""
    new = trial[NEW]
    series = _series(new, tmp_path, "several chunks", items=12_000)
    words = ("series", "refer", series, "--agency", OLD, *WHY)
    (referral,) = new.run(*words).ok().json["referrals"]
    old.received("referral", referral["id"])


def test_nothing_stayed_behind_and_nothing_newer_was_sent(trial: Federation, old: OldPeer) -> None:
    def left() -> list[Any]:
        sql = "SELECT kind, state, reason FROM outbox WHERE recipient = ? AND state != 'delivered'"
        return [row for agency in (NEW, HUB, REPOSITORY) for row in trial[agency].rows(sql, OLD)]

    def waiting() -> list[Any]:
        return [row for row in left() if row[0] not in unread("v1.0") or row[1] == "queued"]

    try:
        wait_for("everything for the old peer is delivered or parked", lambda: not waiting())
    except AssertionError:
        raise AssertionError(waiting()) from None
    newer = [row for row in left() if row[0] in unread("v1.0")]
    assert "deposit_report" in {kind for kind, _, _ in newer}  # of the deposit that was numbered
    for kind, state, reason in newer:
        assert state == "parked"
        assert f"{OLD} speaks v1.0 and reads no {kind}" in reason
    assert old("received")["unparsed"] == 0
