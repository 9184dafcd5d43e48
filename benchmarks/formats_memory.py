"""Read a large VICS file and print what it took: `python benchmarks/formats_memory.py [GB]`.

Makes a file of synthetic records (2 GB unless told otherwise) in a temporary directory, reads it in
a process of its own, and prints one JSON document: records, seconds, records/s, and the peak of
resident memory in MB, before reading and after.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tieline_client.formats import Record, open_records
from tieline_client.formats.write import write_vics

_BLOCK = 20_000
"""Different records; the file repeats them, each under a number of its own."""


def medium(number: int) -> dict[str, Any]:
    """Return a synthetic medium with the fields and nested lists of a usual export."""
    digits = hashlib.sha512(str(number).encode()).hexdigest()
    md5 = digits[:32].upper()
    return {
        "MD5": md5,
        "MediaID": number,
        "Category": number % 6,
        "SHA1": digits[32:72],
        "VictimIdentified": False,
        "OffenderIdentified": "false",
        "IsDistributed": True,
        "IsSuspected": None,
        "Comments": "Comment é",
        "Tags": "a,b",
        "Series": f"Series {number % 100}",
        "MediaSize": number * 1_000,
        "RelativeFilePath": f"folder\\file-{number}.jpg",
        "DateUpdated": "2020-01-02T03:04:05Z",
        "IsPrecategorized": False,
        "MimeType": "image/jpeg",
        "AlternativeHashes": [{"MD5": md5, "HashName": "PDQ", "HashValue": digits[:64]}],
        "Exifs": [{"MD5": md5, "PropertyName": "Make", "PropertyValue": "Maker"}],
        "MediaFiles": [{"MD5": md5, "MediaFileID": number, "FileName": "file.jpg"}],
    }


def make_file(path: Path, size: int) -> None:
    """Write a VICS file of about ``size`` bytes."""
    block = [medium(number) for number in range(_BLOCK)]
    with path.open("wb") as stream:

        def media() -> Iterator[dict[str, Any]]:
            while stream.tell() < size:
                yield from block

        write_vics(stream, media(), shape="cases")


def read_file(path: Path) -> dict[str, float]:
    """Read a file through and return the figures of this process."""
    before = _peak_megabytes()
    begun = time.perf_counter()
    records = sum(isinstance(each, Record) for each in open_records(path))
    seconds = time.perf_counter() - begun
    return {
        "bytes": path.stat().st_size,
        "records": records,
        "seconds": round(seconds, 2),
        "records_per_second": round(records / seconds),
        "peak_mb_before": before,
        "peak_mb": _peak_megabytes(),
    }


def _peak_megabytes() -> float:
    # ru_maxrss would begin with what the parent had when it forked.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def main() -> None:
    """Make the file, then read it in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gigabytes", nargs="?", type=float, default=2.0)
    parser.add_argument("--read", type=Path, help="read this file and print the figures")
    arguments = parser.parse_args()
    if arguments.read is not None:
        print(json.dumps(read_file(arguments.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.json"
        make_file(path, int(arguments.gigabytes * 1_000_000_000))
        subprocess.run([sys.executable, __file__, "--read", str(path)], check=True)


if __name__ == "__main__":
    main()
