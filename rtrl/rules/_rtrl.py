"""Real-time recurrent learning of independent modules."""

from jaxtyping import Array

from rtrl.cells import Cell, is_dense
from rtrl.engine import Partials
from rtrl.rules._diagonal import DiagonalRule


class RTRL(DiagonalRule):
    """Real-time recurrent learning: the exact trace of every layer, errors of the present.

    ::

        s_t = D_t s_{t-1} + E_t,   dl/dtheta = sum_t delta_t s_t

    Exact (the BPTT gradient) for one recurrent layer, and always for the last one. In a stack the
    error ``delta_t`` of a lower layer ignores how its state reaches later losses through the
    layers above; with ``errors="chunk"`` that holds only beyond the end of the chunk, and a chunk
    of the whole sequence is exact in every layer. Bias: lower layers miss credit that outlives a
    chunk in the layers above.

    Memory per sample: as much as the layer's parameters, N x H numbers (complex: twice as many).
    Time per chunk of K timesteps: BPTT's, one GEMM more and one pass over the trace.

    Args:
        errors: the path of errors to the layers below. ``"timestep"``: the paper's, through the
            same timestep only. ``"chunk"``: also back in time inside a chunk; the same in chunks
            of one timestep.
        implementation: of the trace's update: ``None`` for the fused kernel on a GPU where it works
            and pays and XLA everywhere else; or ``"xla"``, ``"pallas"``, ``"pallas_interpret"``.

    Raises:
        ValueError: an argument is none of these; later, the modules of a cell see each other.

    Source: Zucchet et al. (2023), equations B.5-B.10 and section 3.3.
    """

    def decay(self, partials: Partials) -> Array:
        # Nothing else reaches a module's state: its own D is its whole Jacobian.
        return partials.D

    @classmethod
    def misfit(cls, cell: Cell) -> str | None:
        if not is_dense(cell):
            return None
        return "its modules see each other, and a trace of one number per parameter can't be exact"
