"""Triton kernels out of a lowered JAX function, and an interpreter that runs them without a GPU.

The interpreter executes the *lowered* Triton IR in numpy, one program after another, and stops at
what real hardware would let pass or get wrong: an access outside the array, an address written by
two programs, or written by one and read by another, one address twice in a store, a read of what
the same program has written (its threads are not synchronised). A masked-out element without a
replacement is NaN, and so is an output that nobody has written.
"""

from typing import NamedTuple

import numpy as np
from jax.interpreters.mlir import ir
from jaxlib.triton import dialect


class Kernel(NamedTuple):
    """One launch in a lowered function."""

    name: str
    text: str  # Triton IR
    grid: tuple[int, int, int]
    num_warps: int
    num_stages: int
    outputs: list[tuple[tuple[int, ...], bool]]  # shape; whether complex
    aliases: dict[int, int]  # output number -> operand number


class AccessError(AssertionError):
    """The kernel touched memory in a way that it must not."""


def kernels_of(lowered) -> list[Kernel]:
    """All Triton kernels of ``jax.jit(f).trace(...).lower(...)``."""
    found = []

    def visit(op):
        if op.name == "stablehlo.custom_call" and "triton" in str(
            op.attributes["call_target_name"]
        ):
            found.append(_kernel(op))
        return ir.WalkResult.ADVANCE

    lowered.compiler_ir("stablehlo").operation.walk(visit)
    return found


def _kernel(op) -> Kernel:
    config = op.attributes["mhlo.backend_config"]
    x, y, z, num_warps, num_stages = (
        ir.IntegerAttr(config[name]).value
        for name in ("grid_x", "grid_y", "grid_z", "num_warps", "num_stages")
    )
    aliases = {}
    for alias in map(str, ir.ArrayAttr(op.attributes["output_operand_aliases"])):
        output = int(alias.split("output_tuple_indices = [")[1].split("]")[0])
        aliases[output] = int(alias.split("operand_index = ")[1].split(",")[0])
    with op.context as context:
        dialect.register_dialect(context)
        text = str(ir.Module.parse(ir.StringAttr(config["ir"]).value_bytes))
    types = [ir.RankedTensorType(result.type) for result in op.results]
    return Kernel(
        ir.StringAttr(config["name"]).value,
        text,
        (x, y, z),
        num_warps,
        num_stages,
        [(tuple(t.shape), "complex" in str(t.element_type)) for t in types],
        aliases,
    )


def block_shapes(kernel: Kernel) -> set[tuple[int, ...]]:
    """The shapes of all blocks that the kernel computes with."""
    shapes = set()

    def visit(op):
        for result in op.results:
            if isinstance(result.type, ir.RankedTensorType):
                shapes.add(tuple(ir.RankedTensorType(result.type).shape))
        return ir.WalkResult.ADVANCE

    with _context():
        ir.Module.parse(kernel.text).operation.walk(visit)
    return shapes


def _context():
    context = ir.Context()
    dialect.register_dialect(context)
    context.load_all_available_dialects()
    return context


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
    arguments = [*memory]
    real = np.real(operands[0]).dtype
    for number, (shape, is_complex) in enumerate(kernel.outputs):
        if number in kernel.aliases:
            arguments.append(memory[kernel.aliases[number]])
        else:
            dtype = np.result_type(real, np.complex64) if is_complex else real
            arguments.append(_Memory(np.full(shape, np.nan, dtype)))
    with _context():
        module = ir.Module.parse(kernel.text)
        (function,) = (o for o in module.body.operations if o.operation.name == "tt.func")
        block = function.regions[0].blocks[0]
        x, y, z = kernel.grid
        for number, (k, j, i) in enumerate(np.ndindex(z, y, x)):
            program = _Program((i, j, k), number)
            program.block(
                block,
                {
                    argument: _Pointer(m, np.int64(0))
                    for argument, m in zip(block.arguments, arguments, strict=True)
                },
            )
    count = len(operands)
    return Run(
        [m.array.reshape(s) for m, (s, _) in zip(arguments[count:], kernel.outputs, strict=True)],
        [m.reads for m in arguments],
        [m.writes for m in arguments],
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


COMPARISONS = [
    np.equal,
    np.not_equal,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.less,  # unsigned; all numbers here are small and positive
    np.less_equal,
    np.greater,
    np.greater_equal,
]
ARITHMETIC = {
    "addf": np.add,
    "subf": np.subtract,
    "mulf": np.multiply,
    "negf": np.negative,
    "addi": np.add,
    "subi": np.subtract,
    "muli": np.multiply,
    "divsi": np.floor_divide,
    "remsi": np.remainder,
    "divui": np.floor_divide,
    "remui": np.remainder,
    "andi": np.bitwise_and,
    "ori": np.bitwise_or,
    "xori": np.bitwise_xor,
    "minsi": np.minimum,
    "maxsi": np.maximum,
    "extsi": lambda a: a,
    "extui": lambda a: a,
    "trunci": lambda a: a,
    "select": np.where,
}


class _Program:
    def __init__(self, position: tuple[int, int, int], number: int):
        self.position = position
        self.number = number

    def block(self, block, values: dict) -> list:
        """Execute a block; returns what its last operation yields."""
        for wrapped in block.operations:
            op = wrapped.operation
            operands = [values[v] for v in op.operands]
            if op.name in ("scf.yield", "tt.return"):
                return operands
            if op.name == "scf.for":
                for result, value in zip(op.results, self.loop(op, operands, values), strict=True):
                    values[result] = value
            elif op.name == "tt.load" and not list(op.results[0].uses):
                pass  # Pallas stores by swapping; every compiler drops the unused old value
            elif op.name == "tt.store":
                self.store(*operands)
            elif op.name == "tt.split":
                for half, result in enumerate(op.results):
                    values[result] = operands[0][..., half]
            else:
                values[op.results[0]] = self.evaluate(op, operands)
        return []

    def loop(self, op, operands: list, values: dict) -> list:
        low, high, step, *carry = operands
        body = op.regions[0].blocks[0]
        for k in range(int(low), int(high), int(step)):
            inner = values | dict(zip(body.arguments, [np.int64(k), *carry], strict=True))
            carry = self.block(body, inner)
        return carry

    def evaluate(self, op, operands: list):
        name = op.name
        if name == "arith.constant":
            return _constant(op)
        if name == "arith.cmpi":
            return COMPARISONS[ir.IntegerAttr(op.attributes["predicate"]).value](*operands)
        if name.startswith("arith.") and name[6:] in ARITHMETIC:
            return ARITHMETIC[name[6:]](*operands)
        if name == "tt.get_program_id":
            return np.int64(self.position[ir.IntegerAttr(op.attributes["axis"]).value])
        if name == "tt.make_range":
            ends = (ir.IntegerAttr(op.attributes[end]).value for end in ("start", "end"))
            return np.arange(*ends, dtype=np.int64)
        if name in ("tt.splat", "tt.broadcast"):
            return _reshape(operands[0], lambda a: np.broadcast_to(a, _shape(op)))
        if name == "tt.expand_dims":
            axis = ir.IntegerAttr(op.attributes["axis"]).value
            return _reshape(operands[0], lambda a: np.expand_dims(a, axis))
        if name == "tt.reshape":
            return _reshape(operands[0], lambda a: np.reshape(a, _shape(op)))
        if name == "tt.join":
            return np.stack(operands, -1)
        if name == "tt.addptr":
            return _Pointer(operands[0].memory, operands[0].offset + operands[1])
        if name == "tt.load":
            return self.load(*operands)
        raise NotImplementedError(f"no rule for the operation {name}")

    def load(self, pointer: _Pointer, mask=True, other=np.nan) -> np.ndarray:
        memory, offsets, mask = self.access(pointer, mask)
        where = offsets[mask]
        if (memory.writer[where] != -1).any():
            raise AccessError("a program reads what it or another one has written")
        np.add.at(memory.reads, where, 1)
        memory.reader[where] = self.number
        value = np.array(np.broadcast_to(other, offsets.shape), memory.data.dtype)
        value[mask] = memory.data[where]
        return value

    def store(self, pointer: _Pointer, value, mask=True) -> None:
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

    def access(self, pointer: _Pointer, mask):
        offsets = np.asarray(pointer.offset)
        mask = np.broadcast_to(mask, offsets.shape)
        used = offsets[mask]
        size = pointer.memory.data.size
        if used.size and (used.min() < 0 or used.max() >= size):
            raise AccessError(f"out of bounds: {used.min()} to {used.max()}, size {size}")
        return pointer.memory, offsets, mask


def _reshape(value, change):
    if isinstance(value, _Pointer):
        return _Pointer(value.memory, change(value.offset))
    return change(value)


def _shape(op) -> tuple[int, ...]:
    return tuple(ir.RankedTensorType(op.results[0].type).shape)


def _constant(op):
    attribute = op.attributes["value"]
    if not isinstance(op.results[0].type, ir.RankedTensorType):
        return _scalar(attribute)
    elements = ir.DenseElementsAttr(attribute)
    if elements.is_splat:
        return np.full(_shape(op), _scalar(elements.get_splat_value()))
    return np.array(elements)


def _scalar(attribute):
    if isinstance(attribute, ir.BoolAttr):
        return bool(ir.BoolAttr(attribute).value)
    if isinstance(attribute, ir.IntegerAttr):
        return np.int64(ir.IntegerAttr(attribute).value)
    return np.float32(ir.FloatAttr(attribute).value)
