"""From a jaxpr to a graph: calls are entered, choices made early, complex numbers taken apart."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from rtrl.device._complex import Pair, Value
from rtrl.device._control import CONTROL
from rtrl.device._elementwise import apply
from rtrl.device._graph import Graph
from rtrl.device._origin import Origin, origin_of, user_of
from rtrl.device._refused import Refused
from rtrl.device._shapes import kind_of

#: Primitives that give what they take.
SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "pvary"}
#: Primitives that hold a program of their own, and where.
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_BORROWED = ("jit", "pjit", "custom_jvp_call")
OURS = ("advance_one", "predict_one", "look_ahead")  # compiled functions of this library


def walk(
    g: Graph, closed: Any, arguments: Sequence[Value], caller: Origin | None = None
) -> list[Value]:
    """The outputs of a closed jaxpr as nodes; ``caller``: whose it is, if it is not its own.

    What has no form in C is a `Refused`, and so is all that is made of it: what an output needs it
    for is refused by `accept`.
    """
    constants = [constant(g, c) for c in closed.consts]
    return _run(g, closed.jaxpr, [*constants, *arguments], caller)


def constant(g: Graph, value: Any) -> Value:
    if jnp.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.prng_key):
        return _KEY  # nothing that is exported may look at it
    value = np.asarray(value)
    if np.iscomplexobj(value):
        return Pair(g.array(value.real, "float"), g.array(value.imag, "float"))
    if value.dtype == jax.dtypes.float0:
        return g.const(0, "bool")
    kind = kind_of(value)
    return g.array(value.view(np.uint16) if value.dtype.name == "bfloat16" else value, kind)


_KEY: Any = object()  # a key of random numbers


def _run(
    g: Graph, jaxpr: Any, arguments: Sequence[Value], caller: Origin | None = None
) -> list[Value]:
    values: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], arguments, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            aval: Any = atom.aval
            return constant(g, np.asarray(atom.val, aval.dtype))
        return values[atom]

    for eqn in jaxpr.eqns:
        g.origin = caller or origin_of(eqn)
        outs = _equation(g, eqn, [read(a) for a in eqn.invars])
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _equation(g: Graph, eqn: Any, operands: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    outs: list[Any] = [v.aval for v in eqn.outvars]
    try:
        if name in SAME:
            return list(operands)
        if name in CONTROL:
            return CONTROL[name](g, eqn, operands, walk)
        for call in CALLS:
            if call in eqn.params:
                # A function of JAX's own is traced once, wherever it is called from.
                borrowed = str(eqn.params.get("name", "")) not in OURS and name in _BORROWED
                caller = g.origin if borrowed else None
                inner = eqn.params[call]
                if isinstance(inner, core.ClosedJaxpr):
                    return walk(g, inner, operands, caller)
                return _run(g, inner, operands, caller)
        for o in operands:
            if isinstance(o, Refused):
                return [o] * len(outs)
        if any(o is _KEY for o in operands):
            if all(jnp.issubdtype(v.dtype, jax.dtypes.prng_key) for v in outs):
                return [_KEY] * len(outs)
            raise NotImplementedError("(random numbers)")
        result = apply(g, eqn, name, operands)
    except NotImplementedError as error:
        reason = f" {error}" if str(error) else ""
        refused = Refused(f"the primitive {name}{reason}, used by {user_of(g.origin)}")
        return [refused] * len(outs)
    results = list(result) if type(result) is list else [result]
    for value in results:
        if isinstance(value, Pair):
            value.re.part, value.im.part = value.re.part or "re", value.im.part or "im"
    return results
