"""Reading code: carry a classification from the inputs of a jaxpr to its outputs.

A jaxpr is a straight list of equations, so what holds of its outputs for all values of its inputs
can be proven by going through it once. What is proven is up to an `Analysis`; this walk knows how
values pass through calls, branches and loops.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import PyTree


class Analysis(abc.ABC):
    """What is to be proven of values: a class for each, larger ones promising less."""

    #: The class of a value that depends on none of the inputs asked about.
    free: Any = None
    #: Whether derivatives are asked about too, so that a custom one is not to be looked through.
    derivatives_matter: bool = False
    #: How many loops the equation in hand is in.
    looping: int = 0

    @abc.abstractmethod
    def anything(self, classes: Sequence[Any]) -> Any:
        """Give the class of a value of which nothing is known but the classes it is made of."""

    @abc.abstractmethod
    def either(self, a: Any, b: Any) -> Any:
        """Give the class of a value that is of one class or of the other."""

    @abc.abstractmethod
    def apply(self, eqn: JaxprEqn, classes: list[Any]) -> list[Any]:
        """Give the classes of the outputs of a primitive that is no call, branch or loop."""

    def custom(self, eqn: JaxprEqn, classes: list[Any]) -> list[Any]:
        """Give the classes of the outputs of a function with a custom derivative."""
        return [self.anything(classes)] * len(eqn.outvars)

    def stacked(self, c: Any) -> Any:
        """Give the class of values stacked along a new leading axis."""
        return c

    def slice_of(self, c: Any) -> Any:
        """Give the class of the slices along the leading axis."""
        return c


def trace(function: Callable[..., PyTree], *arguments: PyTree) -> ClosedJaxpr:
    """The code of a function, its arguments abstract: their values decide nothing."""
    return jax.make_jaxpr(function)(*arguments)


def classify(code: ClosedJaxpr, classes: Sequence[Any], analysis: Analysis) -> list[Any]:
    """Give the classes of the outputs from those of the inputs."""
    return _walk(code.jaxpr, [analysis.free] * len(code.jaxpr.constvars), classes, analysis)


def _walk(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any], a: Analysis) -> list[Any]:
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return a.free if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, _through(eqn, list(map(read, eqn.invars)), a), strict=True))
    return list(map(read, jaxpr.outvars))


def _through(eqn: JaxprEqn, classes: list[Any], a: Analysis) -> list[Any]:
    if all(c == a.free for c in classes):
        return [a.free] * len(eqn.outvars)
    name, params = eqn.primitive.name, eqn.params
    if name == "cond":
        return _branches(params["branches"], classes, a)
    if name in ("scan", "while"):
        a.looping += 1
        outputs = (_scan if name == "scan" else _while)(params, classes, a)
        a.looping -= 1
        return outputs
    if name.startswith("custom_") and a.derivatives_matter:
        return a.custom(eqn, classes)
    body = params.get("jaxpr", params.get("call_jaxpr"))
    if name in CALLS and body is not None:
        return _body(body, classes, a)
    return a.apply(eqn, classes)


#: Primitives that run a body once, whatever they are there for.
CALLS = {
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call",
    "custom_vjp_call", "custom_vjp_call_jaxpr",
}  # fmt: skip


def _body(body: ClosedJaxpr | Jaxpr, classes: Sequence[Any], a: Analysis) -> list[Any]:
    jaxpr = body.jaxpr if isinstance(body, ClosedJaxpr) else body
    return _walk(jaxpr, [a.free] * len(jaxpr.constvars), classes, a)


def _branches(branches: Sequence[ClosedJaxpr], classes: list[Any], a: Analysis) -> list[Any]:
    which, *operands = classes
    outcomes = [_body(branch, operands, a) for branch in branches]
    joined = outcomes[0]
    for outcome in outcomes[1:]:
        joined = list(map(a.either, joined, outcome))
    # Which branch was taken is a dependence of its own, on top of what the branches say.
    return joined if which == a.free else [a.anything([which, c]) for c in joined]


def _scan(params: dict[str, Any], classes: list[Any], a: Analysis) -> list[Any]:
    first, count = params["num_consts"], params["num_consts"] + params["num_carry"]
    consts, carry, xs = classes[:first], classes[first:count], classes[count:]
    slices = list(map(a.slice_of, xs))
    while True:  # classes only grow, and there are few of them
        after = _body(params["jaxpr"], [*consts, *carry, *slices], a)
        grown = list(map(a.either, carry, after[: len(carry)]))
        if grown == carry:
            return [*carry, *map(a.stacked, after[len(carry) :])]
        carry = grown


def _while(params: dict[str, Any], classes: list[Any], a: Analysis) -> list[Any]:
    before, within = params["cond_nconsts"], params["body_nconsts"]
    to_test, to_body = classes[:before], classes[before : before + within]
    carry = classes[before + within :]
    while True:
        after = _body(params["body_jaxpr"], [*to_body, *carry], a)
        grown = list(map(a.either, carry, after))
        if grown == carry:
            break
        carry = grown
    (goes_on,) = _body(params["cond_jaxpr"], [*to_test, *carry], a)
    return carry if goes_on == a.free else [a.anything([goes_on, c]) for c in carry]
