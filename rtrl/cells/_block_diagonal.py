"""A linear recurrence of small dense blocks."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import check_sizes
from rtrl.validate import require


class BlockDiagonal(Cell):
    """Linear recurrence whose modules are blocks of b numbers, a full ``b x b`` matrix each.

    ::

        h_t = A h_{t-1} + W x_t          A block diagonal, N blocks of b x b

    One trace number per parameter and state number of its module: ``b`` times those of the
    parameters, so that RTRL stays exact at ``b`` times the cost of a diagonal recurrence. b = 1 is
    a diagonal one, N = 1 a dense one.

    Initialisation: every block is ``r Q``, Q a random rotation or reflection and r^2 uniform in
    ``[r_min^2, r_max^2]``: all eigenvalues of the block have modulus r. W normal with variance
    ``(1 - r^2) / H``. Nothing keeps ``|eigenvalues| < 1`` as A is learned.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state and the output are b arrays ``(N,)`` real.
        block_size: b, numbers per module.
        r_min, r_max: bounds on the initial modulus, ``0 <= r_min <= r_max <= 1``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: block-diagonal recurrences as in Zucchet et al. (2023), section 3.1 (modules of several
    numbers); the cost of their traces as in Irie et al., "Exploring the promise and limits of
    real-time recurrent learning" (2024), section 3.
    """

    A: tuple[tuple[Float[Array, " N"], ...], ...]  # rows of the block, columns within
    W: tuple[Float[Array, "N H"], ...]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        block_size: int = 2,
        r_min: float = 0.0,
        r_max: float = 1.0,
        key: PRNGKeyArray,
    ):
        check_sizes(in_size, hidden_size)
        b = block_size
        require(b >= 1, "block_size", "at least 1", b)
        require(0 <= r_min <= 1, "r_min", "a modulus between 0 and 1", r_min)
        require(r_min <= r_max <= 1, "r_max", f"a modulus between r_min = {r_min} and 1", r_max)
        radius_key, block_key, weight_key = jax.random.split(key, 3)
        squared = jax.random.uniform(radius_key, (hidden_size,), minval=r_min**2, maxval=r_max**2)
        r = jnp.sqrt(squared)
        blocks = r[:, None, None] * jax.random.orthogonal(block_key, b, (hidden_size,))
        W = jax.random.normal(weight_key, (b, hidden_size, in_size)) / math.sqrt(in_size)
        W = W * jnp.sqrt(1 - squared)[:, None]
        self.A = tuple(tuple(blocks[:, i, j] for j in range(b)) for i in range(b))
        self.W = tuple(W)

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W

    def initial(self) -> tuple[Float[Array, " N"], ...]:
        return tuple(jnp.zeros_like(row[0]) for row in self.A)

    def update(self, h, u):
        return tuple(
            sum((a * h_j for a, h_j in zip(row, h, strict=True)), start=u_i)
            for row, u_i in zip(self.A, u, strict=True)
        )
