"""What a process keeps in memory, as Linux counts it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEAD = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: ``private`` to the process, and of ``mapped`` index files what is resident now.

    Pages of a mapped file that one process alone has touched are "private" to Linux; they are the
    page cache's, which gives them up when others need memory, so index files count as mapped.
    """

    private: int
    mapped: int


def memory_of(process: int | str, index: Path) -> Memory:
    """Read /proc/PROCESS/smaps; files below ``index`` are index files."""
    private = mapped = 0
    ours = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        head = _HEAD.fullmatch(line)
        if head is not None:
            ours = head[1].startswith(f"{index.resolve()}/")
            continue
        name, _, rest = line.partition(":")
        if ours and name == "Rss":
            mapped += _bytes(rest)
        elif not ours and name in {"Private_Clean", "Private_Dirty"}:
            private += _bytes(rest)
    return Memory(private, mapped)


def _bytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024
