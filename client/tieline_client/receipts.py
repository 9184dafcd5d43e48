"""Receipts outside the node: a file with the question and the answer's receipt, verified offline.

1. The receipt is signed by the agency that answered, the question by the one that asked.
2. The receipt names the question's id and the SHA-256 of its signed bytes.
3. Each is addressed to the other's agency.

A receipt then proves: at this time, by this generation of its index, that agency answered exactly
this question, with so many hits and this disclosure; the question proves what list was asked (its
digest, with the asker's salt: list_salt.py), by whom, for which purpose and case.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tieline.v1 import envelope_pb2, payload_pb2

from tieline_client import constraints
from tieline_client.audit_evidence import decoded, encoded
from tieline_client.checkpoints import signing_time
from tieline_client.directory import Directory
from tieline_client.directory_files import Files, wanted
from tieline_client.errors import ConfigurationError, FormatError, InvalidInput, SignatureRefused
from tieline_client.limits import RECEIPT_FILE_BYTES
from tieline_client.payloads import Audience, moment, open_payload

FORMAT = "tieline-receipt-1"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt file. ``files`` are the directory's, where they came along."""

    question: envelope_pb2.Envelope
    receipt: envelope_pb2.Envelope
    files: Files
    salt: bytes = b""
    """Of a salted list, where the asker made the file: with the list it shows what was asked."""

    def save(self, path: Path) -> None:
        """Write it to a new file, mode 0600. Raises ConfigurationError."""
        document = {
            "format": FORMAT,
            "question": encoded(self.question),
            "receipt": encoded(self.receipt),
            "list_salt": self.salt.hex(),
            "directory": {name: data.decode() for name, data in sorted(self.files.items())},
        }
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(document) + "\n")
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror or error}"
            ) from None

    @classmethod
    def read(cls, path: Path) -> Receipt | None:
        """Read a file; None when it is something else. Raises FormatError for a broken receipt."""
        try:
            with path.open("rb") as file:
                if FORMAT.encode() not in file.read(len(FORMAT) + 32):
                    return None
                file.seek(0)
                document = json.loads(file.read(RECEIPT_FILE_BYTES))
            return cls(
                decoded(str(document["question"])),
                decoded(str(document["receipt"])),
                {
                    str(name): str(text).encode()
                    for name, text in dict(document.get("directory") or {}).items()
                    if wanted(str(name))
                },
                bytes.fromhex(str(document.get("list_salt", ""))),
            )
        except OSError as error:
            raise FormatError(
                path.name, None, f"cannot be read: {error.strerror or error}"
            ) from None
        except (InvalidInput, KeyError, TypeError, ValueError, RecursionError):
            raise FormatError(path.name, None, "the receipt cannot be read; save it anew") from None


@dataclass(frozen=True, slots=True)
class Proven:
    """What a receipt says, once it was verified."""

    question: payload_pb2.Payload
    receipt: payload_pb2.Payload
    asked: datetime
    answered: datetime
    salt: bytes = b""

    def document(self) -> Mapping[str, Any]:
        """Return it as JSON."""
        query, said = self.question.query, self.receipt.receipt
        return {
            "receipt": self.receipt.id,
            "question": self.question.id,
            "asker": self.question.issuer,
            "answerer": self.receipt.issuer,
            "person": self.question.person,
            "purpose": self.question.purpose,
            "case": self.question.case_ref,
            "asked": self.asked,
            "answered": self.answered,
            "records": query.records,
            "list_digest": query.list_digest,
            "list_salt": self.salt,
            "generation": said.generation,
            "hits": said.hits,
            "disclosure": said.disclosure,
            "answer_digest": said.answer_digest,
        }


def verify(saved: Receipt, directory: Directory | None) -> Proven:
    """Verify a receipt; without a directory only that it fits its question, and no signature.

    Raises SignatureRefused, MalformedMessage.
    """
    question = _opened(saved.question, directory)  # 1
    receipt = _opened(saved.receipt, directory)
    if question.WhichOneof("body") != "query" or receipt.WhichOneof("body") != "receipt":
        raise SignatureRefused("the file holds no question with its receipt")
    said, digest = receipt.receipt, hashlib.sha256(saved.question.payload).digest()
    if said.request != question.id or said.request_digest != digest:  # 2
        raise SignatureRefused("the receipt is for another question than the one beside it")
    if (question.audience, receipt.audience) != (receipt.issuer, question.issuer):  # 3
        raise SignatureRefused("question and receipt are not of the same two agencies")
    return Proven(
        question, receipt, moment(question.issue_time), moment(receipt.issue_time), saved.salt
    )


def _opened(envelope: envelope_pb2.Envelope, directory: Directory | None) -> payload_pb2.Payload:
    if directory is None:
        return constraints.open_nested(envelope.payload, payload_pb2.Payload)

    def anybody(audience: Audience) -> bool:
        return bool(audience.agency)

    return open_payload(
        envelope,
        directory=directory,
        issuer=None,
        audience=anybody,
        now=signing_time(envelope),
    )
