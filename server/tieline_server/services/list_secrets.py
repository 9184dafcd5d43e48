"""What a node needs a secret for, so that what it keeps of an asked list tells nobody the list.

As asker: the salt of each question's list (tieline_client/list_salt.py), derived from the node's
key and the question's id, so that it can be named again for as long as the key is there. As the
asked side: keyed digests in place of those of lists and headers, by which the node itself knows
the same list or header again.
"""

from __future__ import annotations

import hashlib

from tieline.v1 import envelope_pb2, payload_pb2

from tieline_server.domain.ports import Tx
from tieline_server.services.context import Node

_SALTS = b"salts of lists that this agency asks"
_LISTS = b"digests of lists that peers asked"
_HEADERS = b"digests of headers that peers sent"
_FORGOTTEN = "queries.bare_digests_forgotten"
_OWED, _DONE = "in tables", "yes"


def salt_of(node: Node, request: str) -> bytes:
    """Return the salt of the list of an own question, 32 bytes."""
    return _keyed(node.key_for(_SALTS), request.encode())


def salt_shown(node: Node, question: envelope_pb2.Envelope) -> bytes:
    """Return the salt of an own question as it was signed; nothing where its list has none."""
    payload = payload_pb2.Payload.FromString(question.payload)
    return salt_of(node, payload.id) if payload.query.salted else b""


def list_mark(node: Node, list_digest: bytes) -> bytes:
    """Return what is kept in place of the digest of a list that a peer asked."""
    return _keyed(node.key_for(_LISTS), list_digest)


def header_mark(node: Node, header_digest: bytes) -> bytes:
    """Return what is kept in place of the digest of a peer's signed header."""
    return _keyed(node.key_for(_HEADERS), header_digest)


def forget_bare_digests(node: Node) -> bool:
    """Once in a database's life: forget what a version of before v1.5 kept of peers' headers, and
    leave nothing of it in the files.

    Ids stay known, and are taken with no header any more. What the log says stays, as everything in
    it. The files are written anew when nobody reads what was (`Store.scrub`), so this is asked for
    again until that is done. Returns whether it is.
    """
    if node.store.read(lambda tx: tx.meta.get(_FORGOTTEN)) == _DONE:
        return True

    def work(tx: Tx) -> bool:
        before = tx.meta.get(_FORGOTTEN)
        owed = bool(before) or tx.queries.forget_headers() > 0
        tx.meta.set(_FORGOTTEN, _OWED if owed else _DONE)
        return owed

    if node.store.write(work):
        if not node.store.scrub():
            return False
        node.store.write(lambda tx: tx.meta.set(_FORGOTTEN, _DONE))
    return True


def _keyed(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32, key=key).digest()
