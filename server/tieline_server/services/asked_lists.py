"""The lists that this agency asked, kept encrypted for as long as the log speaks of them.

A short one is in the entry ``query.asked`` itself and goes with it. A longer one is a file in
HOME/asked, named like the question, written while peers are being asked and on disk before the
first of their answers is shown; it is deleted when the entry is erased. The key follows from the
node's own (keys/audit.key) and is in no database and no export: an auditor reads a list through the
node, `tieline audit list ID`, and that is logged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import NotFound, StorageUnavailable
from tieline_client.identifiers import check_id

from tieline_server.domain.audit import salted
from tieline_server.services.context import Node
from tieline_server.services.list_file import ListFile

LISTS = b"lists that this agency asked"
_NONCE_BYTES, _TAG_BYTES = 12, 16
_HEAD = struct.Struct(">BI")
"""Kind, and the bytes of nonce and ciphertext that follow."""


def sealed(node: Node, question: str, batches: Iterable[DigestBatch]) -> Iterator[bytes]:
    """Yield a list as encrypted pieces under the node's own key."""
    return pieces(node.key_for(LISTS), question, batches)


def pieces(key: bytes, question: str, batches: Iterable[DigestBatch]) -> Iterator[bytes]:
    """Yield a list as encrypted pieces, each bound to its question and place (AES-256-GCM)."""
    for piece in _pieces(key, question, batches):
        made = bytearray(piece.size)
        with memoryview(made) as place:
            piece.write(place)
        yield bytes(made)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A batch to be encrypted: ``size`` bytes, which `write` puts into a place of so many."""

    cipher: AESGCM
    batch: DigestBatch
    bound: bytes

    @property
    def size(self) -> int:
        return _HEAD.size + _NONCE_BYTES + len(self.batch.digests) + _TAG_BYTES

    def write(self, place: memoryview) -> None:
        nonce, after = secrets.token_bytes(_NONCE_BYTES), _HEAD.size + _NONCE_BYTES
        _HEAD.pack_into(place, 0, self.batch.kind, self.size - _HEAD.size)
        place[_HEAD.size : after] = nonce
        with place[after:] as secret:
            self.cipher.encrypt_into(nonce, self.batch.digests, self.bound, secret)


def _pieces(key: bytes, question: str, batches: Iterable[DigestBatch]) -> Iterator[_Piece]:
    cipher = AESGCM(key)
    for number, batch in enumerate(batches):
        yield _Piece(cipher, batch, _bound(question, number, batch.kind))


def in_entry(node: Node, question: str, batches: Iterable[DigestBatch]) -> str:
    """Return a short list as an entry keeps it."""
    return base64.b64encode(b"".join(sealed(node, question, batches))).decode()


def write(node: Node, question: str, batches: Iterable[DigestBatch]) -> None:
    """Write a longer list to its file, durably. Raises StorageUnavailable."""
    folder = _folder(node)
    path = folder / f"{question}.part"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            with ListFile(path) as file:
                for piece in _pieces(node.key_for(LISTS), question, batches):
                    file.fill(piece.size, piece.write)
                file.finish()
            path.rename(_path(node, question))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        _sync(folder)
    except OSError as error:
        raise StorageUnavailable(
            f"the asked list cannot be kept: {error.strerror or error}; make room in the home"
        ) from None


def keep(node: Node, watch: str, batches: Iterable[DigestBatch]) -> None:
    """Keep the list of a standing query, once, for as long as the log speaks of its newest run.

    Raises StorageUnavailable.
    """
    path = _path(node, watch)
    if path.is_file():
        os.utime(path)
    else:
        path.with_suffix(".part").unlink(missing_ok=True)
        write(node, watch, batches)


def read(node: Node, question: str) -> Iterator[DigestBatch]:
    """Yield a list that was kept. Raises NotFound, StorageUnavailable when it was tampered with:
    at its end where some of it is missing."""
    check_id(question, "question")
    entry = _entry_of(node, question)
    if kept := entry.get("list"):
        data = base64.b64decode(kept)
        number = question
    else:
        number = check_id(entry.get("watch", question), "standing query")
        path = _path(node, number)
        if not path.is_file():
            raise _not_kept(question)
        data = path.read_bytes()
    came = hashlib.sha256()
    for batch in opened(node.key_for(LISTS), number, data):
        came.update(batch.digests)
        yield batch
    said = salted(came.digest(), bytes.fromhex(entry.get("list_salt", "")))
    if "list_salt" in entry and said["list_digest"] != entry["list_digest"]:
        raise StorageUnavailable(
            f"the list of question {question} is not the one that was asked: some of it is missing"
        )


def opened(key: bytes, question: str, data: bytes) -> Iterator[DigestBatch]:
    """Yield a kept list out of its encrypted pieces. Raises StorageUnavailable when altered."""
    cipher = AESGCM(key)
    at = number = 0
    while at < len(data):
        try:
            kind, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            nonce, secret = data[at : at + _NONCE_BYTES], data[at + _NONCE_BYTES : at + length]
            packed = cipher.decrypt(nonce, secret, _bound(question, number, kind))
        except (InvalidTag, ValueError, struct.error):
            raise StorageUnavailable(
                f"the list of question {question} does not open: it was altered, or kept under"
                " another keys/audit.key"
            ) from None
        at += length
        yield DigestBatch.of(DigestKind(kind), packed)
        number += 1


def erase_before(node: Node, time: datetime, kept: Collection[str] = ()) -> int:
    """Delete files of questions from before, but for those ``kept``; return how many. Entries go by
    themselves."""
    count = 0
    folder = _folder(node)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.stem in kept:
            continue
        if datetime.fromtimestamp(path.stat().st_mtime, UTC) < time:
            path.unlink(missing_ok=True)
            count += 1
    return count


def _entry_of(node: Node, question: str) -> dict[str, str]:
    """Return what the entry of a question says of its list. Raises NotFound."""
    found = node.store.read(lambda tx: tx.audit.mentioning(question, 100))
    for record in found:
        entry = json.loads(record.leaf)
        if entry["action"] == "query.asked" and question in entry["subjects"]:
            detail: dict[str, str] = entry["detail"]
            return detail
    raise _not_kept(question)


def _not_kept(question: str) -> NotFound:
    return NotFound(
        f"no list of question {question} is kept: it was erased, or asked by another agency"
    )


def _bound(question: str, number: int, kind: int) -> bytes:
    return f"{question} {number} {int(kind)}".encode()


def _folder(node: Node) -> Path:
    return (node.scratch or Path()) / "asked"


def _path(node: Node, question: str) -> Path:
    return _folder(node) / f"{question}.list"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def short(counts: Iterable[int]) -> bool:
    """Whether a list of so many digests by kind fits into its entry."""
    size = sum(kind.width * count for kind, count in zip(DigestKind, counts, strict=False))
    return size <= limits.LIST_IN_ENTRY_BYTES
