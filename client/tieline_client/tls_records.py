"""TLS records as a relay sees them: headers it can read, contents it cannot (RFC 8446, 5.1).

Only whole records are relayed, and nothing else: a picture that is cut into frames has no header.
"""

from __future__ import annotations

from collections.abc import Iterator

from tieline_client import limits
from tieline_client.errors import MalformedMessage

_HEADER = 5
_TYPES = frozenset({20, 21, 22, 23})
"""change_cipher_spec, alert, handshake, application_data."""
_VERSIONS = frozenset({b"\x03\x01", b"\x03\x03"})
"""Of a first ClientHello and of everything else in TLS 1.3."""
_MOST = 2**14 + 256
"""Largest encrypted record."""


def _end(data: bytes | bytearray, start: int) -> int | None:
    """Return where the record at ``start`` ends, or None while its header is not all there.

    Raises MalformedMessage when it is no record's header.
    """
    if len(data) - start < _HEADER:
        return None
    length = int.from_bytes(data[start + 3 : start + _HEADER])
    if (
        data[start] not in _TYPES
        or bytes(data[start + 1 : start + 3]) not in _VERSIONS
        or not 0 < length <= _MOST
    ):
        raise MalformedMessage("these bytes are no TLS record; nothing else is relayed")
    return start + _HEADER + length


def fault(value: bytes) -> str | None:
    """Return what keeps a value from being a sequence of whole records, or None."""
    start = 0
    while start < len(value):
        try:
            end = _end(value, start)
        except MalformedMessage:
            return "is no TLS record"
        if end is None or end > len(value):
            return "ends within a TLS record"
        start = end
    return None


class RecordSplitter:
    """Turns a stream of bytes into frames of whole records, at most RELAY_FRAME_BYTES each."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes as they come; yield the frames that are whole. Raises MalformedMessage.

        What is held back is less than one record.
        """
        held = self._held
        held += data
        start = done = 0
        while (end := _end(held, done)) is not None and end <= len(held):
            if end - start > limits.RELAY_FRAME_BYTES:
                yield bytes(held[start:done])
                start = done
            done = end
        if done > start:
            yield bytes(held[start:done])
        del held[:done]
