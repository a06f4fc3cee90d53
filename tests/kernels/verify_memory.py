"""Rung 6 of the kernel's verification: the programs that XLA compiles ahead of time around it.

No temporary memory beyond the partial gradients, the trace written in place, two passes over it.
And a learner's whole step holds no second trace.
"""

import re
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from gpu_targets import TARGETS
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import rtrl
from rtrl.kernels import _backend, _device, _tiles, diagonal_trace

ADDRESS_TABLE = 16  # bytes XLA allots for the addresses of the kernel's two outputs


def compile_with_xla(function, arguments, capability: int, *, may_spill: bool = False):
    """XLA's ahead-of-time compilation; the first argument is donated.

    Raises:
        jax.errors.JaxRuntimeError: a kernel spills registers and must not.
    """
    name, config = TARGETS[capability]
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=config, topology="1x1x1"
    )
    sharding = SingleDeviceSharding(topology.devices[0])
    arguments = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), arguments
    )
    run = jax.jit(function, donate_argnums=0)
    lowered = _backend.lower(run, *arguments, device_kind=name)
    flag = "xla_gpu_fail_ptx_compilation_on_register_spilling"
    return lowered.compile(compiler_options={flag: not may_spill})


def size(a) -> int:
    return int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize


def memory_of(compiled) -> dict[str, int]:
    stats = compiled.memory_analysis()
    return {"temp": stats.temp_size_in_bytes, "aliased": stats.alias_size_in_bytes}


WIDTHS = {"f32": 4, "c64": 8}


def trace_passes(compiled, trace_bytes: int) -> float:
    """Bytes of all reads and writes of arrays as large as the trace, or as its real or imaginary
    part, in units of the trace."""
    text = str(compiled.as_text())
    entry = text[text.index("ENTRY") :]
    sizes, moved = {}, 0
    for line in entry.splitlines():
        match = re.match(r"\s*(?:ROOT )?(%\S+) = (.+?) ([a-z-]+)\((.*)", line)
        if not match:
            continue
        name, kind, operation, rest = match.groups()
        arrays = [
            WIDTHS[t] * int(np.prod([int(n) for n in axes.split(",") if n]))
            for t, axes in re.findall(r"(f32|c64)\[([\d,]*)\]", kind)
        ]
        sizes[name] = [a for a in arrays if a in (trace_bytes, trace_bytes // 2)]
        if operation in ("fusion", "copy", "custom-call"):
            operands = set(re.findall(r"%[\w.\-]+", rest.split("), ")[0]))
            moved += sum(sizes[name]) + sum(sum(sizes.get(o, [])) for o in operands)
    return moved / trace_bytes


def check_training_step(capability: int, N: int = 1024, B: int = 16) -> dict:
    """The learner's own step, with the kernel in it: one layer of linear recurrent units."""
    model = rtrl.SequenceModel(
        8, 8, N, 1, lambda size, key: rtrl.cells.LRU(size, N, key=key), key=jax.random.key(0)
    )
    learner = rtrl.OnlineLearner(
        lambda p, y: ((p - y) ** 2).sum(),
        optax.sgd(0.1),
        rule=rtrl.RTRL(implementation="pallas"),
    )
    state, static = eqx.partition(learner.init(model, B), eqx.is_array)

    def step(state, x, y):
        after, out = learner.step(eqx.combine(state, static), x, y)
        return eqx.filter(after, eqx.is_array), out

    inputs = jax.ShapeDtypeStruct((B, 8), np.float32)
    # What spills here are fusions of XLA's own: the kernel is checked alone, above.
    compiled = compile_with_xla(step, (state, inputs, inputs), capability, may_spill=True)
    trace = size(state.carry[0].trace.projections[0])
    kernels = str(compiled.as_text()).count('custom_call_target="__gpu$xla.gpu.triton"')
    row: dict[str, Any] = memory_of(compiled) | {"trace": trace, "kernels": kernels}
    row["ok"] = bool(
        row["kernels"] == 1
        and row["aliased"] >= trace
        and row["temp"] < trace // 2  # gradients, activations, cuBLAS's 32 MiB: no second trace
    )
    return row


def check_memory() -> list[dict]:
    rows = []
    for name, shape in _tiles.LARGE.items():
        arguments = _device.shapes(shape)
        trace, splits = size(arguments[0]), _tiles.choose(shape).splits
        gradient = trace // (shape.B * shape.d)
        for capability in TARGETS:
            row: dict[str, Any] = {"shape": name, "sm": capability, "trace": trace}
            row["partial_gradients"] = splits * gradient if splits > 1 else 0
            for form in ("pallas", "xla"):
                run = partial(diagonal_trace, implementation=form)
                compiled = compile_with_xla(run, arguments, capability, may_spill=form == "xla")
                row[form] = memory_of(compiled)
                row[form]["passes"] = round(trace_passes(compiled, trace), 2)
            kernel = row["pallas"]
            row["ok"] = bool(
                kernel["temp"] <= row["partial_gradients"] + ADDRESS_TABLE
                and kernel["aliased"] == trace
            )
            rows.append(row)
            print(
                f"  {name}, sm_{capability}: temporary {kernel['temp']} bytes, aliased "
                f"{kernel['aliased']} of {trace}, {kernel['passes']} passes over the trace (XLA's "
                f"own form: {row['xla']['passes']}) {'ok' if row['ok'] else 'WRONG'}",
                flush=True,
            )
    return rows
