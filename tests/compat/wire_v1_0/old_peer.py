"""A peer that speaks the wire as it stood before issue 4 (v1.0), and nothing newer.

Runs in a process of its own, with the generated modules beside it first on its path; imports
nothing of today's client or server. Neither is touched again. It works in the name of a joined home whose node does not run:

    old_peer.py HOME FEDERATION AGENCY PEERS.json

``PEERS.json``: {agency: {"address", "ca" (PEM), "keys": {keyid: PEM}}}. It listens where its own
entry says. Each line on stdin is a command {"do": ..}, answered by one line of JSON on stdout.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import time
import uuid
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.timestamp_pb2 import Timestamp
from tieline.v1 import (
    delivery_pb2,
    delivery_pb2_grpc,
    digests_pb2,
    envelope_pb2,
    exchange_pb2,
    exchange_pb2_grpc,
    payload_pb2,
)

VERSION = "v1.0"
SECONDS = 120.0
KNOWN = {
    *("referral", "referral_step", "broadcast"),
    *("broadcast_answer", "upload", "upload_step"),
}


def new_id() -> str:
    """A UUIDv7 (RFC 9562, section 5.7)."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    number = number & ~(0xF << 76) | (0x7 << 76)
    return str(uuid.UUID(int=number & ~(0x3 << 62) | (0x2 << 62)))


def stamp(ahead: float = 0.0) -> Timestamp:
    """Now, or ``ahead`` seconds later."""
    made = Timestamp()
    made.FromNanoseconds(int((time.time() + ahead) * 1e9))
    return made


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


class OldPeer:
    """The peer's keys, what it was sent, and its ways to others."""

    def __init__(self, home: Path, federation: str, agency: str, peers: dict[str, Any]) -> None:
        self.federation, self.agency, self.peers = federation, agency, peers
        key = serialization.load_pem_private_key((home / "keys/signing.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._keyid = hashlib.sha256(public).hexdigest()
        self.leaf_pem = (home / "certs/node.pem").read_bytes()
        self.node_key = (home / "keys/node.key").read_bytes()
        self.leaf = x509.load_pem_x509_certificate(self.leaf_pem).public_bytes(
            serialization.Encoding.DER
        )
        self.received: dict[str, dict[str, Any]] = {}
        self.chunks: dict[str, set[int]] = {}
        self.unparsed = 0
        self.held: set[bytes] = set()
        self._channels: dict[str, grpc.Channel] = {}
        self._sequence = 0

    # --- signing -------------------------------------------------------------------------------

    def seal(self, payload: payload_pb2.Payload, to: str, life: float = 900.0) -> Any:
        """Fill in the common fields and sign."""
        payload.federation, payload.version = self.federation, "v1"
        payload.id = payload.id or new_id()
        payload.issuer, payload.audience = self.agency, to
        payload.issue_time.CopyFrom(stamp())
        payload.expire_time.CopyFrom(stamp(life))
        body = payload.WhichOneof("body")
        kind = f"application/vnd.tieline.v1.{body}+protobuf"
        data = payload.SerializeToString()
        sig = self._key.sign(pae(kind, data), ec.ECDSA(hashes.SHA256()))
        return envelope_pb2.Envelope(
            payload_type=kind,
            payload=data,
            signatures=[envelope_pb2.Signature(keyid=self._keyid, sig=sig)],
        )

    def open(self, envelope: Any, sender: str) -> Any:
        """Verify with the sender's listed keys; return the payload."""
        data = pae(envelope.payload_type, envelope.payload)
        (signature,) = envelope.signatures
        pem = self.peers[sender]["keys"][signature.keyid]
        key = serialization.load_pem_public_key(pem.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature.sig, data, ec.ECDSA(hashes.SHA256()))
        payload = payload_pb2.Payload.FromString(envelope.payload)
        assert (payload.federation, payload.issuer) == (self.federation, sender)
        return payload

    # --- calls ---------------------------------------------------------------------------------

    def channel(self, to: str) -> grpc.Channel:
        """The channel to a peer, made and greeted when first needed."""
        if to not in self._channels:
            name = f"{to}.{self.federation}.invalid"
            channel = grpc.secure_channel(
                self.peers[to]["address"],
                grpc.ssl_channel_credentials(
                    self.peers[to]["ca"].encode(), self.node_key, self.leaf_pem
                ),
                options=[("grpc.ssl_target_name_override", name)],
            )
            self._channels[to] = channel
            nonce = secrets.token_bytes(32)
            answer = exchange_pb2_grpc.ExchangeServiceStub(channel).Hello(
                exchange_pb2.HelloRequest(nonce=nonce, wire_version=VERSION, directory_version=1),
                timeout=SECONDS,
            )
            proof = self.open(answer.proof, to).hello
            assert proof.nonce == nonce
            assert proof.wire_version.startswith("v1.")
        return self._channels[to]

    def deliver(self, to: str, **body: Any) -> dict[str, Any]:
        """Deliver one message; return its id and the reply's number."""
        payload = payload_pb2.Payload(
            person="vera", purpose="victim-identification", case_ref="OLD-1", **body
        )
        self._sequence += 1
        envelope = self.seal(payload, to, life=86_400.0)
        stub = delivery_pb2_grpc.DeliveryServiceStub(self.channel(to))
        request = delivery_pb2.DeliverRequest(
            envelope=envelope, lane=3, sequence=self._sequence, epoch=str(uuid.UUID(int=4 << 76))
        )
        reply = stub.Deliver(request, timeout=SECONDS)
        again = stub.Deliver(request, timeout=SECONDS)
        return {
            "id": payload.id,
            "reply": reply.reply,
            "again": again.reply,
            "text": f"{reply.reason} {reply.text}",
        }

    def overlap(self, to: str, digests: list[str], brief: bool) -> dict[str, Any]:
        """Ask for SHA-1 digests; return how many positions hit and whether the receipt is good."""
        packed = b"".join(sorted(bytes.fromhex(one) for one in digests))
        counts = [0, len(digests), 0, 0]
        header = self.seal(
            payload_pb2.Payload(
                person="vera",
                purpose="victim-identification",
                case_ref="OLD-1",
                query=payload_pb2.QueryHeader(
                    mode=1,
                    records=len(digests),
                    counts=counts,
                    list_digest=hashlib.sha256(packed).digest(),
                ),
            ),
            to,
        )
        batch = digests_pb2.DigestList(kind=2, digests=packed)
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(self.channel(to))
        if brief:
            request = exchange_pb2.OverlapBriefRequest(header=header, lists=[batch])
            parts = stub.OverlapBrief(request, timeout=SECONDS).parts
        else:
            requests = [
                exchange_pb2.OverlapRequest(header=header),
                exchange_pb2.OverlapRequest(batch=batch),
            ]
            parts = list(stub.Overlap(iter(requests), timeout=SECONDS))
        hits = {place for part in parts for place in part.hits.positions}
        receipt = self.open(parts[-1].end.receipt, to).receipt
        seen = hashlib.sha256()
        for part in parts[:-1]:
            seen.update(part.SerializeToString(deterministic=True))
        return {
            "hits": len(hits),
            "receipt": receipt.request_digest == hashlib.sha256(header.payload).digest()
            and receipt.answer_digest == seen.digest(),
        }


class Exchange(exchange_pb2_grpc.ExchangeServiceServicer):
    """Answers as a v1.0 node did."""

    def __init__(self, peer: OldPeer) -> None:
        self._peer = peer

    def Hello(self, request: Any, context: Any) -> Any:
        """Prove who this is."""
        caller = _caller(context)
        peer = self._peer
        proof = payload_pb2.HelloProof(
            nonce=request.nonce,
            caller=f"spiffe://{peer.federation}/agency/{caller}",
            leaf=peer.leaf,
            wire_version=VERSION,
            capabilities=["overlap.exact", "overlap.near", "attachments"],
            directory_version=request.directory_version,
        )
        return exchange_pb2.HelloResponse(proof=peer.seal(payload_pb2.Payload(hello=proof), caller))

    def Overlap(self, request_iterator: Any, context: Any) -> Any:
        """Answer a stream."""
        requests = list(request_iterator)
        lists = [one.batch for one in requests[1:]]
        yield from self._answer(requests[0].header, lists, _caller(context))

    def OverlapBrief(self, request: Any, context: Any) -> Any:
        """Answer one message."""
        parts = self._answer(request.header, request.lists, _caller(context))
        return exchange_pb2.OverlapBriefResponse(parts=parts)

    def _answer(self, header: Any, lists: Any, caller: str) -> list[Any]:
        peer = self._peer
        payload = peer.open(header, caller)
        parts, seen, hits = [], hashlib.sha256(), 0
        for one in lists:
            width = {1: 16, 2: 20, 3: 32, 4: 32}[one.kind]
            digests = [one.digests[at : at + width] for at in range(0, len(one.digests), width)]
            found = [place for place, digest in enumerate(digests) if digest in peer.held]
            if found:
                part = exchange_pb2.OverlapResponse(
                    hits=exchange_pb2.HitBatch(kind=one.kind, positions=found)
                )
                seen.update(part.SerializeToString(deterministic=True))
                parts.append(part)
                hits += len(found)
        receipt = payload_pb2.Receipt(
            request=payload.id,
            request_digest=hashlib.sha256(header.payload).digest(),
            generation=1,
            hits=hits,
            answer_digest=seen.digest(),
            disclosure="hit",
        )
        sealed = peer.seal(
            payload_pb2.Payload(
                purpose=payload.purpose, case_ref=payload.case_ref, receipt=receipt
            ),
            caller,
        )
        end = exchange_pb2.OverlapEnd(receipt=sealed, disclosure="hit")
        return [*parts, exchange_pb2.OverlapResponse(end=end)]


class Delivery(delivery_pb2_grpc.DeliveryServiceServicer):
    """Takes what a v1.0 node took."""

    def __init__(self, peer: OldPeer) -> None:
        self._peer = peer

    def Deliver(self, request: Any, context: Any) -> Any:
        """Apply a message that v1.0 knows; UNSUPPORTED for any other."""
        peer, sender = self._peer, _caller(context)
        payload = peer.open(request.envelope, sender)
        body = payload.WhichOneof("body")
        if body not in KNOWN:
            peer.unparsed += 1
            return delivery_pb2.DeliverResponse(reply=4, reason="UNKNOWN_METHOD")
        if payload.id in peer.received:
            return delivery_pb2.DeliverResponse(reply=2)
        inner = getattr(payload, body)
        peer.received[payload.id] = {
            "kind": body,
            "from": sender,
            "subject": getattr(inner, "referral", "") or getattr(inner, "upload", "") or inner.id,
            "state": getattr(inner, "state", ""),
            "series": inner.series.id if body in ("referral", "upload") else "",
        }
        return delivery_pb2.DeliverResponse(reply=1, epoch=str(uuid.UUID(int=1)))

    def PutChunk(self, request: Any, context: Any) -> Any:
        """Take a chunk."""
        del context
        have = self._peer.chunks.setdefault(request.attachment, set())
        if request.chunk:
            have.add(request.index)
        following = 0
        while following in have:
            following += 1
        return delivery_pb2.PutChunkResponse(next_index=following)


def _caller(context: Any) -> str:
    (leaf,) = context.auth_context()["x509_pem_cert"]
    names = x509.load_pem_x509_certificate(leaf).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return str(uri).rpartition("/")[2]


def _series(number: str, name: str) -> dict[str, Any]:
    return {
        "id": number,
        "status": "localised",
        "handling": {
            "tlp": 3,
            "source": "X",
            "information": 4,
            "retain_until": time.strftime("%Y-%m-%d", time.gmtime(time.time() + 3e7)),
        },
        "contact": {"name": name},
        "create_time": stamp(),
    }


def run(peer: OldPeer, command: dict[str, Any]) -> Any:
    """Do one command."""
    do, to = command["do"], command.get("to", "")
    if do == "received":
        return {"messages": list(peer.received.values()), "unparsed": peer.unparsed}
    if do == "hold":
        peer.held.update(bytes.fromhex(one) for one in command["digests"])
        return {}
    if do == "overlap":
        return peer.overlap(to, command["digests"], command["brief"])
    if do == "refer":
        series = f"{peer.agency}/{new_id()}"
        number = new_id()
        body = payload_pb2.Referral(
            id=number,
            root=number,
            series=_series(series, "Old desk"),
            country=command["country"],
            urgency=2,
        )
        return {"referral": number, "series": series} | peer.deliver(to, referral=body)
    if do == "step":
        step = payload_pb2.ReferralStep(
            id=new_id(),
            referral=command["referral"],
            root=command["referral"],
            state=command["state"],
            step_time=stamp(),
        )
        return peer.deliver(to, referral_step=step)
    if do == "answer":
        answer = payload_pb2.BroadcastAnswer(
            id=new_id(),
            broadcast=command["broadcast"],
            kind="assess",
            country=command["country"],
            confidence=2,
            text="seen before",
            answer_time=stamp(),
        )
        return peer.deliver(to, broadcast_answer=answer)
    if do == "upload":
        series, number = f"{peer.agency}/{new_id()}", new_id()
        body = payload_pb2.Upload(id=number, series=_series(series, "Old desk"))
        return {"upload": number, "series": series} | peer.deliver(to, upload=body)
    raise SystemExit(f"no command {do}")


def main() -> None:
    """Serve, and do what stdin says."""
    home, federation, agency, peers = sys.argv[1:5]
    known = json.loads(Path(peers).read_text())
    peer = OldPeer(Path(home), federation, agency, known)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(Exchange(peer), server)
    delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(Delivery(peer), server)
    roots = "".join(one["ca"] for one in known.values()).encode()
    credentials = grpc.ssl_server_credentials([(peer.node_key, peer.leaf_pem)], roots, True)
    server.add_secure_port(known[agency]["address"], credentials)
    server.start()
    print(json.dumps({"ready": hasattr(delivery_pb2, "Standing")}), flush=True)
    for line in sys.stdin:
        try:
            result = run(peer, json.loads(line))
        except grpc.RpcError as error:
            result = {"error": f"{error.code().name}: {error.details()}"}
        print(json.dumps(result), flush=True)
    server.stop(0)


if __name__ == "__main__":
    main()
