"""One-step truncation."""

from typing import ClassVar

from jaxtyping import Array

from rtrl.engine import Gradients, LocalRule, Partials, without_trace


class Truncated(LocalRule):
    """Online learning without a trace: the gradient of one update of the state.

    ::

        s_t = E_t    with h_{t-1} an input of the timestep like any other

    Carries no trace, so it learns how the present input and the state it finds make the present
    state, never what to remember. Memory: none. Time: that of a forward and backward pass of a
    memoryless network. Bias: all credit older than one timestep is lost.

    Source: Zucchet et al. (2023), section 4.1 ("1-step truncated").
    """

    trace_type: ClassVar[type] = type(None)

    def local(
        self, trace: None, partials: Partials, deltas: Array
    ) -> tuple[Gradients, None, Array]:
        # The errors as they came and not e_k: none travels back, not even inside a chunk.
        return without_trace(partials, deltas), None, deltas
