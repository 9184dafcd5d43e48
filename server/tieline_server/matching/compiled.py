"""How kernels are compiled: without the GIL, cached, and with the three machine words they need.

Kernels take arrays that are C-contiguous and aligned. Arrays that come from a caller or from a
mapped file are made read-only first (`frozen`), so that each kernel is compiled exactly once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

F = TypeVar("F", bound=Callable[..., Any])
A = TypeVar("A", bound=np.generic)


def _sources() -> str:
    """Return a digest of these modules: numba notices a change of a kernel's own file only."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if os.environ.get("NUMBA_CACHE_DIR"):
    _config: Any = numba.config
    _config.CACHE_DIR = str(Path(os.environ["NUMBA_CACHE_DIR"], _sources()))


def kernel(function: F) -> F:
    """Compile ``function`` with numba on first call, without the GIL, and keep it in the cache."""
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return cast(F, compiled)


def frozen(array: npt.NDArray[A]) -> npt.NDArray[A]:
    """Return ``array`` as a read-only, contiguous, aligned view; copies only where it must."""
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.require(array, requirements=["C", "A"])
    view = array.view()
    view.setflags(write=False)
    return view


@intrinsic
def _popcount(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


@intrinsic
def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        item = builder.gep(view.data, [arguments[1]])
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        insert: Any = cgutils.get_or_insert_function
        prefetch = insert(builder.module, kind, "llvm.prefetch.p0i8")
        # For reading, keep in all cache levels, data.
        builder.call(prefetch, [builder.bitcast(item, byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return numba.void(array, numba.int64), generate


@intrinsic
def _publish(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("release")
        return context.get_dummy_value()

    return numba.void(), generate


signed = cast("Callable[[Any], int]", np.int64)
"""A signed 64-bit integer: what kernels index with (signed and unsigned mixed become floats)."""
popcount = cast("Callable[[np.uint64], np.uint64]", _popcount)
"""Set bits of a 64-bit word."""
prefetch = cast("Callable[[Any, Any], None]", _prefetch)
"""Ask for the cache line of the index-th element of the array's memory; never faults."""
publish = cast("Callable[[], None]", _publish)
"""Order all earlier writes before all later ones, for readers on other threads."""
