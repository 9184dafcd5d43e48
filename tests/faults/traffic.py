"""Operators at work: referrals and the steps on them, as fast as nodes take them.

Every command that a node acknowledged goes into the ledger before anything else happens, so that a
recount can hold it against the databases. A command that failed is counted by its status; whether
it had an effect nobody knows, so it is not in the ledger, and no effect of it may be there twice.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tieline.v1 import payload_pb2
from tieline_client.errors import TielineError
from tieline_client.operator_client import OperatorClient

from tests.e2e.federation import PURPOSE, WAIT_SECONDS, Node

CASE = "FAULTS-1"
_NEXT = {"referred": "acknowledged", "acknowledged": "accepted", "accepted": "outcome"}


@dataclass(frozen=True, slots=True)
class _Open:
    """A referral that still can be stepped at its recipient."""

    referral: str
    sender: str
    recipient: str
    state: str
    tries: int = 0


class Traffic:
    """Workers that command all nodes until told to stop."""

    def __init__(self, nodes: dict[str, Node], ledger: Path, seed: int, workers: int = 2) -> None:
        self._nodes, self._names = nodes, sorted(nodes)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._ledger = ledger.open("a", encoding="utf-8")
        self._folder = ledger.parent / "lists"
        self._folder.mkdir(exist_ok=True)
        self._open: list[_Open] = []
        self._going = threading.Event()
        self._idle = threading.Condition(self._lock)
        self._busy = 0
        self._stopping = threading.Event()
        self._made = 0
        self.acknowledged = 0
        self.refused: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._work, args=(seed + n,), daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def go(self) -> None:
        """Begin, or go on after `pause`."""
        self._going.set()

    def pause(self) -> None:
        """Let no further command begin and wait until those under way have ended."""
        self._going.clear()
        with self._idle:
            ended = self._idle.wait_for(lambda: self._busy == 0, WAIT_SECONDS)
        assert ended, "a command did not end within its deadline"

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._going.set()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        self._ledger.close()

    # --- a worker ---

    def _work(self, seed: int) -> None:
        chance = random.Random(seed)
        clients: dict[str, OperatorClient] = {}
        while True:
            self._going.wait()
            if self._stopping.is_set():
                break
            with self._lock:
                if not self._going.is_set():
                    continue
                self._busy += 1
            try:
                self._act(chance, clients)
            except TielineError as error:
                with self._lock:
                    self.refused[f"{error.status} {error.reason}"] += 1
                self._stopping.wait(0.05)
            finally:
                with self._idle:
                    self._busy -= 1
                    self._idle.notify_all()
        for client in clients.values():
            client.close()

    def _act(self, chance: random.Random, clients: dict[str, OperatorClient]) -> None:
        with self._lock:
            going = self._open.pop(chance.randrange(len(self._open))) if self._open else None
        if going is not None and chance.random() < (0.9 if len(self._open) > 40 else 0.7):
            self._step(going, clients)
            return
        if going is not None:
            self._put_back(going)
        self._refer(chance, clients)

    def _client(self, agency: str, clients: dict[str, OperatorClient]) -> OperatorClient:
        if agency not in clients:
            clients[agency] = self._nodes[agency].client()
        return clients[agency]

    def _refer(self, chance: random.Random, clients: dict[str, OperatorClient]) -> None:
        sender, recipient = chance.sample(self._names, 2)
        client = self._client(sender, clients)
        with self._lock:
            self._made += 1
            name = f"Series {self._made}"
        series = client.create_series(name, case_ref=CASE, clues=f"words {name}").notice.id
        (view,) = client.refer_series(
            series,
            agency=recipient,
            urgency=chance.choice((1, 2, 3, 3, 3)),
            purpose=PURPOSE,
            case_ref=CASE,
        )
        self._note("referral", sender, recipient, view.id, "referred")
        self._put_back(_Open(view.id, sender, recipient, "referred"))

    def _step(self, going: _Open, clients: dict[str, OperatorClient]) -> None:
        wanted = _NEXT[going.state]
        outcome = payload_pb2.Outcome(identified=1) if wanted == "outcome" else None
        try:
            self._client(going.recipient, clients).step_referral(
                going.referral, wanted, outcome=outcome
            )
        except TielineError as error:
            if error.status == "FAILED_PRECONDITION":  # taken by a call whose answer was lost
                self._put_back(_after(going, wanted))
            elif error.status != "NOT_FOUND" and wanted == "outcome":
                pass  # it may have been taken, and an outcome may be told twice: one is enough
            elif going.tries < 2_000:
                self._put_back(
                    _Open(
                        going.referral,
                        going.sender,
                        going.recipient,
                        going.state,
                        going.tries + 1,
                    )
                )
            if error.status != "NOT_FOUND":  # it has not come yet
                raise
            self._stopping.wait(0.01)
            return
        self._note("step", going.recipient, going.sender, going.referral, wanted)
        self._put_back(_after(going, wanted))

    def _put_back(self, going: _Open) -> None:
        if going.state in _NEXT:
            with self._lock:
                self._open.append(going)

    def _note(self, kind: str, node: str, to: str, subject: str, state: str) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(),
            "node": node,
            "kind": kind,
            "subject": subject,
            "to": to,
            "state": state,
        }
        with self._lock:
            self._ledger.write(json.dumps(line) + "\n")
            self._ledger.flush()
            self.acknowledged += 1


def _after(going: _Open, state: str) -> _Open:
    return _Open(going.referral, going.sender, going.recipient, state)
