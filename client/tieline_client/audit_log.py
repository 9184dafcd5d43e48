"""The audit log outside its node: export, verification and search, in bounded memory.

An export is lines of UTF-8. The first is a JSON object: federation, agency, ``size``, the Merkle
``root`` (hex) that the node stated, and ``marks``: the first four bytes of every leaf hash, hex,
one after the other. Then comes one leaf a line, its exact bytes (canonical JSON has no line
breaks). The root proves; the marks only help to name the entry where a copy differs.

All this shows that a log agrees with its own root, no more: whether that root is the one that
peers have seen needs their checkpoints.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tieline_client.errors import ConfigurationError, FormatError
from tieline_client.limits import AUDIT_HEADER_BYTES, AUDIT_LEAF_BYTES
from tieline_client.merkle import RootBuilder
from tieline_client.record_stream import source_name

_MARK_BYTES = 4
_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. ``position`` (from 0) names the first bad entry where known."""

    entries: int
    root: bytes
    verified: bool
    position: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of an export."""

    federation: str
    agency: str
    size: int
    root: bytes
    marks: bytes


def verify_leaves(
    leaves: Iterable[tuple[int, bytes]], size: int, root: bytes, marks: bytes = b""
) -> Verdict:
    """Recompute the root over (position, leaf) pairs and compare (RFC 6962, section 2.1).

    ``marks``, where given, are checked leaf by leaf and name the entry that differs.
    """
    tree = RootBuilder()
    bad: tuple[int, str] | None = None
    for position, leaf in leaves:
        at = tree.size
        if bad is None:
            if at >= size:
                bad = at, f"the log has {size} entries, but more follow"
            elif position != at:
                bad = at, f"entry {position} stands where entry {at} belongs"
            elif why := leaf_fault(leaf):
                bad = at, why
        hashed = tree.add(leaf)
        mark = marks[at * _MARK_BYTES : (at + 1) * _MARK_BYTES]
        if bad is None and mark and mark != hashed[:_MARK_BYTES]:
            bad = at, "it is not the entry that was exported (edited, removed or moved)"
    if bad is None and tree.size < size:
        bad = tree.size, f"the log has {size} entries, but it ends here"
    computed = tree.root()
    if bad is not None:
        return Verdict(tree.size, computed, False, *bad)
    if computed != root:
        why = "the entries do not give the stated root; at least one was changed"
        return Verdict(tree.size, computed, False, None, why)
    return Verdict(tree.size, computed, True)


def leaf_fault(leaf: bytes) -> str:
    """Return why these bytes are no leaf, or "": one JSON object in its canonical form."""
    try:
        document = json.loads(leaf)
        canonical = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(document, dict) or canonical != leaf:
        return "it is not in canonical form"
    return ""


def read_entry(leaf: bytes) -> dict[str, Any]:
    """Return an entry as a document; an empty one when the leaf is broken."""
    try:
        document = json.loads(leaf)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


# --- exports ----------------------------------------------------------------------------------


def write_export(
    path: Path,
    leaves: Iterable[tuple[int, bytes]],
    *,
    federation: str,
    agency: str,
    size: int,
    root: bytes,
) -> int:
    """Write an export to a new file, mode 0600; return its entries.

    Nothing is left of an export that did not come to its end. Raises ConfigurationError when the
    file exists or cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as spool:
            marks, count, tree = bytearray(), 0, RootBuilder()
            for _, leaf in leaves:
                marks += tree.add(leaf)[:_MARK_BYTES]
                spool.write(leaf + b"\n")
                count += 1
            header = {
                "agency": agency,
                "federation": federation,
                "marks": marks.hex(),
                "root": root.hex(),
                "size": size,
            }
            spool.seek(0)
            _write_new(path, json.dumps(header, sort_keys=True).encode() + b"\n", spool)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists; an export is never overwritten, name another file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from None
    return count


def _write_new(path: Path, header: bytes, spool: BinaryIO) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            while chunk := spool.read(_COPY_BYTES):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def verify_export(path: Path) -> tuple[Header, Verdict]:
    """Verify an export offline. Raises FormatError when the file is none."""
    name = source_name(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file.readline(AUDIT_HEADER_BYTES + 1), name)
            leaves = enumerate(_lines(file, name))
            return header, verify_leaves(leaves, header.size, header.root, header.marks)
    except OSError as error:
        raise FormatError(name, None, f"cannot be read: {error.strerror or error}") from None


def _read_header(line: bytes, name: str) -> Header:
    try:
        document = json.loads(line)
        header = Header(
            federation=str(document["federation"]),
            agency=str(document["agency"]),
            size=int(document["size"]),
            root=bytes.fromhex(document["root"]),
            marks=bytes.fromhex(document.get("marks", "")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise FormatError(
            name, None, "not an audit export; make one with `tieline audit export FILE`"
        ) from None
    return header


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    number = 0
    while line := file.readline(AUDIT_LEAF_BYTES + 2):
        number += 1
        if len(line) > AUDIT_LEAF_BYTES + 1:
            raise FormatError(name, number, f"an entry is over {AUDIT_LEAF_BYTES} bytes")
        yield line.removesuffix(b"\n")
