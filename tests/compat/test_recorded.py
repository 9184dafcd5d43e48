"""Conversations of v1.0 nodes as they were recorded: each byte is still understood, each signature
still holds, and the directory of the time is still a directory."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from tieline.v1 import delivery_pb2, envelope_pb2, exchange_pb2
from tieline_client import constraints
from tieline_client.directory import Directory
from tieline_client.errors import SignatureRefused
from tieline_client.payloads import Audience, open_payload
from tieline_server.trust.directory_store import DirectoryStore

_RECORDED = Path(__file__).parent / "recorded_v1_0"
_AT = datetime.fromisoformat(json.loads((_RECORDED / "at.json").read_text())["at"])
_CALLS = [json.loads(line) for line in (_RECORDED / "conversation.jsonl").read_text().splitlines()]
_TYPES: dict[str, tuple[type[Message], type[Message]]] = {
    "Hello": (exchange_pb2.HelloRequest, exchange_pb2.HelloResponse),
    "Overlap": (exchange_pb2.OverlapRequest, exchange_pb2.OverlapResponse),
    "OverlapBrief": (exchange_pb2.OverlapBriefRequest, exchange_pb2.OverlapBriefResponse),
    "Deliver": (delivery_pb2.DeliverRequest, delivery_pb2.DeliverResponse),
    "PutChunk": (delivery_pb2.PutChunkRequest, delivery_pb2.PutChunkResponse),
}
_BODIES = {
    *("hello", "query", "receipt", "referral", "referral_step"),
    *("broadcast", "broadcast_answer", "upload", "upload_step"),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    """The recorded federation, trusted anew from its public files."""
    store = DirectoryStore(tmp_path_factory.mktemp("home"), clock=lambda: _AT)
    return store.trust(_RECORDED / "public")


def _messages(call: dict[str, Any]) -> list[tuple[bytes, Message]]:
    request, response = _TYPES[call["method"].rpartition("/")[2]]
    return [
        (data, constraints.open_nested(data, kind))
        for kind, texts in ((request, call["requests"]), (response, call["responses"]))
        for data in map(base64.b64decode, texts)
    ]


def _envelopes(message: Message) -> list[envelope_pb2.Envelope]:
    """Every envelope inside a message, not looking into payloads."""
    if isinstance(message, envelope_pb2.Envelope):
        return [message]
    found = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                found += _envelopes(one)
    return found


def test_the_recording_has_every_call_of_v1_0() -> None:
    methods = Counter(call["method"].rpartition("/")[2] for call in _CALLS)
    assert set(methods) == set(_TYPES)


@pytest.mark.parametrize("number", range(len(_CALLS)))
def test_a_recorded_call_keeps_its_caps_and_its_bytes(number: int) -> None:
    for data, message in _messages(_CALLS[number]):
        assert message.SerializeToString() == data
        assert not _unknown(message), "a field was taken away"


def _unknown(message: Message) -> bytes:
    """The bytes of a message that today's wire has no name for."""
    bare = type(message)()
    bare.CopyFrom(message)
    bare.DiscardUnknownFields()
    return message.SerializeToString()[len(bare.SerializeToString()) :]


def test_every_recorded_signature_holds_and_every_body_was_said(directory: Directory) -> None:
    said: Counter[str] = Counter()
    for call in _CALLS:
        parties = {call["from"], call["to"]}
        for _, message in _messages(call):
            for envelope in _envelopes(message):

                def ours(audience: Audience, parties: set[str] = parties) -> bool:
                    return audience.agency in parties or audience.group == "all"

                payload = open_payload(
                    envelope, directory=directory, issuer=None, audience=ours, now=_AT
                )
                assert payload.issuer in parties
                said[payload.WhichOneof("body") or ""] += 1
    assert set(said) == _BODIES


def test_an_altered_recording_is_refused(directory: Directory) -> None:
    call = next(one for one in _CALLS if one["method"].endswith("Deliver"))
    (_, request), *_ = _messages(call)
    assert isinstance(request, delivery_pb2.DeliverRequest)
    request.envelope.payload = request.envelope.payload[:-1] + b"\x00"
    with pytest.raises(SignatureRefused):
        open_payload(
            request.envelope, directory=directory, issuer=None, audience=lambda _: True, now=_AT
        )
