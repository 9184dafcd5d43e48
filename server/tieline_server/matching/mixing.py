"""The secret of a node's indexes, and the keyed mix that spreads digests evenly.

A digest is seen as 32-bit lanes. The mix replaces the first two lanes by a 64-bit *fingerprint* and
keeps the others: ``x = w0 + Σ k_j · lane_j (mod 2^64)`` (a multilinear hash: Thorup, "High speed
hashing for integers and strings", 2015) followed by shifts and multiplications by secret odd
numbers. Each step can be undone, so fingerprint and tail together *are* the digest: a comparison
of both has no false positive, and nothing more needs to be stored. Whoever does not know the key
cannot choose digests that fall into one bucket, whatever prefix or suffix they share.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np

from tieline_server.matching.compiled import U8, U32, U64, frozen, kernel

SECRET_BYTES = 16
_KEYS = 16

_M32 = np.uint64(0xFFFFFFFF)
_S29 = np.uint64(29)
_S32 = np.uint64(32)
_S58 = np.uint64(58)
_S8, _S16, _S24 = np.uint32(8), np.uint32(16), np.uint32(24)


def new_secret() -> bytes:
    """Return a new random secret for the indexes of one node."""
    return secrets.token_bytes(SECRET_BYTES)


def expand(secret: bytes, purpose: bytes, words: int) -> U64:
    """Derive ``words`` 64-bit words from the secret, apart for each purpose (BLAKE2b, keyed)."""
    out = b"".join(
        hashlib.blake2b(block.to_bytes(4, "big"), key=secret, person=purpose).digest()
        for block in range(-(-words // 8))
    )
    return np.frombuffer(out, dtype="<u8")[:words].astype(np.uint64)


def mix_keys(secret: bytes) -> U64:
    """Return the mix's keys: [0] and [1] odd multipliers, [2:] one per lane from the third on."""
    keys = expand(secret, b"tieline-exact", _KEYS)
    keys[:2] |= np.uint64(1)
    return frozen(keys)


@kernel
def lane(digests: U8, i: int, j: int) -> np.uint32:
    """Return the j-th lane of the i-th digest, little-endian: one load of four bytes, wherever they
    lie. What comes over the wire is not aligned, and to move it first takes as long as to mix it.
    """
    at = 4 * j
    low = np.uint32(digests[i, at]) | (np.uint32(digests[i, at + 1]) << _S8)
    return low | (np.uint32(digests[i, at + 2]) << _S16) | (np.uint32(digests[i, at + 3]) << _S24)


def mixed(digests: U8, keys: U64) -> U32:
    """Return the rows (n, lanes) of (n, width) digests."""
    rows = np.empty((len(digests), digests.shape[1] // 4), dtype=np.uint32)
    mix(frozen(digests), keys, rows)
    return rows


def inverses(keys: U64) -> U64:
    """Return what undoes the multiplications by keys[0] and keys[1]."""
    return frozen(np.array([pow(int(key), -1, 1 << 64) for key in keys[:2]], dtype=np.uint64))


@kernel
def first_lane(rows: U32, i: int, keys: U64, back: U64) -> np.uint32:
    """Return the first lane of the digest that was mixed into row i; ``back`` as `inverses`."""
    x = (np.uint64(rows[i, 0]) << _S32) | np.uint64(rows[i, 1])
    x ^= x >> _S32
    x *= back[1]
    x ^= (x >> _S29) ^ (x >> _S58)
    x *= back[0]
    x ^= x >> _S32
    for j in range(2, rows.shape[1]):
        x -= keys[j] * np.uint64(rows[i, j])
    return np.uint32(x >> _S32)


@kernel
def mix(digests: U8, keys: U64, out: U32) -> None:
    """Write fingerprint (high lane, low lane) and tail of each digest to ``out``."""
    rows, width = digests.shape[0], digests.shape[1] // 4
    # Written out: a loop over five lanes takes as long again as all the rest, and what is written
    # to ``out`` might change the keys for all that the compiler knows.
    first, second, third, fourth, fifth = keys[0], keys[1], keys[2], keys[3], keys[4]
    for i in range(rows):
        x = (np.uint64(lane(digests, i, 0)) << _S32) | np.uint64(lane(digests, i, 1))
        out[i, 2] = lane(digests, i, 2)
        out[i, 3] = lane(digests, i, 3)
        x += third * np.uint64(out[i, 2]) + fourth * np.uint64(out[i, 3])
        if width > 4:
            out[i, 4] = lane(digests, i, 4)
            x += fifth * np.uint64(out[i, 4])
            for j in range(5, width):
                out[i, j] = lane(digests, i, j)
                x += keys[j] * np.uint64(out[i, j])
        x ^= x >> _S32
        x *= first
        x ^= x >> _S29
        x *= second
        x ^= x >> _S32
        out[i, 0] = np.uint32(x >> _S32)
        out[i, 1] = np.uint32(x & _M32)
