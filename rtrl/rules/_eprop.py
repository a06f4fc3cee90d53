"""e-prop, and RFLO for rate neurons."""

from jaxtyping import Array

from rtrl.engine import Partials
from rtrl.rules._diagonal import DiagonalRule


class EProp(DiagonalRule):
    """e-prop: eligibility traces that ignore the recurrent weights. RFLO for rate neurons.

    ::

        s_t = D_t s_{t-1} + E_t,   D_t = dh_t/dh_{t-1} with the recurrent input v_t held fixed

    Equals `RTRL`, which is exact, for independent modules, and `Truncated` for a cell that depends
    on its past through recurrent weights alone, such as `VanillaRNN` (RFLO needs leaky neurons,
    such as ``ConstGate(dense=True)``). Bias: all credit that passes through a recurrent weight is
    lost.

    The errors are those of symmetric weights; with `random_feedback` they are e-prop's random ones.
    The paper's eligibility ignores that a spike resets the membrane: ``LIF(detach_reset=True)``.

    Memory per sample: as much as the layer's parameters, N (N + H) numbers for an N x H and an
    N x N weight. Time per timestep: O(N (N + H)), BPTT's and one pass over the trace.

    Args:
        errors: as in `RTRL`: ``"chunk"`` or ``"timestep"``. Inside a chunk errors travel back by D.
        implementation: as in `RTRL`.

    Raises:
        ValueError: an argument is none of these.

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking
    neurons" (2020), equations 13-14; Murray, "Local online learning in recurrent networks with
    random feedback" (2019), equation 3 (RFLO).
    """

    def decay(self, partials: Partials) -> Array:
        # D is taken with v held fixed, so it is e-prop's as it comes.
        return partials.D
