"""What a running node finds when it looks itself over (`tieline doctor`).

Every check is bounded in time and cheap enough to run while the node serves; each finding says what
to do. Checks that fail by an error are findings too, so that one fault hides no other.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import structlog
from tieline.v1 import doctor_pb2
from tieline_client.errors import TielineError
from tieline_client.findings import PEER, Finding, State

from tieline_server import at_rest
from tieline_server.backup import reminding
from tieline_server.domain import merkle
from tieline_server.domain.ports import Tx
from tieline_server.home_doctor import disk
from tieline_server.policy.cases import load_cases
from tieline_server.policy.loading import default_folder
from tieline_server.services.standing_words import Held, held
from tieline_server.trust.directory_status import revoked_words
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.directory import keys_apart
from tieline_server.wiring.endings import endings
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)

SKEW_WARNING = timedelta(minutes=1)
SKEW_FAILED = timedelta(hours=25)
"""The tolerance of certificates and messages (design.md, identity and trust)."""
_PEERS_AT_ONCE = 16
_LOOK_SECONDS = 5.0
_DAMAGE_SHOWN = 3
_AUDIT_LEAVES = 20_000
"""A log of so many entries is recomputed whole, of a longer one only its newest entries."""
_STATES = {
    State.WELL: doctor_pb2.FINDING_STATE_WELL,
    State.WARNING: doctor_pb2.FINDING_STATE_WARNING,
    State.FAILED: doctor_pb2.FINDING_STATE_FAILED,
}


class Doctor:
    """Examines one running node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def examine(self) -> doctor_pb2.ExamineResponse:
        """Run every check."""
        response = doctor_pb2.ExamineResponse()
        checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
            ("expiry", self._endings),
            ("keys", self._keys),
            ("directory", self._directory),
            (PEER, self._peers),
            ("standing", self._standings),
            ("tls", self._listeners),
            ("index", self._index),
            ("storage", self._storage),
            ("disk", lambda: iter([disk(self._parts.home.path)])),
            ("backup", self._backups),
            ("policy", self._policy),
            ("audit", self._audit),
        )
        for name, check in checks:
            try:
                found = list(check())
            except TielineError as error:
                found = [Finding(name, State.FAILED, error.message, "see the node's log")]
            except Exception as error:  # noqa: BLE001 - one fault must hide no other
                _log.error("doctor.failed", check=name, exc_info=error)
                text = f"the check itself failed ({type(error).__name__})"
                found = [Finding(name, State.FAILED, text, "see the node's log, and report it")]
            for one in found:
                response.findings.add(
                    check=one.check[:64],
                    state=_STATES[one.state],
                    text=one.text[:500],
                    advice=one.advice[:500],
                )
        return response

    def _endings(self) -> Iterator[Finding]:
        now = utc_now()
        for one in endings(self._parts, now):
            if one.over(now):
                yield Finding("expiry", State.FAILED, one.words(now), one.advice)
            elif one.due(now):
                yield Finding("expiry", State.WARNING, one.words(now), one.advice)
            else:
                yield Finding("expiry", State.WELL, f"{one.what} ends {one.ends:%Y-%m-%d}")
        problem = self._parts.identity.problem
        if problem:
            yield Finding("expiry", State.WARNING, problem, "then it renews itself")

    def _keys(self) -> Iterator[Finding]:
        if (apart := keys_apart(self._parts)) is not None:
            yield apart
        warning = at_rest.plain_keys_warning(self._parts.home)
        if warning:
            what, _, advice = warning.partition("; ")
            yield Finding("keys", State.WARNING, what, advice)
        else:
            yield Finding("keys", State.WELL, "every private key in the home is encrypted")

    def _directory(self) -> Iterator[Finding]:
        store = self._parts.directory
        directory = store.current()
        if store.problem:
            yield Finding(
                "directory",
                State.WARNING,
                store.problem,
                "the own copy is used until it expires; bring the source back",
            )
        if why := revoked_words(directory, self._parts.config.agency):
            what, _, advice = why.rpartition("; ")
            yield Finding("directory", State.FAILED, what, advice)
        directory.check_fresh(utc_now())
        left = directory.expires - utc_now()
        yield Finding(
            "directory",
            State.WELL,
            f"version {directory.version} of {directory.federation}, good for {left.days} days",
        )

    def _peers(self) -> Iterator[Finding]:
        """Reachability of each peer and, by its signed Hello, how far its clock is off."""
        others = self._parts.others()
        if not others:
            yield Finding(PEER, State.WELL, "there is no other member to be called")
            return
        apart = {one.peer for one in self._held()}
        with ThreadPoolExecutor(min(_PEERS_AT_ONCE, len(others))) as pool:
            skews: list[timedelta] = []
            for agency, met in zip(others, pool.map(self._meet, others), strict=True):
                if isinstance(met, TielineError):
                    yield Finding(
                        PEER,
                        State.FAILED,
                        f"{agency} cannot be reached: {met.message}",
                        "call its duty contact if it lasts; what is queued for it waits",
                    )
                    continue
                skews.append(met)
                one = _skew(agency, met)
                if agency in apart and one.state is State.WELL:
                    text = f"{agency} answers, but one of the two refuses what the other sends"
                    one = Finding(PEER, State.WARNING, text, f"see `standing` on {agency}")
                yield one
        far = [one for one in skews if abs(one) >= SKEW_WARNING]
        if far and len(far) * 2 > len(skews):
            yield Finding(
                "clock",
                State.WARNING,
                f"{len(far)} of {len(skews)} peers see another time: it is this clock",
                "synchronise this machine's clock (NTP)",
            )

    def _standings(self) -> Iterator[Finding]:
        """What this node holds against peers, and they against it (services/standing.py)."""
        found = self._held()
        for one in found:
            state = State.FAILED if one.blocks else State.WARNING
            yield Finding("standing", state, one.text, one.advice)
        if not found:
            text = "no peer is quarantined, and none holds anything against this node"
            yield Finding("standing", State.WELL, text)

    def _held(self) -> list[Held]:
        others = frozenset(self._parts.others())
        found = self._parts.store.read(partial(held, now=utc_now()))
        return [one for one in found if one.peer in others]

    def _meet(self, agency: str) -> timedelta | TielineError:
        try:
            client = self._parts.peers.client(agency)
            client.greet_again()
        except TielineError as error:
            return error
        return client.skew

    def _listeners(self) -> Iterator[Finding]:
        """Both ports must refuse everything below TLS 1.3."""
        config = self._parts.config
        ports = {"operator": config.operator_listen}
        if not config.outbound_only and config.listen:
            ports["federation"] = config.listen
        for name, address in ports.items():
            older = _takes_older_tls(address)
            if older is None:
                text = f"the {name} port {address} cannot be reached from this machine"
                yield Finding("tls", State.WARNING, text, "see which address it listens on")
            elif older:
                yield Finding(
                    "tls",
                    State.FAILED,
                    f"the {name} port {address} speaks TLS 1.2",
                    "see what stands in front of it: nothing may end TLS before the node",
                )
            else:
                yield Finding("tls", State.WELL, f"the {name} port speaks TLS 1.3 only")

    def _index(self) -> Iterator[Finding]:
        index = self._parts.store.index
        reflected, stored = index.reflected(), index.stored()
        if index.failure:
            advice = "see the log; stop the node and remove HOME/indexes to have it built anew"
            yield Finding("index", State.FAILED, f"it does not follow: {index.failure}", advice)
        elif reflected < stored:
            text = f"answers reflect generation {reflected} of {stored}"
            yield Finding("index", State.WARNING, text, "wait; large imports take minutes")
        else:
            yield Finding("index", State.WELL, f"answers reflect generation {stored}")
        for words in self._parts.index_damage[-_DAMAGE_SHOWN:]:
            text = f"files of it were damaged and are built anew from the database: {words}"
            advice = "no answer was wrong; have the disk and the memory of this machine tested"
            yield Finding("index", State.WARNING, text, advice)

    def _storage(self) -> Iterator[Finding]:
        store = self._parts.store
        if store.damaged:
            yield Finding(
                "storage",
                State.FAILED,
                "the database is damaged and answers nothing",
                "stop the node and restore the last backup",
            )
            return
        store.read(lambda tx: tx.audit.size())
        yield Finding("storage", State.WELL, "the database answers and reports no damage")

    def _backups(self) -> Iterator[Finding]:
        said = list(reminding.warnings(self._parts.store, utc_now()))
        for one in said:
            what, _, advice = one.partition("; ")
            yield Finding("backup", State.WARNING, what, advice or "tieline node backup")
        if not said:
            yield Finding("backup", State.WELL, "the last backup is recent")

    def _policy(self) -> Iterator[Finding]:
        config, policy = self._parts.config, self._parts.node.policy
        folder = self._parts.home.path / config.policies if config.policies else default_folder()
        file = folder / "cases.txt"
        if not file.is_file():
            yield Finding(
                "policy",
                State.WARNING,
                f"{folder} has rules and no cases.txt",
                "write down what they must decide; see policies/README.md",
            )
            return
        failed = policy.run_cases(file)  # type: ignore[attr-defined]
        if failed:
            text = f"{len(failed)} cases are decided otherwise than {file} says"
            yield Finding("policy", State.FAILED, text, "run `tieline policy check`")
        else:
            count = len(load_cases(file).cases)
            yield Finding("policy", State.WELL, f"{count} cases are decided as {file} says")

    def _audit(self) -> Iterator[Finding]:
        size, wrong = self._parts.store.read(_check_audit)
        if wrong:
            yield Finding(
                "audit",
                State.FAILED,
                f"the log does not verify: {wrong}",
                "export it, keep the machine as it is, and call the auditor",
            )
        else:
            yield Finding("audit", State.WELL, f"{size} entries; what was recomputed agrees")


def _skew(agency: str, skew: timedelta) -> Finding:
    off = abs(skew)
    text = f"{agency} answers; its clock is {off.total_seconds():.1f} s "
    text += "ahead" if skew > timedelta(0) else "behind"
    if off < SKEW_WARNING:
        return Finding(PEER, State.WELL, text)
    state = State.FAILED if off >= SKEW_FAILED else State.WARNING
    return Finding("clock", state, text, "one of the two must synchronise its clock (NTP)")


def _check_audit(tx: Tx) -> tuple[int, str]:
    """Return the log's size, and what does not hold of the entries looked at, or ""."""
    size = tx.audit.size()
    start = max(0, size - _AUDIT_LEAVES)
    records = list(tx.audit.records(start, size - start))
    if [one.position for one in records] != list(range(start, size)):
        return size, "positions are missing"
    for one in records:
        if merkle.leaf_hash(one.leaf) != one.leaf_hash:
            return size, f"entry {one.position} was changed"
    if start == 0:
        nodes = merkle.append(0, [one.leaf_hash for one in records], lambda *_: b"")
        known = {(one.level, one.number): one.hash for one in nodes}
        if merkle.root(size, lambda level, index: known[level, index]) != tx.audit.root():
            return size, "the root is not that of the entries"
    return size, ""


def _takes_older_tls(address: str) -> bool | None:
    """Whether a port of this machine completes a handshake below TLS 1.3; None: not reached."""
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104
    older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    older.check_hostname, older.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # only the version is of interest
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((host, int(port)), _LOOK_SECONDS) as plain:
            try:
                with older.wrap_socket(plain):
                    return True
            except (ssl.SSLError, ConnectionError):
                return False
    except OSError:
        return None
