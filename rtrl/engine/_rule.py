"""What a learning rule has to say to the engine."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree

from rtrl.cells import Cell
from rtrl.engine._carry import is_carry
from rtrl.engine._deferred import defer, settle
from rtrl.engine._once import check_once
from rtrl.engine._partials import Partials
from rtrl.engine._trace import Gradients
from rtrl.validate import require

Run = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
Pull = Callable[[PyTree], tuple[PyTree, PyTree]]


class Rule(eqx.Module):
    """A learning rule: how errors and sensitivities are combined into a gradient.

    Under a `LocalRule` the derivative of `recur` is made of the rule's choices; under any other
    the recurrence is ordinary differentiable code. The learner and `sequence_gradient` ask the
    rule to differentiate a whole chunk.
    """

    #: Whether its natural chunk is the whole sequence, so that it can't take single steps.
    whole_sequence: ClassVar[bool] = False

    @abc.abstractmethod
    def label(self, chunk: int | None = None) -> str:
        """Name the rule as it acts.

        Args:
            chunk: timesteps per chunk; ``None`` for the whole sequence.
        """

    def reaches_back(self) -> bool:
        """Say whether errors travel back in time through all layers, so that chunks may overlap."""
        return True

    def init_trace(self, cell: Any, parameters: int, batch_size: int | None) -> PyTree[Array]:
        """Give the trace before the first timestep, ``None`` for a rule without one.

        Args:
            cell: the cell whose trace it is.
            parameters: how many numbers the tree that holds the cell can learn.
            batch_size: samples, or ``None`` for no batch axis.
        """
        return None

    @classmethod
    def misfit(cls, cell: Cell) -> str | None:
        """Say why a cell can't be learned by this rule, ``None`` if it can.

        Args:
            cell: any cell.
        """
        return None

    def differentiate(
        self, run: Run, params: PyTree, carry: PyTree, *, once: bool = False
    ) -> tuple[PyTree, Pull]:
        """Run a chunk and prepare its gradient.

        Args:
            run: ``(params, carry) -> (predictions, carry)``.
            params: the network's floating-point leaves.
            carry: what it carries before the chunk.
            once: whether ``run`` calls `recur` exactly once per cell and hands on what that gives,
                so that traces may advance in the backward pass.

        Returns the predictions, and a function from the error of each prediction to the gradient
        of the parameters and the new carry. By default reverse mode through this chunk alone.
        """
        predictions, pullback, carry = jax.vjp(lambda p: run(p, carry), params, has_aux=True)
        return predictions, lambda errors: (pullback(errors)[0], carry)


class LocalRule(Rule):
    """A rule that combines each layer's own trace with its own error.

    ``s_t = (decay) s_{t-1} + immediate``, gradient ``= sum_t error_t s_t``.
    """

    #: What `init_trace` gives.
    trace_type: ClassVar[type]
    #: Whether J and E see the previous state, or the recurrent term counts as a constant.
    sees_state: ClassVar[bool] = True

    @abc.abstractmethod
    def local(
        self, trace: Any, partials: Partials, deltas: Inexact[Array, "K B d N"]
    ) -> tuple[Gradients, Any, Inexact[Array, "K B d N"]]:
        """The local phase of a chunk, with a batch axis always.

        Args:
            trace: before the chunk, as `init_trace` gives it.
            partials: the one-step derivatives of the chunk's timesteps.
            deltas: errors of the states, by spatial backpropagation.

        Returns the gradients of this chunk's loss, the trace after the chunk (which must not depend
        on ``deltas``), and the errors to be sent to the layers below.
        """

    def consume(
        self, trace: Any, partials: Partials, deltas: Inexact[Array, "K B d N"]
    ) -> tuple[Gradients, Any, Inexact[Array, "K B d N"]]:
        """Give what `local` gives, where nothing else reads the trace: its memory may be reused.

        Args:
            trace: before the chunk; gone afterwards.
            partials: as for `local`.
            deltas: as for `local`.
        """
        return self.local(trace, partials, deltas)

    def reaches_back(self) -> bool:
        return False

    def over_window(
        self,
        trace: Any,
        partials: Partials,
        deltas: Inexact[Array, "L B d N"],
        *,
        advance: int,
        consume: bool = False,
    ) -> tuple[Gradients, Any, Inexact[Array, "L B d N"]]:
        """The local phase of a window: a chunk whose trace advances by its beginning alone.

        Only for rules that reach back.

        Args:
            trace: before the window.
            partials: as for `local`.
            deltas: as for `local`.
            advance: timesteps that the trace advances by, fewer than there are.
            consume: whether nothing else reads the trace, as for `consume`.

        Returns what `local` does, the trace that after ``advance`` timesteps.

        Raises:
            NotImplementedError: the rule does not reach back.
        """
        raise NotImplementedError(f"{type(self).__name__} does not reach back in time.")

    def differentiate(
        self, run: Run, params: PyTree, carry: PyTree, *, once: bool = False
    ) -> tuple[PyTree, Pull]:
        if not once:
            return super().differentiate(run, params, carry)
        check_once(run, params, carry)
        traces, rest = defer(carry)

        def forward(params, traces):
            predictions, after = run(params, eqx.combine(traces, rest))
            # `after` is auxiliary and so not differentiated; its states are, and must be outputs.
            states = [c.state for c in jax.tree.leaves(after, is_leaf=is_carry)]
            return (predictions, states), after

        (predictions, states), pullback, after = jax.vjp(forward, params, traces, has_aux=True)

        def pull(errors):
            # The states are there for the backward pass to meet every cell, and so advance its
            # trace, also where the predictions do not depend on it.
            grads, traces = pullback((errors, jax.tree.map(jnp.zeros_like, states)))
            return grads, settle(after, traces)

        return predictions, pull

    def label(self, chunk: int | None = None) -> str:
        return type(self).__name__


def check_rule(rule: Any) -> None:
    """Raise a `ValueError` unless ``rule`` is a rule (not its class or its name)."""
    require(isinstance(rule, Rule), "rule", "a rule such as rtrl.RTRL() or rtrl.BPTT()", rule)


def check_fit(rule: Rule, cell: Cell) -> None:
    """Raise a `ValueError` that names rules that fit, if ``rule`` can't learn ``cell``."""
    reason = rule.misfit(cell)
    if reason is not None:
        fitting = [kind.__name__ for kind in _kinds(Rule) if kind.misfit(cell) is None]
        raise ValueError(
            f"rule: {type(rule).__name__} does not fit {type(cell).__name__}: {reason}. "
            f"Rules that fit: {', '.join(fitting)}."
        )


def _kinds(base: type[Rule]) -> list[type[Rule]]:
    """Every rule that has been defined, the user's own among them; private ones aside."""
    kinds = [] if inspect.isabstract(base) or base.__name__[0] == "_" else [base]
    for kind in base.__subclasses__():
        kinds += _kinds(kind)
    return kinds
