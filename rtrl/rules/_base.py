"""What a learning rule has to say to the engine."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from rtrl._validate import require


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
        """Name the rule as it acts in chunks of ``chunk`` timesteps (``None``: whole sequence)."""

    def init_trace(self, cell: Any, parameters: int, batch_size: int | None) -> PyTree[Array]:
        """Give the trace before the first timestep, ``None`` for a rule without one.

        Args:
            cell: the cell whose trace it is.
            parameters: how many numbers the tree that holds the cell can learn.
            batch_size: samples, or ``None`` for no batch axis.
        """
        return None

    def differentiate(
        self, run: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], params: PyTree, carry: PyTree
    ) -> tuple[PyTree, PyTree, Callable[[PyTree], PyTree]]:
        """Run a chunk and prepare its gradient.

        Args:
            run: ``(params, carry) -> (predictions, carry)``.

        Returns the predictions, the new carry, and a function from the error of each prediction
        to the gradient of the parameters. By default reverse mode through this chunk alone.
        """
        predictions, pullback, carry = jax.vjp(lambda p: run(p, carry), params, has_aux=True)
        return predictions, carry, lambda errors: pullback(errors)[0]


class LocalRule(Rule):
    """A rule that combines each layer's own trace with its own error: a choice in one recursion.

    ``s_t = decay s_{t-1} + immediate``, gradient ``= sum_t error_t s_t``.
    """

    #: Whether the trace decays by D (a rule without one forgets at once and carries nothing).
    keeps_trace: ClassVar[bool]
    #: Whether J and E see the previous state, or the recurrent term counts as a constant.
    sees_state: ClassVar[bool]

    @property
    def chunk_errors(self) -> bool:
        """Whether errors also travel back in time inside a chunk on their way to lower layers."""
        return False

    def label(self, chunk: int | None = None) -> str:
        return type(self).__name__


ErrorPath = Literal["chunk", "timestep"]


def check_errors(errors: str) -> None:
    require(errors in ("chunk", "timestep"), "errors", "'chunk' or 'timestep'", errors)


def check_rule(rule: Any) -> None:
    """Raise a `ValueError` unless ``rule`` is a rule (not its class or its name)."""
    require(isinstance(rule, Rule), "rule", "a rule such as rtrl.RTRL() or rtrl.BPTT()", rule)
