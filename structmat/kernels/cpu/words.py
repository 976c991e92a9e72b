"""Words of memory that threads share, and the few calls by which they wait for each other.

A word is a signed integer of 64 bits, at an address given as an integer. Reading and writing
a word is one step for all other threads, and what a thread wrote before is seen with it.
"""

import os
import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_ORDER = "seq_cst"
_PAUSES = {
    **dict.fromkeys(("x86_64", "amd64", "i686"), ("llvm.x86.sse2.pause", ())),
    **dict.fromkeys(("arm64", "aarch64"), ("llvm.aarch64.hint", (1,))),
}

#: Gives the rest of a thread's turn to others, by the system.
let_others = types.ExternalFunction(
    "SwitchToThread" if os.name == "nt" else "sched_yield", types.intc()
)
#: Read or write some bytes of a file, as in C: descriptor, address, number.
read_bytes, write_bytes = (
    types.ExternalFunction(name, types.intp(types.intc, types.uintp, types.uintp))
    for name in (("_read", "_write") if os.name == "nt" else ("read", "write"))
)


def _pointer(builder: Any, address: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, _I64.as_pointer()), [index])


@intrinsic
def word(typing: Any, address: Any, index: Any) -> Any:
    """Word `index` of an array that no thread changes meanwhile."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, *args))

    return types.intp(types.intp, types.intp), generate


@intrinsic
def shared_word(typing: Any, address: Any, index: Any) -> Any:
    """Word `index` of an array, as it is now."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, *args), _ORDER, 8)

    return types.intp(types.intp, types.intp), generate


@intrinsic
def set_word(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write word `index` of an array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _pointer(builder, *args[:2]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _changed(operation: str) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw(operation, _pointer(builder, *args[:2]), args[2], _ORDER)

    return types.intp(types.intp, types.intp, types.intp), generate


@intrinsic
def add_to_word(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Add to word `index` of an array; return what it was."""
    return _changed("add")


@intrinsic
def swap_word(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write word `index` of an array; return what it was."""
    return _changed("xchg")


@intrinsic
def hold(typing: Any, array: Any) -> Any:
    """Keep an array in memory up to here: an address alone does not."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the processor that this thread waits in a loop, where it can be told."""
    name, values = _PAUSES.get(platform.machine().lower(), ("", ()))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if name:
            word = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [word] * len(values))
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [ir.Constant(word, value) for value in values])
        return context.get_dummy_value()

    return types.void(), generate
