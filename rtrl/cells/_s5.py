"""The diagonal S5."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import capped
from rtrl.cells._initial import check_sizes, log_uniform, weight
from rtrl.cells._zero_order_hold import hold_gain

# Near the end of float32's range: a state, an input and Delta squared multiply in the derivatives.
RE_LOG, DELTA_LOG = 50.0, 30.0


class S5(Cell):
    """S5: a diagonal state space model, zero-order hold, started from HiPPO-N.

    ::

        h_t = exp(lambda Delta) * h_{t-1} + (exp(lambda Delta) - 1) / lambda * (B x_t)
        lambda = -exp(re_log) + i im,   Delta = exp(delta_log),   B = B_re + i B_im

    The exact solution of ``dh/dt = lambda h + B x`` for an input held constant over Delta.

    Initialisation: lambda are those eigenvalues of the ``2N x 2N`` HiPPO-N matrix with positive
    imaginary part: its spectrum is conjugate pairs, and of each pair the half kept here is all
    that a real readout needs. B is the corresponding half of ``V^* B'``, V the eigenvectors and B'
    real, normal with variance ``1 / H``: then ``|B|^2`` has mean ``1 / H``. Delta is log-uniform in
    ``[delta_min, delta_max]``. A module forgets over about ``2 / Delta`` timesteps.

    One Delta per module, one block of HiPPO. The paper learns Re(lambda) itself; its logarithm
    keeps every module stable. Beyond ``delta_log = 30`` and ``re_log = 50``, near the end of
    float32's range, they change nothing.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` complex, half of the paper's 2N.
        delta_min, delta_max: bounds on the initial step size (continuous time per timestep),
            ``0 < delta_min <= delta_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Smith et al., "Simplified state space layers for sequence modeling" (2023), equations 3
    and 6, section 3.2 and appendix B.1.
    """

    re_log: Float[Array, " N"]
    im: Float[Array, " N"]
    delta_log: Float[Array, " N"]
    B_re: Float[Array, "N H"]
    B_im: Float[Array, "N H"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        delta_min: float = 0.001,
        delta_max: float = 0.1,
        key: PRNGKeyArray,
    ):
        check_sizes(in_size, hidden_size)
        delta_key, weight_key = jax.random.split(key)
        frequencies, V_re, V_im = hippo_n(2 * hidden_size)
        half = frequencies > 0
        real_B = weight(in_size, 2 * hidden_size, key=weight_key)
        self.re_log = jnp.full(hidden_size, jnp.log(0.5))
        self.im = jnp.asarray(frequencies[half])
        self.delta_log = log_uniform(delta_min, delta_max, hidden_size, key=delta_key, name="delta")
        self.B_re = jnp.asarray(V_re.T[half]) @ real_B
        self.B_im = -jnp.asarray(V_im.T[half]) @ real_B

    def project(self) -> Complex[Array, "N H"]:
        return jax.lax.complex(self.B_re, self.B_im)

    def update(self, h: Complex[Array, " N"], u: Complex[Array, " N"]) -> Complex[Array, " N"]:
        eigenvalue = jax.lax.complex(-jnp.exp(capped(self.re_log, RE_LOG)), self.im)
        delta = jnp.exp(capped(self.delta_log, DELTA_LOG))
        return jnp.exp(eigenvalue * delta) * h + hold_gain(eigenvalue, delta) * u


def hippo_n(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues ``-1/2 + i omega`` of the normal part of the HiPPO-LegS matrix.

    It is ``-1/2`` on the diagonal plus a skew-symmetric matrix of entries
    ``sqrt((n + 1/2) (k + 1/2))``. Returns omega, and the real and imaginary parts of the unitary
    matrix whose columns are the eigenvectors.
    """
    root = np.sqrt(np.arange(size) + 0.5)
    skew = np.triu(np.outer(root, root), 1)
    skew = skew - skew.T
    frequencies, V = np.linalg.eigh(-1j * skew)  # Hermitian
    return frequencies, np.real(V), np.imag(V)
