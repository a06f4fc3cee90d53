"""SnAp-1: the diagonal of the full Jacobian."""

from jaxtyping import Array

from rtrl.engine import Partials
from rtrl.rules._diagonal import DiagonalRule


class SnAp1(DiagonalRule):
    """SnAp-1: a sparse trace of what a parameter does to its own module, directly or around a loop.

    ::

        s_t = diag(dh_t/dh_{t-1}) s_{t-1} + E_t
        diag(dh_t/dh_{t-1}) = D_t + sum over U of J^U_t * diag(U) * slope,  slope = doutput/dh_{t-1}

    with d numbers per module the diagonal is one of d x d blocks. Equals `RTRL`, which is exact,
    for independent modules. Bias: what a parameter does to its module by way of other modules is
    lost.

    Memory per sample: as much as the layer's parameters, N (N + H) numbers for an N x H and an
    N x N weight. Time per timestep: O(N (N + H)), BPTT's and one pass over the trace.

    Args:
        errors: as in `RTRL`: ``"chunk"`` or ``"timestep"``. Inside a chunk errors travel back by
            the same diagonal.
        implementation: as in `RTRL`.

    Raises:
        ValueError: an argument is none of these.

    Source: Menick et al., "Practical real time recurrent learning with a sparse approximation"
    (2021), section 3, n = 1.
    """

    def decay(self, partials: Partials) -> Array:
        return self_dependence(partials)


def self_dependence(partials: Partials) -> Array:
    """The diagonal of dh_t/dh_{t-1}, ``(..., d, d, N)``."""
    D = partials.D
    if partials.slope is None:  # no module sees another
        return D
    for U, J in zip(partials.recurrent, partials.J[partials.first_recurrent :], strict=True):
        # A row that all modules share reaches module n from module n by its n-th entry.
        diagonal = U[0] if U.shape[0] == 1 else U.diagonal()
        # An outer product per module, (d, 1, N) by (1, d, N): v is one number, the state d.
        D = D + (J * diagonal)[..., :, None, :] * partials.slope[..., None, :, :]
    return D
