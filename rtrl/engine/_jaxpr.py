"""Reading a program: what can be proven of every value, carried through the code that makes it.

A jaxpr is the list of all operations that a function does to abstract arrays, so what is shown of
it holds for all values of them. A `Property` says what each operation makes of what is known of its
arguments; here it is carried through calls, branches and loops. Where a program may go one way or
another, only what holds both ways is kept; a loop is read until nothing new is learned, after which
it holds for any number of rounds. There are finitely many things to know, each reading only knows
less, so that ends.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from jax.extend.core import Jaxpr, Literal

P = TypeVar("P")

#: Operations that run a program as it is, and the parameter that holds it.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "remat2": "jaxpr", "remat": "jaxpr", "checkpoint": "jaxpr",
}  # fmt: skip
#: Operations whose value is that of a program, but whose derivative is somebody's choice.
CUSTOM = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


class Property(Protocol[P]):
    """What may be known of a value."""

    #: Whether it speaks of values alone: then a custom derivative does not matter.
    of_values: bool

    def constant(self, value: Any, /) -> P:
        """What is known of a value that depends on no argument; it is None if not at hand."""
        ...

    def either(self, a: P, b: P, /) -> P:
        """What is known of a value that is one or the other."""
        ...

    def chosen(self, by: P, value: P, /) -> P:
        """What is known of a value that another one chose."""
        ...

    def item(self, stacked: P, /) -> P:
        """What is known of the items of an array along its first axis."""
        ...

    def stack(self, item: P, /) -> P:
        """What is known of an array of such items."""
        ...

    def apply(self, eqn: Any, inputs: list[P], /) -> list[P]:
        """What is known of the results of an operation; it must allow for any it does not know."""
        ...


def read(
    known: Property[P], jaxpr: Jaxpr, inputs: Sequence[P], constants: Sequence[Any] = ()
) -> list[P]:
    """Give what is known of a program's results from what is known of its arguments.

    Args:
        known: what may be known.
        jaxpr: the program.
        inputs: what is known of each of its arguments.
        constants: the values that it has at hand, if they are.
    """
    values: dict[Any, P] = dict.fromkeys(jaxpr.constvars, known.constant(None))
    values |= zip(jaxpr.constvars, map(known.constant, constants), strict=False)
    values |= zip(jaxpr.invars, inputs, strict=True)

    def look_up(atom) -> P:
        return known.constant(atom.val) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        results = _results(known, eqn, [look_up(atom) for atom in eqn.invars])
        values |= zip(eqn.outvars, results, strict=True)
    return [look_up(atom) for atom in jaxpr.outvars]


def called(eqn: Any) -> Jaxpr | None:
    """The program that an operation runs as it is, if that is what it does."""
    key = CALLS.get(eqn.primitive.name)
    return None if key is None else program(eqn.params[key])


def program(jaxpr: Any) -> Jaxpr:
    """A jaxpr without its constants, about which nothing is assumed."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def subprograms(eqn: Any) -> Iterator[Jaxpr]:
    """Every program that an operation holds."""
    for value in eqn.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(program(part), Jaxpr):
                yield program(part)


def acts(eqn: Any) -> bool:
    """Whether an operation's results may come from elsewhere than its arguments: memory, the host.

    One without results, such as printing, hands nothing on.
    """
    atoms = (*eqn.invars, *eqn.outvars)
    return bool(eqn.effects and eqn.outvars) or any(
        hasattr(atom.aval, "inner_aval") for atom in atoms
    )


def is_pure(jaxpr: Jaxpr) -> bool:
    """Whether a program's results come from nothing but its arguments.

    An operation that runs a program has the effects of that program.
    """
    return not any(map(acts, jaxpr.eqns))


def _results(known: Property[P], eqn: Any, inputs: list[P]) -> list[P]:
    name, params = eqn.primitive.name, eqn.params
    if (jaxpr := called(eqn)) is not None:
        return read(known, jaxpr, inputs)
    if name in CUSTOM and known.of_values:
        return read(known, program(params[CUSTOM[name]]), inputs)
    if name == "cond":
        index, *operands = inputs
        branches = [read(known, program(branch), operands) for branch in params["branches"]]
        results = branches[0]
        for branch in branches[1:]:
            results = [known.either(a, b) for a, b in zip(results, branch, strict=True)]
        return [known.chosen(index, result) for result in results]
    if name == "while":
        return _while(known, params, inputs)
    if name == "scan":
        return _scan(known, eqn, inputs)
    return known.apply(eqn, inputs)


def _while(known: Property[P], params: dict[str, Any], inputs: list[P]) -> list[P]:
    of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
    test_inputs = inputs[:of_test]
    body_inputs, carry = inputs[of_test : of_test + of_body], inputs[of_test + of_body :]
    while True:
        after = read(known, program(params["body_jaxpr"]), [*body_inputs, *carry])
        (test,) = read(known, program(params["cond_jaxpr"]), [*test_inputs, *carry])
        after = [known.chosen(test, known.either(a, b)) for a, b in zip(carry, after, strict=True)]
        if after == carry:
            return carry
        carry = after


def scan_layout(eqn: Any) -> tuple[int, int]:
    """How many arguments of a `jax.lax.scan` stay the same, and how many are carried.

    By their axes, as versions of JAX say it in different ways: what is stacked has one more than
    the program of one round sees.
    """
    body = program(eqn.params["jaxpr"])

    def alike(outside, inside):
        return sum(a.aval.ndim == b.aval.ndim for a, b in zip(outside, inside, strict=True))

    carries = alike(eqn.outvars, body.outvars)
    return alike(eqn.invars, body.invars) - carries, carries


def _scan(known: Property[P], eqn: Any, inputs: list[P]) -> list[P]:
    consts, carries = scan_layout(eqn)
    same, carry = inputs[:consts], inputs[consts : consts + carries]
    items = [known.item(x) for x in inputs[consts + carries :]]
    while True:
        results = read(known, program(eqn.params["jaxpr"]), [*same, *carry, *items])
        after = [known.either(a, b) for a, b in zip(carry, results, strict=False)]
        if after == carry:
            return [*carry, *(known.stack(y) for y in results[carries:])]
        carry = after
