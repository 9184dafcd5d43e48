"""Memory does not grow with the file: peak resident memory of a process that reads a large one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tieline_client.formats.write import write_vics

SIZE = 60_000_000
GROWTH_MB = 40
"""Allowed growth: well under the file, and under the 300 MB promised for one of 2 GB."""

PROGRAM = """
import json, re, sys
from pathlib import Path
from tieline_client.errors import FormatError
from tieline_client.formats import open_records
def peak():  # ru_maxrss would begin with what the parent had
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
count, error = 0, ""
try:
    for _ in open_records(Path(sys.argv[1])):
        count += 1
except FormatError as refusal:
    error = refusal.why
print(json.dumps([count, peak() - before, error]))
"""
MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def grown(tmp_path: Path) -> Callable[[bytes, bytes, bytes, int], tuple[int, float, str]]:
    """Return a function that writes head, a repeated block and tail, and reads it elsewhere.

    It returns the number of records, the growth of peak memory in MB, and the error.
    """

    def measure(head: bytes, block: bytes, tail: bytes, size: int) -> tuple[int, float, str]:
        path = tmp_path / "large"
        with path.open("wb") as stream:
            stream.write(head)
            for _ in range(size // len(block)):
                stream.write(block)
            stream.write(tail)
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, check=True, timeout=300
        )
        count, growth, error = json.loads(run.stdout)
        return count, growth, error

    return measure


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)
Measure = Callable[[bytes, bytes, bytes, int], tuple[int, float, str]]


@pytest.mark.parametrize("shape", ["media", "cases"])
def test_vics(tmp_path: Path, grown: Measure, shape: str) -> None:
    def media(number: int) -> dict[str, object]:
        digits = hashlib.sha512(str(number).encode()).hexdigest()
        return {
            "MD5": digits[:32],
            "MediaID": number,
            "Category": 1,
            "Comments": digits * 40,
            "MediaFiles": [{"FileName": digits, "FilePath": digits} for _ in range(10)],
        }

    block = b"," + b",".join(json.dumps(media(number)).encode() for number in range(200))
    path = tmp_path / "empty"
    with path.open("wb") as stream:
        write_vics(stream, [media(0)], shape="cases" if shape == "cases" else "media")
    content = path.read_bytes()
    cut = content.rindex(b"]}]}" if shape == "cases" else b"]}")
    count, growth, error = grown(content[:cut], block, content[cut:], SIZE)
    assert error == ""
    assert count == 1 + SIZE // len(block) * 200
    assert growth < GROWTH_MB


def test_one_text_as_long_as_the_file(grown: Measure) -> None:
    _, growth, error = grown(b'{"value":[{"Comments":"', b"x" * 1_000_000, b'"}]}', SIZE)
    assert "longer than" in error
    assert growth < GROWTH_MB


def test_one_record_as_long_as_the_file(grown: Measure) -> None:
    block = b"".join(b'"%x":"%x",' % (n, n) for n in range(100_000))
    _, growth, error = grown(b'{"value":[{', block, b'"MD5":1}]}', SIZE)
    assert "more than" in error
    assert growth < GROWTH_MB
    _, growth, error = grown(b'{"value":[{"x":[', b'{"a":"b"},' * 1000, b"1]}]}", SIZE)
    assert "a record is longer" in error
    assert growth < GROWTH_MB


def test_a_list(grown: Measure) -> None:
    block = (MD5.encode() + b"  name\n") * 10_000
    count, growth, error = grown(b"", block, b"", 10_000_000)
    assert (count, error) == (10_000_000 // len(block) * 10_000, "")
    assert growth < GROWTH_MB


def test_ncmec(grown: Measure) -> None:
    entry = (
        b'<image><member id="1">M</member><id>1</id><classification>A1</classification>'
        b"<fingerprints><md5>%s</md5></fingerprints></image>\n" % MD5.encode()
    )
    count, growth, error = grown(
        b"<queryResult><images>", entry * 1000, b"</images></queryResult>", 10_000_000
    )
    assert (count, error) == (10_000_000 // (len(entry) * 1000) * 1000, "")
    assert growth < GROWTH_MB
