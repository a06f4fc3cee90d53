"""Spatial backpropagation."""

from typing import ClassVar

from jaxtyping import Array

from rtrl.engine import Gradients, LocalRule, Partials, without_trace


class Spatial(LocalRule):
    """Spatial backpropagation: the recurrent term counts as a constant of the timestep.

    ::

        s_t = E(0, u_t)    where D does not depend on the state, as in the LRU;  E_t otherwise

    Parameters of the decay learn nothing in a linear cell. Where D depends on the state there is
    no recurrent term to split off, and the rule equals `Truncated`. Memory: none. Time: that of a
    memoryless network. Bias: all credit through the recurrence is lost.

    Source: Zucchet et al. (2023), section 4.1 ("spatial").
    """

    trace_type: ClassVar[type] = type(None)
    sees_state: ClassVar[bool] = False

    def local(
        self, trace: None, partials: Partials, deltas: Array
    ) -> tuple[Gradients, None, Array]:
        # The engine took J and E at rest (`sees_state`): with them this is `Truncated`'s sum.
        return without_trace(partials, deltas), None, deltas
