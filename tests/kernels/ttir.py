"""Triton kernels out of a lowered JAX function: what was lowered, and its instructions."""

from collections.abc import Callable
from typing import Any, NamedTuple

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


class Instruction(NamedTuple):
    """One operation; values are numbered.

    ``detail`` depends on the operation: a constant, an axis, a shape, a comparison, or the
    (arguments, instructions) of a loop's body.
    """

    name: str
    operands: list[int]
    results: list[int]
    detail: Any


def kernels_of(lowered) -> list[Kernel]:
    """All Triton kernels of ``jax.jit(f).trace(...).lower(...)``."""
    found = []

    def visit(op):
        is_call = op.name == "stablehlo.custom_call"
        if is_call and "triton" in str(op.attributes["call_target_name"]):
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
        shapes.update(_shape(r) for r in op.results if isinstance(r.type, ir.RankedTensorType))
        return ir.WalkResult.ADVANCE

    with _context():
        ir.Module.parse(kernel.text).operation.walk(visit)
    return shapes


def instructions(kernel: Kernel) -> tuple[list[int], list[Instruction]]:
    """The kernel's arguments and its body."""
    with _context():
        module = ir.Module.parse(kernel.text)
        (function,) = (o for o in module.body.operations if o.operation.name == "tt.func")
        return _decode(function.regions[0].blocks[0], {})


def _context():
    context = ir.Context()
    dialect.register_dialect(context)
    context.load_all_available_dialects()
    return context


def _decode(block, numbers: dict) -> tuple[list[int], list[Instruction]]:
    def number(value) -> int:
        return numbers.setdefault(value, len(numbers))

    arguments = [number(a) for a in block.arguments]
    found = []
    for wrapped in block.operations:
        op = wrapped.operation
        operands, results = [number(v) for v in op.operands], [number(v) for v in op.results]
        if op.name == "tt.load" and not list(op.results[0].uses):
            continue  # Pallas stores by swapping; every compiler drops the unused old value
        detail = _decode(op.regions[0].blocks[0], numbers) if op.name == "scf.for" else None
        if op.name in DETAILS:
            detail = DETAILS[op.name](op)
        found.append(Instruction(op.name, operands, results, detail))
    return arguments, found


def _shape(value) -> tuple[int, ...]:
    return tuple(ir.RankedTensorType(value.type).shape)


def _integer(op, name: str) -> int:
    return ir.IntegerAttr(op.attributes[name]).value


def _constant(op):
    attribute = op.attributes["value"]
    if not isinstance(op.results[0].type, ir.RankedTensorType):
        return _scalar(attribute)
    elements = ir.DenseElementsAttr(attribute)
    if elements.is_splat:
        return np.full(_shape(op.results[0]), _scalar(elements.get_splat_value()))
    return np.array(elements)


def _scalar(attribute):
    if isinstance(attribute, ir.BoolAttr):
        return bool(ir.BoolAttr(attribute).value)
    if isinstance(attribute, ir.IntegerAttr):
        return np.int64(ir.IntegerAttr(attribute).value)
    return np.float32(ir.FloatAttr(attribute).value)


COMPARISONS = [
    np.equal,
    np.not_equal,
    *(np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.less, np.less_equal, np.greater, np.greater_equal),  # unsigned: nothing is negative here
]
DETAILS: dict[str, Callable] = {
    "arith.constant": _constant,
    "arith.cmpi": lambda op: COMPARISONS[_integer(op, "predicate")],
    "tt.get_program_id": lambda op: _integer(op, "axis"),
    "tt.make_range": lambda op: (_integer(op, "start"), _integer(op, "end")),
    "tt.expand_dims": lambda op: _integer(op, "axis"),
    **dict.fromkeys(("tt.splat", "tt.broadcast", "tt.reshape"), lambda op: _shape(op.results[0])),
}
