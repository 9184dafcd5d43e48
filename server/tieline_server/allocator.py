"""How the C library keeps memory that was freed: for the next message, not for the system.

By default glibc gives the top of a heap back as soon as 128 KB of it are free, and takes fresh
pages for the next message, which the kernel clears one by one: a fifth of what a node spends on
passing a million digests on. The bounds here keep a node's private memory within a few tens of
megabytes of what it uses.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""mallopt(3); what glibc numbers so in malloc.h."""
_KEPT_BYTES = 16 * 1024 * 1024
"""Free memory that the top of each heap keeps."""
_GROWTH_BYTES = 1024 * 1024
_OWN_MAPPING_BYTES = 8 * 1024 * 1024
"""Larger pieces are mapped, and given back, by themselves."""
_HEAPS = 4


def keep_freed_memory() -> None:
    """Set the bounds for this process; before it starts threads. Does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_TOP_PAD, _GROWTH_BYTES)
    mallopt(_ARENA_MAX, _HEAPS)
