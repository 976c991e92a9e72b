"""LLVM instructions that the compiled kernels are made of: whole vectors, loops, sums.

Compilers turn loops into vectors where they can; these kernels place numbers in registers
themselves, so that they run at the speed of the machine's multipliers. All of it is
portable LLVM: instructions that a processor lacks are split into those that it has.
"""

import platform
from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

_FEATURES = binding.get_host_cpu_features()
#: Bytes of a vector register, and number of registers.
VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx2") else 16
REGISTERS = 32 if VECTOR_BYTES == 64 or platform.machine() in ("arm64", "aarch64") else 16

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
Value = Any
_NAMES = {types.float32: "f32", types.float64: "f64"}


def compiled(function: Callable[..., Any]) -> Any:
    """A function compiled by Numba, without the interpreter's lock, and kept on disk."""
    return _compiled(function)


def compiled_sums(function: Callable[..., Any]) -> Any:
    """The same, where sums may be taken in any order: vectors of numbers then have parts of them.

    NaN and infinity keep their meaning.
    """
    return _compiled(function, fastmath={"reassoc", "contract"})


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(nogil=True, **options)(function)


def constant(argument: Any) -> int:
    """The value of an intrinsic's argument that has to be known when the kernel is compiled."""
    if not isinstance(argument, types.IntegerLiteral):
        raise RequireLiteralValue("argument")  # Numba asks again with the constant
    return int(argument.literal_value)


@intrinsic
def power_of_two(typing: Any, k: Any) -> Any:
    """2**k for an integer k from -1022 to 1023, in double precision."""
    signature = types.float64(types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.add(args[0], ir.Constant(_I64, 1023))
        bits = builder.shl(exponent, ir.Constant(_I64, 52))
        return builder.bitcast(bits, ir.DoubleType())

    return signature, generate


@intrinsic
def address_of(typing: Any, array: Any) -> Any:
    """Address of an array's first entry, as an integer."""
    signature = types.intp(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Value:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _I64)

    return signature, generate


class Builder:
    """Vector instructions on float32 or float64, at addresses given as integers.

    A vector holds `lanes` numbers.
    """

    def __init__(self, builder: Any, dtype: Any) -> None:
        self.ir, self._name = builder, _NAMES[dtype]
        self._scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self._size = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self._size
        self._vector = ir.VectorType(self._scalar, self.lanes)
        self.zero = ir.Constant(self._vector, [0.0] * self.lanes)

    def at(self, address: Value, *index: Value) -> Value:
        """Address of an entry, `index` numbers further on."""
        for i in index:
            i = self.integer(i) if isinstance(i, int) else i
            address = self.ir.add(address, self.ir.mul(i, self.integer(self._size)))
        return address

    def integer(self, value: int) -> Value:
        """A constant index."""
        return ir.Constant(_I64, value)

    def index(self, address: Value, i: Value) -> Value:
        """Entry i of an array of int32, as an index."""
        pointer = self.ir.inttoptr(address, _I32.as_pointer())
        return self.ir.sext(self.ir.load(self.ir.gep(pointer, [i])), _I64)

    def load(self, address: Value, *, aligned: bool = False) -> Value:
        """A vector from memory."""
        pointer = self.ir.inttoptr(address, self._vector.as_pointer())
        return self.ir.load(pointer, align=VECTOR_BYTES if aligned else self._size)

    def store(self, vector: Value, address: Value, *, aligned: bool = False) -> None:
        """A vector to memory."""
        pointer = self.ir.inttoptr(address, self._vector.as_pointer())
        self.ir.store(vector, pointer, align=VECTOR_BYTES if aligned else self._size)

    def prefetch(self, address: Value) -> None:
        """Ask for a line of memory before it is needed, at any address."""
        pointer, word = _I8.as_pointer(), ir.Constant(_I32, 1)
        signature = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(self.ir.module, signature, "llvm.prefetch.p0")
        # To read, into the second nearest cache, data.
        reading, level = ir.Constant(_I32, 0), ir.Constant(_I32, 2)
        self.ir.call(function, [self.ir.inttoptr(address, pointer), reading, level, word])

    def spread(self, address: Value) -> Value:
        """One number from memory, in all lanes."""
        number = self.ir.load(self.ir.inttoptr(address, self._scalar.as_pointer()))
        undefined = ir.Constant(self._vector, ir.Undefined)
        first = self.ir.insert_element(undefined, number, ir.Constant(_I32, 0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    def gather(self, source: Value, places: Value) -> Value:
        """Numbers of an array at `source`, at the places that an array of int32 lists."""
        wide, lanes = ir.VectorType(_I64, self.lanes), self.lanes
        listed = self.ir.inttoptr(places, ir.VectorType(_I32, lanes).as_pointer())
        index = self.ir.sext(self.ir.load(listed, align=4), wide)
        undefined = ir.Constant(wide, ir.Undefined)
        first = self.ir.insert_element(undefined, source, ir.Constant(_I32, 0))
        bytes_on = self.ir.mul(index, ir.Constant(wide, [self._size] * lanes))
        addresses = self.ir.add(self.shuffle(first, undefined, [0] * lanes), bytes_on)
        pointers = self.ir.inttoptr(addresses, ir.VectorType(self._scalar.as_pointer(), lanes))
        every = ir.Constant(ir.VectorType(ir.IntType(1), lanes), [True] * lanes)
        arguments = [pointers, ir.Constant(_I32, self._size), every, self.zero]
        signature = ir.FunctionType(self._vector, [a.type for a in arguments])
        name = f"llvm.masked.gather.v{lanes}{self._name}.v{lanes}p0"
        function = cgutils.get_or_insert_function(self.ir.module, signature, name)
        return self.ir.call(function, arguments)

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """A vector of the named lanes of two, counted through."""
        mask = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
        return self.ir.shuffle_vector(a, b, mask)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """The vector a b + c, rounded once."""
        signature = ir.FunctionType(self._vector, [self._vector] * 3)
        name = f"llvm.fma.v{self.lanes}{self._name}"
        return self.ir.call(
            cgutils.get_or_insert_function(self.ir.module, signature, name), [a, b, c]
        )

    def sums(self, rows: Sequence[Value]) -> Value:
        """A vector whose first lanes are the sums of the given vectors, a power of two of them."""
        rows, lanes, size = list(rows), range(self.lanes), len(rows)
        half = size // 2
        while half > 0:
            # Lane l keeps the numbers whose bit `half` is that of l, and adds its partner's.
            own = [l + self.lanes * bool(l & half) for l in lanes]
            partner = [(l ^ half) + self.lanes * bool(l & half) for l in lanes]
            pairs = list(zip(rows[:half], rows[half:], strict=True))
            rows = [
                self.ir.fadd(self.shuffle(a, b, own), self.shuffle(a, b, partner)) for a, b in pairs
            ]
            half //= 2
        total = rows[0]
        while size < self.lanes:
            total = self.ir.fadd(total, self.shuffle(total, total, [l ^ size for l in lanes]))
            size *= 2
        return total

    def add_sums(self, rows: Sequence[Value], address: Value) -> None:
        """Add the sum of each of several vectors to numbers in memory."""
        group = min(len(rows), self.lanes)
        for first in range(0, len(rows), group):
            total = self.sums(rows[first : first + group])
            short = self.shuffle(total, total, range(group))
            pointer = self.ir.inttoptr(self.at(address, first), short.type.as_pointer())
            old = self.ir.load(pointer, align=self._size)
            self.ir.store(self.ir.fadd(old, short), pointer, align=self._size)

    def loop(
        self,
        begin: Value,
        end: Value,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> tuple[Value, list[Value]]:
        """Run `body` for i = begin, begin + step, … while i + step <= end.

        `body` takes i and the carried vectors and returns the next ones. The loop returns
        the i that ended it and the last carried vectors.
        """
        build, entry = self.ir, self.ir.block
        head, inside, after = (build.append_basic_block() for _ in range(3))
        build.branch(head)
        build.position_at_end(head)
        i, values = build.phi(_I64), [build.phi(v.type) for v in carried]
        following = build.add(i, self.integer(step))
        build.cbranch(build.icmp_signed("<=", following, end), inside, after)
        build.position_at_end(inside)
        results = body(i, values)
        firsts, laters = [begin, *carried], [following, *results]
        for phi, first, later in zip([i, *values], firsts, laters, strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(later, build.block)
        build.branch(head)
        build.position_at_end(after)
        return i, values
