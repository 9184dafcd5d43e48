"""The audit log outside its node: export, verification and search, in bounded memory.

An export is lines of UTF-8. The first is a JSON object: federation, agency, ``size``, the Merkle
``root`` (hex) that the node stated, ``marks``: the first eight bytes of every leaf hash, hex, one
after the other, and ``evidence``: the checkpoint, what peers countersigned, and the directory's
files that say whose keys are whose (audit_evidence.py). Then comes one leaf a line, its exact bytes
(canonical JSON has no line breaks), or for an entry that retention erased ``{"erased":"<hash>"}``.
An export of a period has ``{"outside":"<hash>"}`` for what lies before its first and after its last
entry, so that the root can still be computed; entries ``audit.erased`` always stand there, since
they explain gaps.
The root proves; the marks only help to name the entry where a copy differs.

Without the evidence, or without the fingerprint of the federation's root to hold it against, all
this shows that a log agrees with its own root, no more.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from tieline_client.audit_gaps import Gaps, Outside, read_entry, speaks_of_erasure
from tieline_client.audit_search import within
from tieline_client.errors import ConfigurationError, FormatError, InvalidInput
from tieline_client.identifiers import check_agency
from tieline_client.limits import AUDIT_HEADER_BYTES, AUDIT_LEAF_BYTES
from tieline_client.merkle import RootBuilder, leaf_hash
from tieline_client.record_stream import source_name

_MARK_BYTES = 8
"""As much of a leaf hash as nobody can find another leaf for."""
_COPY_BYTES = 1024 * 1024
_GAP = b'{"erased":"'
_OUTSIDE = b'{"outside":"'
Head = tuple[int, bytes, str]
"""Size, root, and who vouches for it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found. ``position`` (from 0) names the first bad entry where known."""

    entries: int
    root: bytes
    verified: bool
    position: int | None = None
    why: str = ""
    erased: int = 0
    """Entries that retention erased, as a later entry says."""
    outside: int = 0
    """Entries outside the period of the export, of which only the hashes are in it."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of an export. ``evidence`` is as audit_evidence.py reads it."""

    federation: str
    agency: str
    size: int
    root: bytes
    marks: bytes
    evidence: Mapping[str, Any] = field(default_factory=dict)
    since: str = ""
    until: str = ""


def verify_leaves(
    leaves: Iterable[tuple[int, bytes]],
    size: int,
    root: bytes,
    marks: bytes = b"",
    heads: Iterable[Head] = (),
) -> Verdict:
    """Recompute the root over (position, leaf) pairs and compare (RFC 6962, section 2.1).

    ``marks``, where given, are checked leaf by leaf and name the entry that differs. ``heads`` are
    those that others vouch for: the first that the log does not have says between which entries it
    was changed, or that its tail is missing. A leaf that was erased stands as its hash, and a later
    entry must say that retention erased it.
    """
    tree, gaps, apart = RootBuilder(), Gaps(), Outside()
    wanted = sorted(set(heads))
    sizes = {one[0] for one in wanted}
    passed: dict[int, bytes] = {0: tree.root()}
    bad: tuple[int, str] | None = None
    for position, leaf in leaves:
        at, gap, outside = tree.size, _gap(leaf), _gap(leaf, _OUTSIDE)
        left = gap or outside
        if bad is None and (why := _fault(at, position, leaf, size, erased=left is not None)):
            bad = at, why
        hashed = leaf_hash(leaf) if left is None else left
        tree.add_hash(hashed)
        apart.take(at, outside=outside is not None, leaf=leaf)
        if gap is not None:
            gaps.erased(at)
        elif outside is None:
            gaps.read(at, leaf)
        mark = marks[at * _MARK_BYTES : (at + 1) * _MARK_BYTES]
        if bad is None and mark and mark != hashed[:_MARK_BYTES]:
            bad = at, "it is not the entry that was exported (edited, removed or moved)"
        if tree.size in sizes:
            passed[tree.size] = tree.root()
    if bad is None and tree.size < size:
        bad = tree.size, f"the log has {size} entries, but it ends here"
    if bad is None and apart.between is not None:
        bad = apart.between, "it is left out as outside the period, but stands inside of it"
    computed = tree.root()
    found = bad or _differs(wanted, passed, tree.size)
    found = found or _whole(computed, root, gaps, named=len(marks) >= size * _MARK_BYTES)
    if found is not None:
        return Verdict(tree.size, computed, False, *found, gaps.count, apart.count)
    return Verdict(tree.size, computed, True, erased=gaps.count, outside=apart.count)


def _fault(at: int, position: int, leaf: bytes, size: int, *, erased: bool) -> str:
    """Return what is wrong with an entry by itself, or ""."""
    if at >= size:
        return f"the log has {size} entries, but more follow"
    if position != at:
        return f"entry {position} stands where entry {at} belongs"
    return "" if erased else leaf_fault(leaf)


def _whole(
    computed: bytes, root: bytes, gaps: Gaps, *, named: bool
) -> tuple[int | None, str] | None:
    """Return what is wrong with the log as a whole; ``named``: each entry has its mark."""
    if computed != root:
        why = "the entries do not give the stated root; at least one was changed"
        if named:
            return None, f"{why}, or the root itself: each entry is the one that its mark names"
        return None, f"{why}; which one cannot be said, this export has no marks of its entries"
    gap = gaps.unexplained()
    if gap is not None:
        return gap, "it is gone, and no later entry says that retention erased it"
    return None


def _differs(
    wanted: Iterable[Head], passed: Mapping[int, bytes], size: int
) -> tuple[int | None, str] | None:
    """Return where the log is not the one that was vouched for, and what was done to it."""
    good = 0
    for at, root, who in wanted:
        if at > size:
            return size, f"its tail is missing: {who} knows {at} entries, and it ends here"
        if passed.get(at) != root:
            where = f"entries {good} to {at - 1}" if at - 1 > good else f"entry {good}"
            only = good if at - 1 == good else None
            return only, (
                f"{where} (from 0): not those that {who} knows; at least one was changed, and all"
                f" hashes were made anew; the {good} before are as they were signed"
            )
        good = at
    return None


def _gap(leaf: bytes, kind: bytes = _GAP) -> bytes | None:
    """Return the hash that an erased entry left, or one outside the period."""
    if len(leaf) != len(kind) + 66 or not leaf.startswith(kind) or not leaf.endswith(b'"}'):
        return None
    try:
        return bytes.fromhex(leaf[len(kind) : -2].decode("ascii"))
    except ValueError:
        return None


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


# --- exports ----------------------------------------------------------------------------------


def write_export(
    path: Path,
    leaves: Iterable[tuple[int, bytes, bytes]],
    *,
    federation: str,
    agency: str,
    size: int,
    root: bytes,
    evidence: Mapping[str, Any] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """Write an export to a new file, mode 0600; return its entries.

    With ``since`` or ``until`` it is of a period: from the first entry of it to the last one; of
    all others it has the hashes.

    ``leaves`` come with their hashes as the log keeps them; an empty one is computed.

    Nothing is left of an export that did not come to its end. Raises ConfigurationError when the
    file exists or cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as spool:
            marks, count = bytearray(), 0
            inside: list[int] = []
            for _, leaf, hashed in leaves:
                marks += (hashed or _gap(leaf) or leaf_hash(leaf))[:_MARK_BYTES]
                spool.write(leaf + b"\n")
                if (since or until) and within(read_entry(leaf), since, until):
                    inside = [inside[0] if inside else count, count]
                count += 1
            header = {
                "agency": agency,
                "evidence": dict(evidence or {}),
                "federation": federation,
                "marks": marks.hex(),
                "root": root.hex(),
                "size": size,
            }
            spool.seek(0)
            lines: Iterable[bytes] = iter(lambda: spool.read(_COPY_BYTES), b"")
            if since or until:
                header["since"] = since.isoformat() if since else ""
                header["until"] = until.isoformat() if until else ""
                lines = _period(spool, *(inside or (count, count)))
            _write_new(path, json.dumps(header, sort_keys=True).encode() + b"\n", lines)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists; an export is never overwritten, name another file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from None
    return count


def _period(spool: Iterable[bytes], first: int, last: int) -> Iterator[bytes]:
    """Yield the lines of an export, with hashes in place of what lies before and after."""
    for position, line in enumerate(spool):
        leaf = line[:-1]
        if first <= position <= last or _gap(leaf) or speaks_of_erasure(leaf):
            yield line
        else:
            yield _OUTSIDE + leaf_hash(leaf).hex().encode() + b'"}\n'


def _write_new(path: Path, header: bytes, lines: Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_header(path: Path) -> Header:
    """Read what an export says of itself. Raises FormatError when the file is none."""
    name = source_name(path)
    try:
        with path.open("rb") as file:
            return _read_header(file.readline(AUDIT_HEADER_BYTES + 1), name)
    except OSError as error:
        raise FormatError(name, None, f"cannot be read: {error.strerror or error}") from None


def verify_export(path: Path, heads: Iterable[Head] = ()) -> tuple[Header, Verdict]:
    """Verify an export offline. Raises FormatError when the file is none."""
    name = source_name(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file.readline(AUDIT_HEADER_BYTES + 1), name)
            leaves = enumerate(_lines(file, name))
            return header, verify_leaves(leaves, header.size, header.root, header.marks, heads)
    except OSError as error:
        raise FormatError(name, None, f"cannot be read: {error.strerror or error}") from None


def _read_header(line: bytes, name: str) -> Header:
    try:
        document = json.loads(line)
        header = Header(
            federation=str(document["federation"]),
            agency=check_agency(str(document["agency"])),
            size=int(document["size"]),
            root=bytes.fromhex(document["root"]),
            marks=bytes.fromhex(document.get("marks", "")),
            evidence=_evidence(document),
            since=str(document.get("since", "")),
            until=str(document.get("until", "")),
        )
    except (InvalidInput, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise FormatError(
            name, None, "not an audit export; make one with `tieline audit export FILE`"
        ) from None
    return header


def _evidence(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("evidence", {})
    return found if isinstance(found, dict) else {}


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    number = 0
    while line := file.readline(AUDIT_LEAF_BYTES + 2):
        number += 1
        if len(line) > AUDIT_LEAF_BYTES + 1:
            raise FormatError(name, number, f"an entry is over {AUDIT_LEAF_BYTES} bytes")
        yield line.removesuffix(b"\n")


def entries_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield position and entry of an export; those that are only hashes are left out.

    Raises FormatError.
    """
    name = source_name(path)
    with path.open("rb") as file:
        _read_header(file.readline(AUDIT_HEADER_BYTES + 1), name)
        for position, leaf in enumerate(_lines(file, name)):
            if _gap(leaf) is None and _gap(leaf, _OUTSIDE) is None:
                yield position, read_entry(leaf)
