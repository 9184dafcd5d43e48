"""The three ways in which tools write a PhotoDNA hash: 144 bytes that Tieline never interprets."""

from __future__ import annotations

import base64
import binascii

WIDTH = 144
"""Bytes of one hash."""
_HEX_CHARS = 2 * WIDTH
_BASE64_CHARS = WIDTH // 3 * 4
_DECIMALS_CHARS = 5 * WIDTH


def parse_photodna(value: object) -> bytes:
    """Return the bytes of 192 base64 characters, 288 hex digits or 144 comma-separated decimals.

    Raises ValueError for anything else.
    """
    if not isinstance(value, str):
        raise ValueError("not a text")
    text = value.strip()
    if len(text) == _BASE64_CHARS:
        try:
            digest = base64.b64decode(text, validate=True)
        except binascii.Error:
            digest = b""
    elif len(text) == _HEX_CHARS and "," not in text:
        digest = bytes.fromhex(text)
    elif len(text) <= _DECIMALS_CHARS:
        digest = bytes(_decimal(part.strip()) for part in text.split(","))
    else:
        digest = b""
    if len(digest) != WIDTH:
        raise ValueError("not 144 bytes")
    return digest


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise ValueError("not a decimal")
    return int(text)
