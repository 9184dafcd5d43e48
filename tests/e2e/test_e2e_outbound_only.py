"""Nodes that only call out do all that others do: asked, told, killed, and never read on the way.

One federation serves the module: the hub and es-gc can be called; pt-pj, fr-pn and the repository
interpol only call out. fr-pn is attached to the hub alone. Tests that end a node leave it running.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tieline_client import limits
from tieline_client.certificates import LeafCache
from tieline_client.errors import NotFound, PolicyRefused, RefusedError, Unreachable
from tieline_client.identifiers import new_id
from tieline_client.peer_client import PeerClient
from tieline_client.profile import utc_now
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.node_identity import NodeIdentity

from tests.e2e.federation import WHY, Federation, Node, tieline, wait_for

HUB, LISTENS, OUT, HUB_ONLY, REPOSITORY = "europol-ec3", "es-gc", "pt-pj", "fr-pn", "interpol"
CALLS_OUT = (OUT, HUB_ONLY, REPOSITORY)
MARKER = "Zeichen-7f3a9"
"""Stands in names that only the two ends of a relayed connection may learn."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("outbound")).found()
    made.init(HUB, "hub")
    made.init(LISTENS, "national", "ES")
    made.init(OUT, "national", "PT", outbound_only=True)
    made.init(HUB_ONLY, "national", "FR", outbound_only=True, attach="hub")
    made.init(REPOSITORY, "repository", outbound_only=True)
    made.change("group", "everyone", HUB, LISTENS, OUT, HUB_ONLY, REPOSITORY)
    for node in made:
        made.join(node)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _all_run(trial: Federation) -> None:
    """Every node runs and is attached, whatever the test before did."""
    for node in trial:
        if not node.running:
            node.start()
    for agency in CALLS_OUT:
        wait_attached(trial[agency])


def status(node: Node) -> Any:
    return tieline("node", "status", node.home, "--json").ok().json


def wait_attached(node: Node) -> dict[str, str]:
    """Wait until a node is attached to all that it should be; return since when."""

    def look() -> dict[str, str] | None:
        shown = {one["agency"]: one["since"] for one in status(node)["attached_to"]}
        return shown if shown and all(shown.values()) else None

    return wait_for(f"{node} is attached", look)


def sha1s(name: str, start: int, count: int) -> list[str]:
    numbers = range(start, start + count)
    return [f"sha1:{hashlib.sha1(f'{name}/{n}'.encode()).hexdigest()}" for n in numbers]


def write_list(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def make_series(node: Node, folder: Path, items: int = 3, *words: object) -> str:
    name = f"{MARKER} {new_id()}"
    file = write_list(folder / f"{new_id()}.txt", sha1s(name, 0, items))
    return str(node.import_file(file, "--series", name, *words)["series"][0])


def refer(node: Node, series: str, agency: str, *words: object) -> str:
    told = node.run("series", "refer", series, "--agency", agency, *WHY, *words).ok().json
    (one,) = told["referrals"]
    return str(one["id"])


def arrived(node: Node, identifier: str) -> Any:
    return wait_for(
        f"{node} has {identifier}",
        lambda: next((one for one in node.inbox() if one["id"] == identifier), None),
    )


def becomes(node: Node, referral: str, state: str) -> Any:
    def look() -> Any:
        shown = node.run("clock").ok().json["referrals"]
        one = next(o for o in shown if o["id"] == referral and o["direction"] == "out")
        return one if one["state"] == state else None

    return wait_for(f"{node}'s referral is {state}", look)


@contextlib.contextmanager
def as_node(federation: Federation, caller: str, called: str) -> Iterator[PeerClient]:
    """Call a node with another member's true keys, as its own software never would."""
    home = federation[caller].home
    store = DirectoryStore(home)
    directory = store.current()
    identity = NodeIdentity(home / "keys", home / "certs", caller, directory.federation)
    client = PeerClient(
        own_agency=caller,
        agency=called,
        endpoints=(federation[called].address,),
        directory=store.current,
        identity=identity.identity,
        leaves=LeafCache(directory.federation),
        clock=utc_now,
    )
    try:
        yield client
    finally:
        client.close()


# --- attached -----------------------------------------------------------------------------------


def test_attached_nodes_show_on_both_sides_and_listen_on_no_port(trial: Federation) -> None:
    assert set(wait_attached(trial[OUT])) == {HUB, LISTENS}
    assert set(wait_attached(trial[HUB_ONLY])) == {HUB}
    here = {
        node: {o["agency"] for o in status(trial[node])["attached_here"]} for node in trial.nodes
    }
    assert here == {
        HUB: set(CALLS_OUT),
        LISTENS: {OUT, REPOSITORY},
        OUT: set(),
        HUB_ONLY: set(),
        REPOSITORY: set(),
    }
    for node in trial:
        ports = listening_ports(node)
        own = int(node.operator_address.rpartition(":")[2])
        expected = {own} if node.agency in CALLS_OUT else {own, _port(node.address)}
        assert ports == expected, node


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def listening_ports(node: Node) -> set[int]:
    """TCP ports that a node's process listens on, as the kernel says."""
    assert node.process is not None
    process = Path("/proc") / str(node.process.pid)
    held = set()
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", str(fd.readlink()))
            if found:
                held.add(found[1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in held:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


# --- asked --------------------------------------------------------------------------------------


def test_everybody_asks_everybody_and_the_overlap_is_exact(
    trial: Federation, tmp_path: Path
) -> None:
    common = sha1s("common", 0, 40)
    for number, node in enumerate(trial):
        own = sha1s(f"own of {node.agency}", 0, 100)
        node.import_file(
            write_list(tmp_path / f"{node.agency}.txt", own + common[: 10 + number]),
            *("--series", f"Asked {node.agency}"),
        )
    asked = write_list(tmp_path / "asked.txt", common + sha1s("nobody's", 0, 60))
    for node in trial:
        if node.agency == REPOSITORY:
            continue  # it answers, and asks nobody
        answer = node.ask(asked, "--all").ok().json
        found = {peer["agency"]: peer for peer in answer["peers"]}
        for number, peer in enumerate(trial):
            if peer is not node:
                assert found[peer.agency]["status"] == "answered", found
                matched = {one["asked"] for one in found[peer.agency]["overlaps"]}
                assert matched == set(common[: 10 + number]), (node, peer)


def test_two_hundred_thousand_digests_go_both_ways_between_two_that_only_call_out(
    trial: Federation, tmp_path: Path
) -> None:
    held = sha1s("large", 0, 120_000)
    trial[HUB_ONLY].import_file(write_list(tmp_path / "held.txt", held), "--series", "Large")
    asked = write_list(tmp_path / "asked.txt", held[20_000:] + sha1s("others", 0, 100_000))
    for asker in (trial[OUT], trial[LISTENS]):
        answer = asker.ask(asked, "--peer", HUB_ONLY).ok().json
        (peer,) = answer["peers"]
        assert peer["status"] == "answered", peer
        assert {one["asked"] for one in peer["overlaps"]} == set(held[20_000:])


# --- told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "receiver"), [(LISTENS, OUT), (OUT, LISTENS), (HUB, HUB_ONLY), (OUT, HUB_ONLY)]
)
def test_a_referral_and_its_steps_go_there_and_back(
    trial: Federation, tmp_path: Path, sender: str, receiver: str
) -> None:
    here, there = trial[sender], trial[receiver]
    referral = refer(here, make_series(here, tmp_path, 12_000), receiver)
    assert arrived(there, referral)["series"]["items"] == 12_000
    becomes(here, referral, "delivered")
    for words in (("ack",), ("accept",), ("outcome", "--identified", 1)):
        there.run("inbox", words[0], referral, *words[1:]).ok()
    seen = becomes(here, referral, "outcome")
    assert [one["state"] for one in seen["steps"]][-3:] == ["acknowledged", "accepted", "outcome"]


def test_a_broadcast_reaches_all_and_is_answered(trial: Federation, tmp_path: Path) -> None:
    hub = trial[HUB]
    series = make_series(hub, tmp_path)
    (made,) = hub.run("broadcast", series, "--group", "everyone", *WHY).ok().json["broadcasts"]
    asked = (LISTENS, *CALLS_OUT)
    for agency in asked:
        arrived(trial[agency], made["id"])
        answer = ("--assess", "PT", "--confidence", "high", "--text", "azulejos")
        trial[agency].run("inbox", "answer", made["id"], *answer).ok()

    def all_answered() -> bool:
        shown = hub.run("broadcasts").ok().json["broadcasts"]
        one = next(one for one in shown if one["id"] == made["id"])
        return bool(one["recipients"] == dict.fromkeys(asked, "answered"))

    wait_for("all have answered", all_answered)


def test_a_deposit_is_worked_on_in_a_repository_that_only_calls_out(
    trial: Federation, tmp_path: Path
) -> None:
    sender, repository = trial[OUT], trial[REPOSITORY]
    series = make_series(sender, tmp_path, 20_000)
    (made,) = sender.run("upload", series, "--to", REPOSITORY, *WHY).ok().json["uploads"]

    def at(node: Node, state: str) -> Any:
        shown = node.run("uploads").ok().json["uploads"]
        found = [one for one in shown if one["id"] == made["id"] and one["state"] == state]
        return found[0] if found else None

    wait_for("it is announced", lambda: at(repository, "announced"))
    for state in ("media_requested", "media_received"):
        repository.run("upload", "step", made["id"], "--state", state).ok()
    repository.run(
        *("upload", "step", made["id"], "--state", "numbered", "--reference", "ICSE-7"),
    ).ok()
    assert wait_for("it has its number", lambda: at(sender, "numbered"))["reference"] == "ICSE-7"


# --- away, killed -------------------------------------------------------------------------------


def test_who_is_not_attached_is_unreachable_and_is_told_once_it_is(
    trial: Federation, tmp_path: Path
) -> None:
    away = trial[HUB_ONLY]
    away.stop()
    asked = write_list(tmp_path / "asked.txt", sha1s("common", 0, 3))
    for agency in (LISTENS, HUB, OUT):
        answer = trial[agency].ask(asked, "--peer", HUB_ONLY)
        assert answer.code == 4
        (peer,) = answer.json["peers"]
        assert peer["status"] == "unreachable"
        assert "only calls out" in peer["reason"], peer
    told = {
        agency: refer(trial[agency], make_series(trial[agency], tmp_path), HUB_ONLY)
        for agency in (LISTENS, HUB, OUT)
    }
    tried = "SELECT max(attempts) FROM destinations WHERE agency = ?"
    wait_for("it was tried often", lambda: (trial[HUB].rows(tried, HUB_ONLY)[0][0] or 0) >= 4)
    away.start()
    for agency, referral in told.items():
        arrived(away, referral)
        becomes(trial[agency], referral, "delivered")


@pytest.mark.parametrize("victim", [HUB, HUB_ONLY])
def test_hub_and_node_may_be_killed_and_each_message_counts_once(
    trial: Federation, tmp_path: Path, victim: str
) -> None:
    senders, receiver = (trial[OUT], trial[LISTENS], trial[HUB]), trial[HUB_ONLY]
    told: list[tuple[Node, str]] = []
    stop = threading.Event()

    def kill_now_and_then() -> None:
        while not stop.wait(2.0):
            trial[victim].kill()
            trial[victim].start()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        for number in range(8):
            for sender in senders:
                if sender.agency == victim:
                    continue  # its operator port is away as well
                series = make_series(sender, tmp_path, 6_000 if number % 4 == 0 else 5)
                told.append((sender, refer(sender, series, HUB_ONLY)))
    finally:
        stop.set()
        killer.join()
    for sender, referral in told:
        arrived(receiver, referral)
        becomes(sender, referral, "delivered")
    for sender in senders:
        rows = receiver.rows(
            "SELECT subject FROM inbox WHERE sender = ? AND kind = 'referral'", sender.agency
        )
        subjects = [row[0] for row in rows]
        assert len(subjects) == len(set(subjects))
        assert {referral for by, referral in told if by is sender} <= set(subjects)
    wait_attached(receiver)


# --- what a relay sees, and who may ask it --------------------------------------------------------


def test_the_hub_keeps_nothing_of_what_it_relayed(trial: Federation, tmp_path: Path) -> None:
    hub, sender, receiver = trial[HUB], trial[OUT], trial[HUB_ONLY]
    marker = f"{MARKER}-{new_id()}"
    file = write_list(tmp_path / "list.txt", sha1s(marker, 0, 50))
    series = str(sender.import_file(file, "--series", marker)["series"][0])
    referral = refer(sender, series, HUB_ONLY)
    arrived(receiver, referral)
    becomes(sender, referral, "delivered")
    secrets = [
        marker,
        referral,
        series,
        *(one.removeprefix("sha1:") for one in sha1s(marker, 0, 50)),
    ]
    needles = [one.encode() for one in secrets]
    needles += [bytes.fromhex(one) for one in secrets[3:]]
    assert any(needle in _all_bytes(sender) for needle in needles), "the search finds what is there"
    assert not [needle for needle in needles if needle in _all_bytes(hub)]


def _all_bytes(node: Node) -> bytes:
    """Every file of a home, with the node's log."""
    files = [path for path in node.home.rglob("*") if path.is_file()]
    return b"\0".join(path.read_bytes() for path in [*files, node.log])


def test_nobody_else_is_attached_or_takes_up_anothers_connection(trial: Federation) -> None:
    with as_node(trial, LISTENS, HUB) as client:
        with pytest.raises(PolicyRefused, match="nobody else may attach"):
            next(client.attach())
        with pytest.raises(NotFound):
            next(client.carry(new_id(), iter(())))
    with as_node(trial, OUT, LISTENS) as client, pytest.raises(PolicyRefused, match="ask a hub"):
        next(client.connect(REPOSITORY, iter(())))
    # Whoever is attached learns of connections to itself alone; one of another's is not for it.
    seen: list[str] = []

    with as_node(trial, OUT, HUB) as client, as_node(trial, LISTENS, HUB) as asker:
        standing = client.attach()
        assert next(standing) == ""
        going = threading.Thread(target=lambda: seen.extend(_try(asker.connect(OUT, iter(())))))
        going.start()
        connection = next(one for one in standing if one)
        with as_node(trial, HUB_ONLY, HUB) as thief, pytest.raises(NotFound):
            next(thief.carry(connection, iter(())))
        going.join()
    assert any("did not take up" in one for one in seen), seen

    def refused() -> bool:
        entries = trial[HUB].audit("--action", "refusal")
        return any(
            entry["peer"] == LISTENS and entry["detail"]["method"].endswith("/Attach")
            for entry in entries
        )

    wait_for("the refusal is in the log", refused)


def _try(incoming: Iterator[bytes]) -> list[str]:
    try:
        return [str(one) for one in incoming]
    except Unreachable as error:
        return [error.message]


def test_what_was_relayed_is_counted_in_the_log_of_the_hub(trial: Federation) -> None:
    """Comes late: connections are counted for a minute, which is mostly over by now."""
    hub = trial[HUB]
    wait_for(
        "the connection is counted",
        lambda: any(
            entry["detail"]["asker"] == OUT and entry["detail"]["opened"] >= 1
            for entry in hub.audit("--action", "relay.connected")
            if entry["peer"] == HUB_ONLY
        ),
    )


def test_a_revoked_node_is_cut_off(trial: Federation, tmp_path: Path) -> None:
    asked = write_list(tmp_path / "asked.txt", sha1s("common", 0, 3))
    with as_node(trial, REPOSITORY, HUB) as client:
        trial[REPOSITORY].stop()
        standing = client.attach()
        assert next(standing) == ""
        trial.change("revoke", REPOSITORY)
        trial.wait_directory()
        began = time.monotonic()
        with pytest.raises((RefusedError, Unreachable)):
            for _ in standing:
                pass
        assert time.monotonic() - began < limits.ATTACH_SECONDS / 2  # its own end
        with pytest.raises(RefusedError):
            next(client.attach())
    here = {one["agency"] for one in status(trial[HUB])["attached_here"]}
    assert REPOSITORY not in here
    answer = trial[OUT].ask(asked, "--peer", REPOSITORY)
    assert answer.json is None or answer.json["peers"][0]["status"] == "refused"
