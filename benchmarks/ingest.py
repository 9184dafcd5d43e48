"""A CSV into storage and indexes: ``python -m benchmarks.ingest --size N``.

SHA-1 and MD5 of each item, and a series for every 25th, through `OperatorClient` into a running
node with SQLite, until its index has everything. The peer is PostgreSQL: COPY of the same file into
one table with the same columns, then its primary key. Afterwards another node asks for a sample.
The node's folder is kept for other rows.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from tieline_client.asked_list import AskedList
from tieline_client.digests import DigestKind

from benchmarks import data, end_to_end, nodes, postgres
from benchmarks.rows import arguments, report, size_name

SAMPLE = 10_000
READ_BYTES = 1024 * 1024
_TABLE = 'CREATE TABLE items (sha1 text COLLATE "C" NOT NULL, md5 uuid NOT NULL, series text)'
_COPY = "COPY items FROM STDIN (FORMAT csv, HEADER)"
_KEY = "ALTER TABLE items ADD PRIMARY KEY (sha1)"


def main() -> None:
    """Measure, and write the row."""
    options = arguments(__doc__, size=1_000_000).parse_args()
    path = nodes.csv_of(options.data, options.size)
    peer = None
    if not options.alone and postgres.binaries() is not None:
        peer = into_postgres(path, options.size)
    root = options.data / f"nodes-{size_name(options.size)}"
    shutil.rmtree(root, ignore_errors=True)
    with nodes.federation(root, nodes.HOLDERS[:1]) as made:
        holder = made[nodes.HOLDERS[0]]
        with holder.client() as client:
            ours = nodes.fill(client, path)
            stats = client.get_stats()
        counts = (stats.items, stats.digests["sha1"], stats.digests["md5"])
        correct = counts == (options.size,) * 3 and sample_found(made, options.size)
        size = sum(part.stat().st_size for part in holder.home.rglob("*") if part.is_file())
        print(f"{options.size / ours:.0f} items/s; the node's folder has {size / 1e9:.2f} GB")
    report("ingest", options.size, ours, peer, correct)


def into_postgres(path: Path, size: int) -> float:
    """Copy the file in and make the key; return the seconds that both took."""
    print(f"PostgreSQL: {postgres.FOR_IMPORTS}; {_TABLE}; {_COPY}; {_KEY}")
    with postgres.cluster(postgres.FOR_IMPORTS) as connection:
        began = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_TABLE)
            with path.open("rb") as stream, cursor.copy(_COPY) as copy:
                while block := stream.read(READ_BYTES):
                    copy.write(block)
        copied = time.perf_counter() - began
        connection.execute(_KEY)
        took = time.perf_counter() - began
        row = connection.execute("SELECT count(*) FROM items").fetchone()
    if row is None or row[0] != size:
        raise SystemExit(f"PostgreSQL has {row} rows of {size}")
    print(f"PostgreSQL: copied in {copied:.1f} s, with its key after {took:.1f} s", flush=True)
    return took


def sample_found(made: nodes.Federation, size: int) -> bool:
    """Whether the hub finds a sample of the items, of both digests, and nothing else."""
    rng = np.random.default_rng((107,))
    with made[nodes.HUB].client() as client:
        for kind in (DigestKind.SHA1, DigestKind.MD5):
            asked = rng.integers(0, 256, (SAMPLE, kind.width), dtype=np.uint8)
            first = int(rng.integers(max(size - SAMPLE, 1)))
            asked[::2] = data.digests(kind, SAMPLE // 2, first)
            answer = end_to_end.ask(client, AskedList.from_digests(kind, asked))
            if not np.array_equal(answer.matches.records, np.arange(0, SAMPLE, 2)):
                print(f"{kind.label}: {answer.status}, {len(answer.matches)} found")
                return False
    return True


if __name__ == "__main__":
    main()
