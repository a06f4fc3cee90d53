"""Real-time recurrent learning of independent modules."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from rtrl._modules import Modules
from rtrl._trace import Trace
from rtrl.rules._base import ErrorPath, LocalRule, check_errors


class RTRL(LocalRule):
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

    Raises:
        ValueError: ``errors`` is neither.

    Source: Zucchet et al. (2023), equations B.5-B.10 and section 3.3.
    """

    errors: ErrorPath = "chunk"

    keeps_trace: ClassVar[bool] = True
    sees_state: ClassVar[bool] = True

    def __check_init__(self):
        check_errors(self.errors)

    @property
    def chunk_errors(self) -> bool:
        return self.errors == "chunk"

    def label(self, chunk: int | None = None) -> str:
        if chunk == 1:
            return "RTRL"
        return f"RTRL, {self.errors} errors"

    def init_trace(self, cell, parameters: int, batch_size: int | None) -> Trace:
        modules = Modules(cell)
        batch = () if batch_size is None else (batch_size,)
        d, n = modules.initial.shape

        def zeros(*shape: int) -> Array:
            return jnp.zeros((*batch, d, n, *shape), modules.dtype)

        return Trace(
            tuple(None if w is None else zeros(w.shape[1]) for w in modules.weights()),
            {modules.names[i]: zeros() for i in modules.module_leaves},
        )
