"""What is measured, against what, and the two marks that each ratio is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table.

    ``at_least`` and ``aim`` are marks for the ratio of ours to the peer's, or of ours itself where
    there is no ``peer``. An aim below ``at_least`` says that less is better. ``size`` is the full
    size, in items held.
    """

    what: str
    unit: str
    peer: str
    at_least: float
    aim: float
    size: int

    @property
    def lower(self) -> bool:
        """Whether less is better."""
        return self.aim < self.at_least

    def reaches(self, ratio: float, mark: float) -> bool:
        """Whether a ratio is at least as good as a mark."""
        return ratio <= mark if self.lower else ratio >= mark


_M = 1_000_000
_POSTGRES = "PostgreSQL `= ANY`"
_PDQ_INDEX = "threatexchange PDQIndex"

TARGETS = {
    "exact_batch_1m": Target(
        "exact, batches of a million", "lookups/s", _POSTGRES, 40, 90, 51 * _M
    ),
    "exact_batch_1k": Target("exact, batches of 1,000", "lookups/s", _POSTGRES, 15, 34, 51 * _M),
    "exact_crafted": Target(
        "exact, digests with a common prefix", "lookups/s", "random digests",
        0.5, 0.9, 51 * _M,
    ),
    "exact_start": Target("first exact answer after start", "s", "", 5, 1, 51 * _M),
    "end_to_end": Target(
        "end to end, a million hashes", "lookups/s",
        "packed gRPC echo", 0.30, 0.55, 51 * _M,
    ),
    "three_peers": Target(
        "one hash asked of three peers", "s", "unary gRPC echo", 12, 8, _M
    ),
    "near_single": Target("near, one by one", "lookups/s", _PDQ_INDEX, 40, 100, 10 * _M),
    "near_batch_1k": Target("near, batches of 1,000", "lookups/s", _PDQ_INDEX, 20, 50, 10 * _M),
    "near_single_flat": Target(
        "near, one by one", "lookups/s", "faiss IndexBinaryFlat", 60, 150, 51 * _M
    ),
    "near_recall": Target(
        "near: true pairs that are found", "pairs", "faiss IndexBinaryFlat", 1, 1, 10 * _M
    ),
    "near_precision": Target(
        "near: found pairs that are true", "pairs", "pairs answered", 1, 1, 10 * _M
    ),
    "near_memory": Target("near: memory of the index", "MB", _PDQ_INDEX, 0.4, 0.2, 10 * _M),
    "node_memory": Target(
        "a node's private memory", "MB", "", 600, 350, 51 * _M
    ),
    "ingest": Target(
        "ingest of a CSV", "s", "PostgreSQL COPY and key", 6, 3, 51 * _M
    ),
    "incremental": Target(
        "imports of 10,000, committed and found", "items/s", "", 10_000, 20_000, 51 * _M
    ),
    "collection": Target(
        "a million items beside a peer's", "s", "", 10, 5, 51 * _M
    ),
    "watch": Target(
        "a night's re-run of a million watched hashes at a peer", "s", "", 5, 1, _M
    ),
    "group_commit": Target(
        "durable writes of 64 callers", "commits/s", "one commit each", 2.5, 4.5, 0
    ),
    "audit_cpu": Target(
        "auditing of a 10,000-hash question, of its CPU", "share", "", 0.15, 0.10, _M
    ),
    "audit_wall": Target(
        "auditing of a 10,000-hash question, of its time", "share", "", 0.50, 0.30, _M
    ),
    "policy_decision": Target(
        "a policy decision: the slowest of all cases", "ms", "", 1.0, 0.5, 0
    ),
    "broadcast": Target(
        "broadcast of 4 KB to 50 nodes", "messages/s", "unary gRPC echo", 0.25, 0.4, 50
    ),
}  # fmt: skip
