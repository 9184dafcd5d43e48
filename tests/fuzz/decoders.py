"""Every decoder that faces the network or a file, with seeds: what is fuzzed, and what covers what.

A decoder takes bytes and may raise nothing but a TielineError with a printable line. `SITES` says
for every function of the product that parses bytes by itself which decoder reaches it, or why none
needs to; a test finds such functions in the source and fails for one that is not listed.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from tieline.v1 import digests_pb2, envelope_pb2, exchange_pb2, operator_pb2, payload_pb2
from tieline_client import columns_wire, constraints, dropping, envelopes, keys, status
from tieline_client.certificates import Kind, Purpose, check_leaf
from tieline_client.checkpoints import checkpoint_digest, open_checkpoint
from tieline_client.columns import of_records
from tieline_client.digest_batch import DigestBatch, open_batch
from tieline_client.digests import DigestKind
from tieline_client.directory import Directory, Member, Role, SigningKey
from tieline_client.errors import TielineError
from tieline_client.formats import open_records
from tieline_client.formats.block_reading import open_blocks
from tieline_client.formats.record import Record, Vote
from tieline_client.hit_columns import check_hits
from tieline_client.identifiers import dns_name
from tieline_client.payloads import Audience, Sealer, open_payload, payload_type, to_proto
from tieline_client.profile import Profile
from tieline_client.tls import to_pem
from tieline_client.tls_records import RecordSplitter
from tieline_server.backup import container
from tieline_server.config import Home
from tieline_server.policy.cases import load_cases
from tieline_server.policy.loading import default_folder, load_rules
from tieline_server.services import item_chunks
from tieline_server.services.witness_words import stated
from tieline_server.storage.tombstone_ledger import FileLedger
from tieline_server.trust import (
    bundle,
    ceremony,
    federation_edits,
    federation_init,
    request,
    statements,
    tuf_copy,
    tuf_folder,
)
from tieline_server.trust.authority import (
    create_authority,
    issue_node_leaf,
    issue_operator_leaf,
)

from tests.federation.building import FEDERATION, NOW, Agency, trial
from tests.formats.test_formats_fuzz import VALID
from tests.rpc.descriptors import messages

AGENCY = "pt-pj"
PASSPHRASE = b"correct horse battery"


@dataclass(frozen=True)
class Decoder:
    """``read`` is fuzzed from ``seeds``, each of which it takes."""

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


@functools.cache
def scratch() -> Path:
    """Return a folder for the files of this process, removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def file_of(data: bytes, name: str = "fuzzed") -> Path:
    path = scratch() / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


# --- messages -------------------------------------------------------------------------------------


@functools.cache
def classes() -> list[type[Message]]:
    return [message_factory.GetMessageClass(one) for one in _types()]


def _types() -> list[Descriptor]:
    """Every message type, by name; map entries are none."""
    found = [one for one in messages() if not one.GetOptions().map_entry]
    return sorted(found, key=lambda one: one.full_name)


def filled(descriptor: Descriptor, rng: random.Random, depth: int = 0) -> Message:
    """Return a message with something in each field, whether or not it is allowed there."""
    made = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is None:
            value: Any = _scalar(field, rng)
            if field.is_repeated:
                getattr(made, field.name).extend([value])
            else:
                setattr(made, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            key = _scalar(field.message_type.fields_by_name["key"], rng)
            inner = field.message_type.fields_by_name["value"]
            if inner.message_type is None:
                getattr(made, field.name)[key] = _scalar(inner, rng)
        elif depth < 3:
            child = filled(field.message_type, rng, depth + 1)
            if field.is_repeated:
                getattr(made, field.name).append(child)
            else:
                getattr(made, field.name).CopyFrom(child)
    return made


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 16, 20, 32)))
        return rng.choice(("", "pt-pj", "a b", "é", "2026-03-01"))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return bool(rng.getrandbits(1))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return rng.choice(field.enum_type.values).number
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.random()
    return rng.randrange(1000)


def _message(data: bytes) -> object:
    """The first two bytes choose the type."""
    kind = classes()[int.from_bytes(data[:2]) % len(classes())]
    return constraints.open_nested(data[2:], kind)


def _message_seeds() -> list[bytes]:
    rng = random.Random(1)
    return [
        number.to_bytes(2) + filled(one, rng).SerializeToString()
        for number, one in enumerate(_types())
    ]


def digest_list() -> bytes:
    return b"".join(sorted(hashlib.sha1(bytes([n])).digest() for n in range(5)))


def _batch() -> DigestBatch:
    return DigestBatch.of(DigestKind.SHA1, digest_list())


def _records() -> list[Record]:
    return [
        Record(n, sha1=digest_list()[:20], votes=(Vote("vics-us", "1"),), media_type="image/x")
        for n in (1, 2)
    ]


def _columns(data: bytes) -> object:
    return columns_wire.from_wire(constraints.open_nested(data, operator_pb2.RecordColumns))


def _chunk(data: bytes) -> object:
    return item_chunks.decode(constraints.open_nested(data, digests_pb2.ItemChunk), AGENCY)


def _chunk_seeds() -> list[bytes]:
    made = digests_pb2.ItemChunk(items=5)
    column = made.columns.add(items=range(5))
    column.list.CopyFrom(_batch().to_wire())
    made.votes.add(item=1, agency=AGENCY, scheme="vics-us", code="1")
    return [made.SerializeToString()]


def _hits(data: bytes) -> object:
    return check_hits(constraints.open_nested(data, exchange_pb2.HitBatch), (5, 5, 5, 5))


# --- signed things --------------------------------------------------------------------------------


@functools.cache
def _signer() -> keys.PrivateKey:
    return keys.generate()


@functools.cache
def _directory() -> Directory:
    public = keys.public_der(_signer())
    key = SigningKey(
        keyid=keys.keyid(public),
        public=base64.b64encode(public).decode(),
        not_before=NOW - timedelta(days=9),
    )
    member = Member(
        agency=AGENCY, name=AGENCY, role=Role.NATIONAL, countries=("PT",), signing_keys=(key,)
    )
    return Directory(
        federation=FEDERATION, version=1, expires=NOW + timedelta(days=9), members=(member,)
    )


def _open(envelope: envelope_pb2.Envelope) -> object:
    return open_payload(
        envelope,
        directory=_directory(),
        issuer=AGENCY,
        audience=Audience(agency="es-pn"),
        now=NOW,
    )


def _envelope(data: bytes) -> object:
    return _open(constraints.open_nested(data, envelope_pb2.Envelope))


def _sealed() -> envelope_pb2.Envelope:
    payload = payload_pb2.Payload(
        person="ana",
        purpose="deconfliction",
        case_ref="C",
        query=payload_pb2.QueryHeader(records=1, counts=[1], list_digest=bytes(32)),
    )
    return Sealer(FEDERATION, AGENCY, _signer()).seal(payload, Audience(agency="es-pn"), NOW)


def _checkpoint(data: bytes) -> object:
    envelope = constraints.open_nested(data, envelope_pb2.Envelope)
    stated(envelope)
    return checkpoint_digest(open_checkpoint(envelope, _directory()).envelope)


def _checkpoint_seed() -> bytes:
    head = payload_pb2.Payload(
        checkpoint=payload_pb2.Checkpoint(size=3, root=bytes(32), epoch="e" * 32)
    )
    return Sealer(FEDERATION, AGENCY, _signer()).seal(head, Audience(), NOW).SerializeToString()


def _signed_payload(data: bytes) -> object:
    """What a member signs by its own key is as hostile as what a stranger sends."""
    return _open(to_proto(envelopes.sign(payload_type("query"), data, _signer())))


@functools.cache
def _leaf() -> tuple[bytes, bytes]:
    key = keys.generate()
    authority = create_authority(Kind.NODE, FEDERATION, AGENCY, key, now=NOW)
    leaf = issue_node_leaf(authority, keys.generate().public_key(), now=NOW)
    return leaf.public_bytes(Encoding.DER), authority.der


def _certificate(data: bytes) -> object:
    return check_leaf(
        data,
        federation=FEDERATION,
        kind=Kind.NODE,
        purpose=Purpose.CALLER,
        pinned={AGENCY: (_leaf()[1],)},
        is_revoked=lambda _agency, _serial: False,
        now=NOW,
    )


# --- the directory --------------------------------------------------------------------------------


@functools.cache
def _public() -> dict[str, bytes]:
    """The files of a federation's public folder, by path."""
    federation = trial(scratch() / "authority", Agency(AGENCY))
    public = tuf_folder.public_part(federation.folder)
    return {
        str(path.relative_to(public)): path.read_bytes()
        for path in sorted(public.rglob("*"))
        if path.is_file()
    }


def _tuf(data: bytes) -> object:
    """The first byte chooses the file whose place the rest takes."""
    files = dict(_public())
    name = sorted(files)[data[0] % len(files)] if data else sorted(files)[0]
    files[name] = data[1:]
    folder = scratch() / "public"
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    bootstrap = tuf_folder.read_root(folder)
    read = tuf_copy.folder_reader(folder)
    return tuf_copy.verify(read, bootstrap, None, "fuzzed").directory(NOW)


def _tuf_seeds() -> list[bytes]:
    return [bytes([at]) + _public()[name] for at, name in enumerate(sorted(_public()))]


def _bundle(data: bytes) -> object:
    read = bundle.reader(file_of(data, "bundle"))
    return tuf_copy.verify(read, _bootstrap(), None, "fuzzed")


def _bootstrap() -> bytes:
    return next(data for name, data in sorted(_public().items()) if name.endswith("root.json"))


def _bundle_seed() -> bytes:
    folder = scratch() / "bundled"
    for path, content in _public().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    made = scratch() / "bundle.json"
    bundle.write(made, tuf_folder.load(folder))
    return made.read_bytes()


def _statement(data: bytes) -> object:
    """The first byte chooses the kind of statement."""
    kinds = (statements.FederationStatement, statements.AgencyStatement, statements.OwnStatement)
    return statements.parse(kinds[(data[0] if data else 0) % 3], data[1:], "fuzzed")


def _statement_seeds() -> list[bytes]:
    made = Agency(AGENCY)
    claims = made.request().claims
    return [b"\1" + statements.to_bytes(claims), b"\2" + statements.to_bytes(made.own())]


def _proposal(data: bytes) -> object:
    folder = scratch() / "proposing"
    path = folder / ceremony.PROPOSAL
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return ceremony.load(folder)


def _proposal_seed() -> bytes:
    """What two holders are to sign."""
    folder = scratch() / "two-holders"
    words = [b"one long passphrase", b"another passphrase"]
    made = federation_init.create(folder, FEDERATION, passphrases=words, threshold=2, now=NOW)
    asks = Agency(AGENCY).request()
    claims = asks.claims
    made.propose(
        lambda stated: federation_edits.admit(stated, asks, claims.role, claims.countries, NOW)[0],
        NOW,
    )
    return (folder / ceremony.PROPOSAL).read_bytes()


# --- files ----------------------------------------------------------------------------------------


def _records_of(data: bytes) -> object:
    return list(open_records(file_of(data), None))


def _blocks_of(data: bytes) -> object:
    return list(open_blocks(file_of(data), bare_64_is_pdq=False))


def _config(data: bytes) -> object:
    home = scratch() / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_bytes(data)
    return Home(home).config()


_CONFIG = f"""agency = "{AGENCY}"
name = "Unit"
role = "national"
countries = ["PT"]
listen = "127.0.0.1:7443"
operator_listen = "127.0.0.1:7444"
categories = [["vics-us", "1"]]
[budgets]
default = 5
peers = {{ es-pn = 7 }}
[contact]
name = "Desk"
""".encode()


def _profile_seed() -> bytes:
    key = keys.generate()
    people = create_authority(Kind.OPERATOR, FEDERATION, AGENCY, keys.generate(), now=NOW)
    leaf = issue_operator_leaf(people, "ana", key.public_key(), now=NOW)
    made = Profile(
        agency=AGENCY,
        federation=FEDERATION,
        operator="ana",
        address="127.0.0.1:7444",
        target_name=dns_name(AGENCY, FEDERATION),
        node_ca=to_pem([_leaf()[1]]).decode(),
        certificate=leaf.public_bytes(Encoding.PEM).decode(),
        key=keys.private_pem(key).decode(),
    )
    path = scratch() / "profile.json"
    path.unlink(missing_ok=True)
    made.save(path)
    return path.read_bytes()


def _profile(data: bytes) -> object:
    profile = Profile.load(file_of(data))
    profile.node_cas()
    return profile.identity(None, NOW)


def _backup(data: bytes) -> object:
    return container.Reader(io.BytesIO(data), "FILE", PASSPHRASE).read()


def _backup_head(data: bytes) -> object:
    return container.read_header(io.BytesIO(data), "FILE")


def _backup_seeds() -> list[bytes]:
    from tests.backup.test_container import sealed

    return [sealed(b"plain" * 100)]


def _ledger(data: bytes) -> object:
    return FileLedger(file_of(data, "tombstones")).entries()


def _ledger_seeds() -> list[bytes]:
    path = scratch() / "ledger"
    path.unlink(missing_ok=True)
    ledger = FileLedger(path)
    for n in range(3):
        ledger.append({"kind": "erased", "series": f"pt-pj/{n}", "at": NOW.isoformat()})
    return [path.read_bytes()]


def _rules(data: bytes) -> object:
    folder = scratch() / "rules"
    folder.mkdir(exist_ok=True)
    shutil.copy(default_folder() / "tieline.cedarschema", folder)
    (folder / "10-fuzzed.cedar").write_bytes(data)
    return load_rules(folder)


class _Call(grpc.RpcError, grpc.Call):
    """A failed call whose trailers a peer wrote."""

    def __init__(self, trailer: bytes) -> None:
        self._trailer = trailer

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.PERMISSION_DENIED

    def details(self) -> str:
        return "refused"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._trailer),)

    def initial_metadata(self) -> Any: ...
    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False


def _status(data: bytes) -> object:
    raise status.from_rpc_error(_Call(data))


def _status_seeds() -> list[bytes]:
    made = status_pb2.Status(code=7, message="refused")
    info = error_details_pb2.ErrorInfo(
        reason="BUDGET_EXCEEDED", domain="tieline", metadata={"left": "1"}
    )
    made.details.add().Pack(info)
    info.reason, info.metadata["record"] = "FORMAT_ERROR", "3"
    other = status_pb2.Status(code=7, message="refused")
    other.details.add().Pack(info)
    return [made.SerializeToString(), other.SerializeToString()]


_TLS_RECORDS = b"\x05\x16\x03\x01\x00\x05hello\x17\x03\x03\x00\x01x"


def _splitter(data: bytes) -> object:
    """The first byte is how the rest is cut."""
    splitter, step = RecordSplitter(), (data[0] if data else 0) + 1
    rest = data[1:]
    return [list(splitter.feed(rest[at : at + step])) for at in range(0, len(rest), step)]


def _texts(name: str) -> list[bytes]:
    return [(default_folder() / name).read_bytes()]


def _hit_seeds() -> list[bytes]:
    made = exchange_pb2.HitBatch(kind=digests_pb2.DIGEST_KIND_SHA1, positions=[0, 1], series=[1, 1])
    return [made.SerializeToString()]


def _column_seeds() -> list[bytes]:
    return [columns_wire.to_wire(of_records(_records())).SerializeToString()]


def _decoders() -> Iterator[Decoder]:
    def one(name: str, read: Callable[[bytes], object], *seeds: Callable[[], bytes]) -> Decoder:
        return Decoder(name, read, lambda: [seed() for seed in seeds])

    yield Decoder("messages", _message, _message_seeds)
    yield one(
        "digest batches", open_batch, lambda: DigestBatch.of(DigestKind.SHA1, digest_list()).message
    )
    yield Decoder("record columns", _columns, _column_seeds)
    yield Decoder("item chunks", _chunk, _chunk_seeds)
    yield Decoder("hits", _hits, _hit_seeds)
    yield one("envelopes", _envelope, lambda: _sealed().SerializeToString())
    yield one("checkpoints", _checkpoint, _checkpoint_seed)
    yield one("signed payloads", _signed_payload, lambda: _sealed().payload)
    yield Decoder("certificates", _certificate, lambda: list(_leaf()))
    yield one("public keys", keys.load_public, lambda: keys.public_der(_signer()))
    yield Decoder("failed calls", _status, _status_seeds)
    yield one(
        "TLS records", _splitter, lambda: b"\x05\x16\x03\x01\x00\x05hello\x17\x03\x03\x00\x01x"
    )
    yield Decoder("directory files", _tuf, _tuf_seeds)
    yield one("directory bundles", _bundle, _bundle_seed)
    yield Decoder("statements", _statement, _statement_seeds)
    yield one(
        "requests",
        lambda data: request.verify(data, NOW),
        lambda: Agency(AGENCY).request().to_json(),
    )
    yield one("proposals", _proposal, _proposal_seed)
    yield one("drops", _drop, _drop_seed)
    yield Decoder("record files", _records_of, _format_seeds)
    yield Decoder("block files", _blocks_of, _format_seeds)
    yield one("configuration", _config, lambda: _CONFIG)
    yield one("profiles", _profile, _profile_seed)
    yield one(
        "key files", lambda data: keys.load(file_of(data)), lambda: keys.private_pem(_signer())
    )
    from tests.fuzz import audit_files  # which begins with what stands above

    yield from audit_files.decoders()
    yield Decoder("backup headers", _backup_head, _backup_seeds)
    yield Decoder("tombstone ledgers", _ledger, _ledger_seeds)
    yield Decoder("policy rules", _rules, lambda: _texts("10-asking.cedar"))
    yield Decoder(
        "policy cases", lambda data: load_cases(file_of(data)), lambda: _texts("cases.txt")
    )


def _drop(data: bytes) -> None:
    folder = scratch() / "drop"
    folder.mkdir(exist_ok=True)
    file_of(b"{}", f"drop/{dropping.MEDIA}")
    file_of(data, f"drop/{dropping.MANIFEST}")
    dropping.read_drop(folder)


def _drop_seed() -> bytes:
    digest = hashlib.sha256(b"{}").hexdigest()
    series = [{"id": "pt-pj/x", "records": 0}]
    return json.dumps({"version": 1, "records": 0, "sha256": digest, "series": series}).encode()


def _format_seeds() -> list[bytes]:
    return [text.encode() for text in VALID.values()]


DECODERS = {one.name: one for one in _decoders()}
SLOW = {"backups": Decoder("backups", _backup, _backup_seeds)}
"""Each costs a key derivation: for the campaign only."""


def check(decoder: Decoder, data: bytes) -> None:
    """Run a decoder; raise what is none of ours, or is told in more than one printable line."""
    try:
        decoder.read(data)
    except TielineError as error:
        assert error.message.isprintable(), f"not one printable line: {error.message!r}"


def mutated(decoder: Decoder, rng: random.Random) -> bytes:
    """Return a seed with a few changes: bits, bytes, pieces doubled, moved, cut off or replaced."""
    seeds = seeds_of(decoder.name)
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((0, 1, 1, 2, 4, 16, 64))
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + length] = rng.randbytes(length)
            case 2:
                data[at:at] = rng.choice(_PIECES) * rng.choice((1, 1, 50, 5_000))
            case 3:
                del data[at:]
            case 4:
                data[at : at + length] = b""
            case 5:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) + 1)
                data[at : at + length] = other[start : start + rng.randrange(64)]
            case _:
                data[at:at] = data[at : at + length]
    return bytes(data[:_MOST])


_MOST = 64 * 1024
_PIECES = (
    *(b"\0", b"\xff", b'"', b"{", b"[", b"]", b"}", b"<", b"&x;", b"\n", b"\r\n", b";", b"1e999"),
    *(b"-1", b"99999999999999999999", b"NaN", b"null", b"\x1b[31m", "\u202e".encode(), b"\\ud800"),
    *(b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x30\x80", b"=cmd()", b"'''", b"..", b"/"),
)


@functools.cache
def seeds_of(name: str) -> list[bytes]:
    return (DECODERS | SLOW)[name].seeds()
