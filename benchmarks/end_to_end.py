"""A million hashes end to end: ``python -m benchmarks.end_to_end --size N``.

A person asks a million distinct SHA-1 through `OperatorClient`; the own node, the hub's, asks a
peer node that holds N items; 2 % are held, and come back with their series. All of it is what a
node does: signatures, policy, durable audit entries on both sides, and the receipt. The peer is a
packed gRPC echo of the same digests in messages of the same size over the same mutual TLS, from the
asker to a process of its own and back. Both are warmed and measured in turn.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.asking import AskOptions
from tieline_client.digests import DigestKind
from tieline_client.operator_client import OperatorClient
from tieline_client.overlap_answers import Event, PeerAnswer

from benchmarks import data, nodes
from benchmarks.echo import Echo, echo
from benchmarks.rows import arguments, paired, report

KIND = DigestKind.SHA1
ASKED = 1_000_000


def main() -> None:
    """Measure, and write the row."""
    options = arguments(__doc__, size=1_000_000).parse_args()
    held = data.digests(KIND, options.size)
    in_series = np.arange(0, options.size, nodes.IN_SERIES)
    asked, rows = data.asked_exact(held, ASKED, among=in_series)
    with nodes.holding(options.data, options.size, as_is=options.as_is) as made:
        nodes.rest(
            made,
            nodes.LOOKED_CORES,
            nodes.RESTED_SECONDS if options.as_is else nodes.LOOKED_SECONDS,
        )
        asking, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        with asking.client() as client, echo(holder, asking, made.name) as wire:
            began = time.perf_counter()
            made_list = AskedList.from_digests(KIND, asked)
            print(f"the list was made in {time.perf_counter() - began:.3f} s, outside the row")
            correct = check(ask(client, made_list), rows)
            messages = [bytes(one.digests) for one in made_list.batches()]
            correct = correct and returned(wire, messages)
            lists = iter([AskedList.from_digests(KIND, asked) for _ in range(options.rounds + 1)])
            ours, peer = paired(
                lambda: ask_again(client, next(lists), int((rows >= 0).sum())),
                lambda: pass_through(wire, messages),
                options.rounds,
            )
    assert peer is not None
    print(f"{len(messages)} messages of up to {len(messages[0])} bytes; {ours:.3f} s, {peer:.3f} s")
    report("end_to_end", options.size, ASKED / ours, ASKED / peer, correct)


def ask(client: OperatorClient, asked: AskedList) -> PeerAnswer:
    """Ask the holder and return its answer."""
    answers: list[PeerAnswer] = []

    def on_event(event: Event) -> None:
        if isinstance(event, PeerAnswer):
            answers.append(event)

    client.ask_overlap(
        asked, AskOptions(nodes.PURPOSE, nodes.CASE, peers=nodes.HOLDERS[:1]), on_event
    )
    (answer,) = answers
    return answer


def ask_again(client: OperatorClient, asked: AskedList, hits: int) -> None:
    """Ask, and end the program when the answer is not as long as the first: refused is quicker."""
    answer = ask(client, asked)
    if answer.status != "answered" or len(answer.matches) != hits:
        raise SystemExit(f"{answer.status}, {len(answer.matches)} found: {answer.reason}")


def check(answer: PeerAnswer, rows: data.I64) -> bool:
    """Whether the answer names what was planted, each hit with the one series that it is in."""
    planted = np.flatnonzero(rows >= 0)
    matches = answer.matches
    each = np.arange(len(planted) + 1)
    if answer.status != "answered" or answer.disclosure != "reference":
        print(f"{answer.status}, {answer.disclosure}: {answer.reason}")
        return False
    if not np.array_equal(matches.records, planted) or not np.array_equal(
        matches.series_starts, each
    ):
        print(f"{len(matches)} records matched, {len(matches.series)} in series")
        return False
    numbers = nodes.series_of(rows[planted])
    pairs = set(zip(numbers.tolist(), matches.series.tolist(), strict=True))
    return len(pairs) == len(np.unique(numbers)) == len({index for _, index in pairs})


def pass_through(wire: Echo, messages: list[bytes]) -> None:
    """Send everything and take it back."""
    for _ in wire.stream(messages):
        pass


def returned(wire: Echo, messages: list[bytes]) -> bool:
    """Whether the echo is one."""
    sent, back = hashlib.sha256(b"".join(messages)), hashlib.sha256()
    for message in wire.stream(messages):
        back.update(message)
    return sent.digest() == back.digest() and len(messages) == -(-ASKED // limits.DIGESTS_PER_BATCH)


if __name__ == "__main__":
    main()
