"""The salted digest of an asked list: what a question's signed header says of it.

A header that named the bare SHA-256 of a list of one digest would let whoever reads it at the asked
node guess that digest, hit or miss. So the asker takes SHA-256 of a random salt and that; the salt
travels beside the header, the asked side compares and forgets it. The header then binds the asker
(who cannot find another list and salt for it) and tells nobody the list; the asker, who can name
both, shows which list it was.
"""

from __future__ import annotations

import hashlib
import hmac

SALT_BYTES = 32
SALTED_LISTS = "salted-lists"
"""The capability of a peer that takes headers with a salted digest."""


def committed(salt: bytes, list_digest: bytes) -> bytes:
    """Return SHA-256 of the salt and the list's own digest."""
    return hashlib.sha256(salt + list_digest).digest()


def is_list(announced: bytes, list_digest: bytes, *, salted: bool, salt: bytes) -> bool:
    """Whether a list is the one that a header announces."""
    made = committed(salt, list_digest) if salted else list_digest
    return hmac.compare_digest(announced, made)
