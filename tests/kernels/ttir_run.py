"""An interpreter for lowered Triton kernels: runs them without a GPU, and watches every access.

It executes the Triton IR in numpy, one program after another, and stops at what real hardware would
let pass or get wrong: an access outside the array, an address written by two programs, or written
by one and read by another, one address twice in a store, a read of what the same program has
written (its threads are not synchronised). A masked-out element without a replacement is NaN, and
so is an output that nobody has written.
"""

from typing import NamedTuple

import numpy as np
from ttir import Instruction, Kernel, instructions


class AccessError(AssertionError):
    """The kernel touched memory in a way that it must not."""


class Run(NamedTuple):
    """What a run left behind.

    Attributes:
        outputs: the kernel's outputs.
        reads: for every operand and then every output, how often each real number was read, flat.
        writes: the same for writes. Aliased arrays share their counts.
    """

    outputs: list[np.ndarray]
    reads: list[np.ndarray]
    writes: list[np.ndarray]


def run(kernel: Kernel, *operands: np.ndarray) -> Run:
    """Execute all programs of a launch.

    Raises:
        AccessError: see the module's docstring.
    """
    memory = [_Memory(a) for a in operands]
    real = np.real(operands[0]).dtype
    for number, (shape, is_complex) in enumerate(kernel.outputs):
        if number in kernel.aliases:
            memory.append(memory[kernel.aliases[number]])
        else:
            dtype = np.result_type(real, np.complex64) if is_complex else real
            memory.append(_Memory(np.full(shape, np.nan, dtype)))
    arguments, body = instructions(kernel)
    pointers = [_Pointer(m, np.int64(0)) for m in memory]
    for number, position in enumerate(np.ndindex(*reversed(kernel.grid))):
        program = _Program(position[::-1], number)
        program.execute(body, dict(zip(arguments, pointers, strict=True)))
    outputs = memory[len(operands) :]
    return Run(
        [m.array.reshape(s) for m, (s, _) in zip(outputs, kernel.outputs, strict=True)],
        [m.reads for m in memory],
        [m.writes for m in memory],
    )


class _Memory:
    """A copy of an array as real numbers, and who has read and written each of them."""

    def __init__(self, array: np.ndarray):
        self.array = np.array(array, order="C")
        self.data = self.array.reshape(-1).view(np.real(self.array).dtype)
        self.reads = np.zeros(self.data.size, np.int64)
        self.writes = np.zeros(self.data.size, np.int64)
        self.reader = np.full(self.data.size, -1)
        self.writer = np.full(self.data.size, -1)


class _Pointer(NamedTuple):
    memory: _Memory
    offset: np.ndarray | np.int64


SAME = ("arith.extsi", "arith.extui", "arith.trunci")
ARITHMETIC = {
    "arith.addf": np.add,
    "arith.subf": np.subtract,
    "arith.mulf": np.multiply,
    "arith.negf": np.negative,
    "arith.addi": np.add,
    "arith.subi": np.subtract,
    "arith.muli": np.multiply,
    "arith.divsi": np.floor_divide,  # nothing is negative here
    "arith.remsi": np.remainder,
    "arith.divui": np.floor_divide,
    "arith.remui": np.remainder,
    "arith.andi": np.bitwise_and,
    "arith.select": np.where,
    **dict.fromkeys(SAME, lambda a: a),
}
SHAPING = {
    "tt.splat": np.broadcast_to,
    "tt.broadcast": np.broadcast_to,
    "tt.expand_dims": np.expand_dims,
    "tt.reshape": np.reshape,
}


class _Program:
    def __init__(self, position: tuple[int, ...], number: int):
        self.position = position
        self.number = number

    def execute(self, body: list[Instruction], values: dict) -> list:
        """Execute a block; returns what its last operation yields."""
        for name, operands, results, detail in body:
            inputs = [values[v] for v in operands]
            if name in ("scf.yield", "tt.return"):
                return inputs
            if name == "scf.for":
                outputs = self.loop(inputs, detail, values)
            elif name == "tt.store":
                outputs = self.store(*inputs)
            elif name == "tt.split":
                outputs = [inputs[0][..., 0], inputs[0][..., 1]]
            else:
                outputs = [self.evaluate(name, inputs, detail)]
            values.update(zip(results, outputs, strict=True))
        return []

    def loop(self, inputs: list, detail: tuple, values: dict) -> list:
        low, high, step, *carry = inputs
        arguments, body = detail
        for k in range(int(low), int(high), int(step)):
            inner = values | dict(zip(arguments, [np.int64(k), *carry], strict=True))
            carry = self.execute(body, inner)
        return carry

    def evaluate(self, name: str, inputs: list, detail):
        if name in ARITHMETIC:
            return ARITHMETIC[name](*inputs)
        if name in SHAPING:
            if isinstance(inputs[0], _Pointer):
                return _Pointer(inputs[0].memory, SHAPING[name](inputs[0].offset, detail))
            return SHAPING[name](inputs[0], detail)
        if name == "tt.addptr":
            return _Pointer(inputs[0].memory, inputs[0].offset + inputs[1])
        if name == "tt.load":
            return self.load(*inputs)
        if name == "tt.join":
            return np.stack(inputs, -1)
        if name == "arith.cmpi":
            return detail(*inputs)
        if name == "arith.constant":
            return detail
        if name == "tt.get_program_id":
            return np.int64(self.position[detail])
        if name == "tt.make_range":
            return np.arange(*detail, dtype=np.int64)
        raise NotImplementedError(f"no rule for the operation {name}")

    def load(self, pointer: _Pointer, mask=True, other=np.nan) -> np.ndarray:
        memory, offsets, mask = self.access(pointer, mask)
        where = offsets[mask]
        if (memory.writer[where] != -1).any():
            raise AccessError("a program reads what it or another one has written")
        memory.reads += np.bincount(where, minlength=memory.data.size)
        memory.reader[where] = self.number
        value = np.array(np.broadcast_to(other, offsets.shape), memory.data.dtype)
        value[mask] = memory.data[where]
        return value

    def store(self, pointer: _Pointer, value, mask=True) -> list:
        memory, offsets, mask = self.access(pointer, mask)
        where = offsets[mask]
        if np.unique(where).size != where.size:
            raise AccessError("one store writes an address twice")
        for users in (memory.writer, memory.reader):
            if ((users[where] != -1) & (users[where] != self.number)).any():
                raise AccessError("two programs use an address that one of them writes")
        memory.data[where] = np.broadcast_to(value, offsets.shape)[mask]
        memory.writer[where] = self.number
        memory.writes[where] += 1
        return []

    def access(self, pointer: _Pointer, mask):
        offsets = np.asarray(pointer.offset)
        mask = np.broadcast_to(mask, offsets.shape)
        used = offsets[mask]
        size = pointer.memory.data.size
        if used.size and (used.min() < 0 or used.max() >= size):
            raise AccessError(f"out of bounds: {used.min()} to {used.max()}, size {size}")
        return pointer.memory, offsets, mask
