"""An asked node keeps nothing of a miss that whoever guesses it would recognise.

The guesser reads every file and every row of the asked node, with all that stands beside: ids,
salts, times, the asker's name. It has no key: keys/audit.key stands for what a node keeps secret.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, NotFound
from tieline_client.list_salt import committed
from tieline_client.receipts import Receipt, verify
from tieline_server.services.auditing import Auditing
from tieline_server.services.list_secrets import forget_bare_digests, salt_of

from tests.services.bench import ANA, CASE, ES, PT, PURPOSE, Bench, record, records

_MISS = record(77, kinds="sha1")
_NEAR = record(78, kinds="pdq")


def _sha1() -> bytes:
    assert _MISS.sha1 is not None
    return _MISS.sha1


def _own_digest() -> bytes:
    return hashlib.sha256(_sha1()).digest()


class Guesser:
    """Holds what lies at a node against guesses."""

    def __init__(self, bench: Bench, agency: str) -> None:
        bench[agency].store.close()
        folder = bench.folder
        files = [one for one in folder.rglob("*") if one.is_file() and agency in str(one)]
        assert bench[agency].path in files
        self.files = b"".join(one.read_bytes() for one in files)
        with closing(sqlite3.connect(bench[agency].path)) as database:
            self.values = list(self._values(database))
        self.pieces = set(self._pieces())
        """Strings of bytes that may be a salt or a digest."""

    @staticmethod
    def _values(database: sqlite3.Connection) -> Iterator[bytes]:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            for row in database.execute(f'SELECT * FROM "{name}"'):
                for value in row:
                    if isinstance(value, str):
                        yield value.encode()
                    elif isinstance(value, bytes):
                        yield value

    def _pieces(self) -> Iterator[bytes]:
        for value in self.values:
            yield value
            for text in re.findall(rb"[0-9a-f]{32,}", value):
                if len(text) % 2 == 0:
                    yield bytes.fromhex(text.decode())
            for text in re.findall(rb"[A-Za-z0-9+/=]{24,}", value):
                try:
                    yield base64.b64decode(text, validate=True)
                except ValueError:
                    continue
            yield from self._fields(value)

    def _fields(self, value: bytes) -> Iterator[bytes]:
        """Every string of bytes inside a protobuf message, at any depth, and its text as bytes."""
        try:
            envelope = envelope_pb2.Envelope.FromString(value)
        except Exception:  # noqa: BLE001 - something else than an envelope
            return
        if not envelope.payload:
            return
        yield envelope.payload
        payload = payload_pb2.Payload.FromString(envelope.payload)
        query, receipt = payload.query, payload.receipt
        yield from (query.list_digest, receipt.request_digest, receipt.answer_digest)

    def knows(self, digest: bytes) -> str:
        """How a guess shows, "" where it does not."""
        guesses = {digest, digest[: limits.CRAFTED_LEAST]}
        for name in ("md5", "sha1", "sha256"):
            guesses.add(hashlib.new(name, digest).digest())
        guesses |= {hashlib.sha256(one).digest() for one in list(guesses)}
        for guess in guesses:
            if guess in self.files or guess.hex().encode() in self.files:
                return f"bare: {guess.hex()}"
            if base64.b64encode(guess)[:-4] in self.files:
                return f"base64: {guess.hex()}"
        salts = [one for one in self.pieces if 8 <= len(one) <= 64]
        for salt, guess in itertools.product(salts, guesses):
            for made in (salt + guess, guess + salt):
                for name in ("sha256", "blake2b"):
                    digested = hashlib.new(name, made).digest()
                    if digested in self.pieces or digested[:32] in self.pieces:
                        return f"salted with {salt!r}"
        return ""


def _ask_as_before(bench: Bench, **changes: object) -> list[exchange_pb2.OverlapResponse]:
    """Ask the one hash as a node of v1.4 does."""
    fields: dict[str, object] = {
        "mode": payload_pb2.QUERY_MODE_EXACT,
        "records": 1,
        "counts": [0, 1],
        "list_digest": _own_digest(),
        "epoch": bench[ES].node.epoch,
    }
    header = bench[ES].seal(
        payload_pb2.Payload(query=payload_pb2.QueryHeader(**(fields | changes))),  # type: ignore[arg-type]
        PT,
    )
    requests: list[exchange_pb2.OverlapRequest | DigestBatch] = [
        exchange_pb2.OverlapRequest(header=header),
        DigestBatch.of(DigestKind.SHA1, _sha1()),
    ]
    return list(bench[PT].answerer.answer(ES, requests))


def test_a_missed_hash_is_not_to_be_guessed_at_the_asked_node(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    ends, found = bench[ES].ask([_MISS], PT)
    assert (ends[PT].status, found) == ("answered", {})
    assert Guesser(bench, PT).knows(_sha1()) == ""


def test_nor_is_a_perceptual_hash(bench: Bench) -> None:
    bench[PT].load(records(range(3), kinds="sha1 pdq"))
    bench[ES].ask([_NEAR], PT, near=True)
    assert _NEAR.pdq is not None
    assert Guesser(bench, PT).knows(_NEAR.pdq) == ""


def test_nor_one_that_an_older_peer_asked(bench: Bench) -> None:
    """Its header names the bare digest: neither that nor the receipt, which binds it, is kept."""
    bench[PT].load(records(range(3)))
    *_, last = _ask_as_before(bench)
    receipt = payload_pb2.Payload.FromString(last.end.receipt.payload)
    assert Guesser(bench, PT).knows(_sha1()) == ""
    assert receipt.receipt.request_digest not in Guesser(bench, PT).files
    assert receipt.id.encode() not in Guesser(bench, PT).files


def test_a_guesser_finds_what_is_there(bench: Bench) -> None:
    """The search itself: of the asker, who keeps its own question, and of a held item."""
    bench[PT].load([_MISS])
    bench[ES].ask([_MISS], PT)
    assert Guesser(bench, PT).knows(_sha1())
    assert "salted with" in Guesser(bench, ES).knows(_sha1())


def test_an_asked_peer_of_before_gets_the_digest_that_it_knows(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[PT].one_by_one = True  # as its Hello says
    _, found = bench[ES].ask(records(range(2)), PT)
    assert len(found[PT]) == 2
    assert not _header(bench).salted


def test_the_asker_shows_with_list_and_salt_what_was_asked(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    bench[ES].ask([_MISS], PT)
    (entry,) = bench[ES].audit("query.result")
    question = str(entry["subjects"][0])  # type: ignore[index]
    given = _auditing(bench, ES).receipt(ANA, question)
    proven = verify(Receipt(given.question, given.receipt, {}, given.list_salt), bench.directory)
    asked = proven.question
    assert proven.document()["list_salt"] == given.list_salt == salt_of(bench[ES].node, asked.id)
    assert committed(given.list_salt, _own_digest()) == asked.query.list_digest
    there = _auditing(bench, PT).receipt(ANA, asked.id)
    assert there.question == given.question
    assert not there.list_salt


def test_each_question_has_a_salt_of_its_own(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    digests = set()
    for _ in range(3):
        bench[ES].ask([_MISS], PT)
        digests.add(_header(bench).list_digest)
    assert len(digests) == 3


@pytest.mark.parametrize("salt", [b"", bytes(32)])
def test_a_salted_list_wants_its_salt(bench: Bench, salt: bytes) -> None:
    """None, and another: nothing is told, and the id is used up as with any other list."""
    bench[PT].load([_MISS])
    query = payload_pb2.QueryHeader(
        mode=payload_pb2.QUERY_MODE_EXACT,
        records=1,
        counts=[0, 1],
        list_digest=committed(b"\x01" * 32, _own_digest()),
        salted=True,
    )
    header = bench[ES].seal(payload_pb2.Payload(query=query), PT)
    requests: list[exchange_pb2.OverlapRequest | DigestBatch] = [
        exchange_pb2.OverlapRequest(header=header, list_salt=salt),
        DigestBatch.of(DigestKind.SHA1, _sha1()),
    ]
    answer = bench[PT].answerer.answer(ES, requests)
    with pytest.raises(InvalidInput, match=r"salt did not come|no receipt"):
        next(answer)
    assert bench[PT].audit("query.answered") == []


def test_what_an_older_asker_was_answered_is_not_shown_again(bench: Bench) -> None:
    bench[PT].load(records(range(3)))
    _ask_as_before(bench)
    (answered,) = bench[PT].store.read(lambda tx: tx.queries.find())
    with pytest.raises(NotFound, match=r"not kept: es-gc asked by a wire of before v1\.5"):
        _auditing(bench, PT).receipt(ANA, answered.request)
    (entry,) = bench[PT].audit("query.answered")
    assert set(json.loads(json.dumps(entry["detail"]))) >= {"list_salt", "list_digest", "records"}


def test_what_was_kept_before_is_forgotten_once(bench: Bench) -> None:
    """A database of before v1.5 holds headers with bare digests."""
    pt = bench[PT]
    pt.load(records(range(3)))
    header = bench[ES].seal(
        payload_pb2.Payload(query=payload_pb2.QueryHeader(list_digest=_own_digest())), PT
    )
    made = _ask_as_before(bench)
    (query,) = pt.store.read(lambda tx: tx.queries.find())
    with closing(sqlite3.connect(pt.path)) as database:
        database.execute(
            "UPDATE queries SET header = ?, receipt = ?",
            (header.SerializeToString(), made[-1].end.receipt.SerializeToString()),
        )
        database.commit()
    with closing(sqlite3.connect(pt.path)) as reading:  # somebody reads what was: it waits
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM queries").fetchone()
        assert not forget_bare_digests(pt.node)
    assert forget_bare_digests(pt.node)
    (kept,) = pt.store.read(lambda tx: tx.queries.find())
    assert (kept.request, kept.header, kept.receipt) == (query.request, b"", b"")
    pt.store.write(lambda tx: tx.queries.finish(replace(kept, header=b"of today")))
    assert forget_bare_digests(pt.node)
    (again,) = pt.store.read(lambda tx: tx.queries.find())
    assert again.header == b"of today", "once"
    assert Guesser(bench, PT).knows(_sha1()) == ""


def _auditing(bench: Bench, agency: str) -> Auditing:
    return Auditing(bench[agency].node, {}.copy)


def _header(bench: Bench) -> payload_pb2.QueryHeader:
    """Of the newest question, as its asker logged it."""
    entry = bench[ES].audit("query.result")[-1]
    detail = json.loads(json.dumps(entry["detail"]))
    envelope = envelope_pb2.Envelope.FromString(base64.b64decode(detail["question"]))
    payload = payload_pb2.Payload.FromString(envelope.payload)
    assert (payload.purpose, payload.case_ref) == (PURPOSE, CASE)
    return payload.query
