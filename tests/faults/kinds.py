"""The faults of a campaign, each befalling one node while the others go on.

A fault is a function of the world and a source of chance. It returns when the node serves again.
Those in ``QUIET`` need all traffic paused and delivered first: what a set-back node had
acknowledged and not yet sent is gone with its disk, and no protocol brings it back.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable

from tests.e2e.federation import Node, free_port, tieline, wait_for
from tests.faults.hostile_sockets import rapid_resets, silent, tls
from tests.faults.injection import DISK, WRITES, injected
from tests.faults.proxy import Mode
from tests.faults.world import World, faked_time

Fault = Callable[[World, random.Random], str]
"""Returns what happened in words, with the node's name."""


def _any(world: World, chance: random.Random) -> Node:
    return world.nodes[chance.choice(sorted(world.nodes))]


def _while_broken(chance: random.Random) -> None:
    """Let traffic meet the fault for a while; the length is part of the schedule."""
    time.sleep(chance.uniform(0.3, 1.5))


# --- processes ---------------------------------------------------------------------------------


def killed(world: World, chance: random.Random) -> str:
    """SIGKILL, and a start a little later."""
    node = _any(world, chance)
    node.kill()
    _while_broken(chance)
    node.start()
    return node.agency


def ended(world: World, chance: random.Random) -> str:
    """SIGTERM, as for an upgrade."""
    node = _any(world, chance)
    assert node.stop() == 0
    node.start()
    return node.agency


def hung(world: World, chance: random.Random) -> str:
    """SIGSTOP: connections stay, nothing answers."""
    node = _any(world, chance)
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    _while_broken(chance)
    node.process.send_signal(signal.SIGCONT)
    return node.agency


def killed_in_a_write(world: World, chance: random.Random) -> str:
    """SIGKILL at the n-th write, fsync or truncation from now."""
    node = _any(world, chance)
    number = chance.randrange(1, 40)
    log = world.root / "strace.log"
    with injected(node, WRITES, f"signal=SIGKILL:when={number}", log):
        died = _dies(node, 10.0)
    if died:
        node.kill()  # collects it
        node.start()
    return f"{node.agency}, write {number}{'' if died else ', not reached'}"


def _dies(node: Node, seconds: float) -> bool:
    try:
        wait_for("the node is killed", lambda: not node.running, seconds)
    except AssertionError:
        return False
    return True


# --- disks -------------------------------------------------------------------------------------


def disk_full(world: World, chance: random.Random) -> str:
    """ENOSPC for everything that storage writes."""
    return _disk_error(world, chance, "ENOSPC")


def disk_broken(world: World, chance: random.Random) -> str:
    """EIO for everything that storage writes."""
    return _disk_error(world, chance, "EIO")


def _disk_error(world: World, chance: random.Random, error: str) -> str:
    node = _any(world, chance)
    with injected(node, DISK, f"error={error}", world.root / "strace.log"):
        _while_broken(chance)
    if not node.running:  # it may close itself; an operator starts it again
        node.kill()
        node.start()
    return node.agency


# --- networks ----------------------------------------------------------------------------------


def delayed(world: World, chance: random.Random) -> str:
    """Every chunk of bytes comes late."""
    return _network(world, chance, Mode.DELAY, seconds=chance.uniform(0.02, 0.2))


def cut(world: World, chance: random.Random) -> str:
    """Connections end somewhere in the middle."""
    return _network(world, chance, Mode.CUT, after=chance.randrange(500, 60_000))


def reset(world: World, chance: random.Random) -> str:
    """Connections are reset somewhere in the middle."""
    return _network(world, chance, Mode.RESET, after=chance.randrange(500, 60_000))


def swallowed(world: World, chance: random.Random) -> str:
    """Packets vanish."""
    return _network(world, chance, Mode.SWALLOW)


def refused(world: World, chance: random.Random) -> str:
    """Nobody gets a connection."""
    return _network(world, chance, Mode.REFUSE)


def _network(world: World, chance: random.Random, mode: Mode, **figures: float) -> str:
    node = _any(world, chance)
    proxy = world.proxies[node.agency]
    proxy.behave(mode, seconds=figures.get("seconds", 0.0), after=int(figures.get("after", 0)))
    _while_broken(chance)
    proxy.heal()
    return node.agency


# --- clocks ------------------------------------------------------------------------------------


def clock_ahead(world: World, chance: random.Random) -> str:
    """A day ahead for a while."""
    return _clock(world, chance, "+1d")


def clock_behind(world: World, chance: random.Random) -> str:
    """A day behind for a while."""
    return _clock(world, chance, "-1d")


def _clock(world: World, chance: random.Random, shift: str) -> str:
    node = _any(world, chance)
    node.stop()
    node.start(**faked_time(shift))
    _while_broken(chance)
    node.stop()
    node.start()
    return node.agency


# --- hostile peers -----------------------------------------------------------------------------


def silent_connections(world: World, chance: random.Random) -> str:
    """Hundreds of connections that say nothing."""
    node = _any(world, chance)
    with silent(node.address, 300):
        _while_broken(chance)
    return node.agency


def stream_resets(world: World, chance: random.Random) -> str:
    """A member resets a thousand streams as soon as it has opened them."""
    target, hostile = (world.nodes[name] for name in chance.sample(sorted(world.nodes), 2))
    path = "/tieline.v1.DeliveryService/Deliver"
    with tls(target.address, hostile.home, target.agency, world.federation.name) as connection:
        sent = rapid_resets(connection, path, 1_000)
    return f"{target.agency} from {hostile.agency}, {sent} streams"


# --- set back (QUIET) --------------------------------------------------------------------------


def image_put_back(world: World, chance: random.Random) -> str:
    """A machine's older image is put back; its operator says that it is the one to live."""
    node = _any(world, chance)
    image = world.root / "image"
    node.stop()
    shutil.rmtree(image, ignore_errors=True)
    shutil.copytree(node.home, image)
    node.start()
    world.interlude()
    node.stop()
    shutil.rmtree(node.home)
    shutil.move(image, node.home)
    node.start()
    wait_for(f"{node.agency} is seen to be set back", lambda: _noticed(world, node), 60.0)
    node.stop()
    tieline("node", "resync", node.home, "--yes").ok()
    node.start()
    return node.agency


def backup_restored(world: World, chance: random.Random) -> str:
    """A backup is made while the node runs, and restored after more came and went."""
    node = _any(world, chance)
    words = world.root / "passphrase"
    words.write_text("correct horse battery staple\n")
    words.chmod(0o600)
    file = world.root / "backup.tieline"
    file.unlink(missing_ok=True)
    tieline("node", "backup", node.home, file, "--passphrase-file", words).ok()
    world.interlude()
    node.stop()
    tombstones = node.home / "tombstones"
    kept = tombstones.read_bytes() if tombstones.exists() else None
    shutil.rmtree(node.home)
    if kept is not None:
        node.home.mkdir(mode=0o700)
        tombstones.write_bytes(kept)
    tieline("node", "restore", node.home, file, "--passphrase-file", words).ok()
    node.start()
    return node.agency


def twin(world: World, chance: random.Random) -> str:
    """A copy of a running node's home is started beside it, under the same identity."""
    node = _any(world, chance)
    node.stop()
    copy = world.root / "twin"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(node.home, copy)
    node.start()
    world.interlude()
    other = Node(copy, node.agency, free_port(), free_port())
    environment = {
        "TIELINE_NODE_LISTEN": other.address,
        "TIELINE_NODE_OPERATOR_LISTEN": other.operator_address,
    }
    other.start(**environment)
    try:
        wait_for(f"a twin of {node.agency} is noticed", lambda: _noticed(world, node), 60.0)
    finally:
        other.kill()
        shutil.rmtree(copy)
    node.stop()
    tieline("node", "resync", node.home, "--yes").ok()
    node.start()
    return node.agency


def _noticed(world: World, node: Node) -> bool:
    """Whether another node has this one in quarantine."""
    sql = "SELECT 1 FROM standings WHERE agency = ? AND trouble != ''"
    others = (other for other in world.nodes.values() if other is not node)
    return any(other.rows(sql, node.agency) for other in others)


KINDS: dict[str, Fault] = {
    "sigkill": killed,
    "sigterm": ended,
    "sigstop": hung,
    "sigkill in a write": killed_in_a_write,
    "disk full": disk_full,
    "input/output error": disk_broken,
    "delayed": delayed,
    "cut": cut,
    "reset": reset,
    "swallowed": swallowed,
    "refused": refused,
    "clock a day ahead": clock_ahead,
    "clock a day behind": clock_behind,
    "silent connections": silent_connections,
    "rapid stream resets": stream_resets,
}
QUIET: dict[str, Fault] = {
    "image put back": image_put_back,
    "backup restored": backup_restored,
    "twin": twin,
}
