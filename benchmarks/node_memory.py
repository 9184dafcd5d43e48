"""Private memory of a node: ``python -m benchmarks.node_memory --size N``.

A real node that holds N items, with SHA-1 and MD5 of each, is started, puts its index together and
answers a million questions about each kind from another node, 2 % of them held. Then all memory
private to its process counts, but for the mapped index files, whose resident part is printed.
"""

from __future__ import annotations

from tieline_client.asked_list import AskedList

from benchmarks import data, end_to_end, indexes, nodes
from benchmarks.memory import memory_of
from benchmarks.rows import arguments, report

ASKED = 1_000_000


def main() -> None:
    """Measure, and write the row."""
    options = arguments(__doc__, size=1_000_000).parse_args()
    with nodes.holding(options.data, options.size, as_is=options.as_is) as made:
        holder = made[nodes.HOLDERS[0]]
        holder.stop()
        holder.start()
        nodes.settle(holder, as_is=options.as_is)
        correct = True
        with made[nodes.HUB].client() as client:
            for kind in indexes.EXACT:
                asked, rows = data.asked_exact(data.digests(kind, options.size), ASKED)
                answer = end_to_end.ask(client, AskedList.from_digests(kind, asked))
                correct = correct and len(answer.matches) == int((rows >= 0).sum())
        assert holder.process is not None
        memory = memory_of(holder.process.pid, holder.home / "indexes")
    print(f"index files mapped and resident beside it: {memory.mapped / 1e6:.0f} MB")
    report("node_memory", options.size, memory.private / 1e6, None, correct)


if __name__ == "__main__":
    main()
