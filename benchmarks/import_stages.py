"""Where the time of an import goes outside storage: ``python -m benchmarks.import_stages``.

A CSV of SHA-1, MD5, category and series (a million records unless told otherwise) goes through the
stages one after the other, each measured with those before it, in microseconds of processor time a
record: reading, messages, the wire and back with its checks, admission. Nothing is stored.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tieline.v1 import operator_pb2
from tieline_client import constraints
from tieline_client.columns import Columns
from tieline_client.columns_wire import from_wire
from tieline_client.formats.block_reading import open_blocks
from tieline_client.formats.record import Vote
from tieline_client.record_stream import RecordStream
from tieline_server.services.admission import admit

_BLOCK = 50_000
_CATEGORIES = frozenset({Vote("vics-us", "1"), Vote("vics-us", "2")})


def write_csv(path: Path, size: int) -> None:
    """Write random records: 25 to a series, in one of three categories."""
    rng = np.random.default_rng(1)
    with path.open("w") as stream:
        stream.write("sha1;md5;category;series\r\n")
        for first in range(0, size, _BLOCK):
            count = min(_BLOCK, size - first)
            sha1, md5 = rng.bytes(20 * count).hex(), rng.bytes(16 * count).hex()
            stream.writelines(
                f"{sha1[at * 40 : at * 40 + 40]};{md5[at * 32 : at * 32 + 32]};"
                f"vics-us:{at % 3};Series {(first + at) // 25}\r\n"
                for at in range(count)
            )


def read(path: Path) -> Iterator[int]:
    """Yield how many records each block of the file has."""
    for block in open_blocks(path):
        yield len(block.columns or ())


def messages(path: Path) -> Iterator[operator_pb2.ImportRequest]:
    """Yield the file as messages."""
    return RecordStream(path.name, open_blocks(path)).messages()


def arrived(path: Path) -> Iterator[Columns]:
    """Yield what the node has of each message once its checks are done."""
    for message in messages(path):
        came = operator_pb2.ImportRequest.FromString(message.SerializeToString())
        constraints.check(came)
        yield from_wire(came.columns)


def admitted(path: Path) -> Iterator[Columns]:
    """Yield what would be staged."""
    for columns in arrived(path):
        yield admit(columns, _CATEGORIES, None).columns


STAGES: dict[str, Callable[[Path], Iterator[object]]] = {
    "read": read,
    "into messages": messages,
    "over the wire": arrived,
    "admitted": admitted,
}


def main() -> None:
    """Measure each stage with those before it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        write_csv(path, size)
        for name, stage in STAGES.items():
            began, cpu = time.perf_counter(), time.process_time()
            for _ in stage(path):
                pass
            seconds, used = time.perf_counter() - began, time.process_time() - cpu
            print(
                f"{name}: {used / size * 1e6:.2f} us a record, {size / seconds:,.0f} records/s; "
                f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
            )


if __name__ == "__main__":
    main()
