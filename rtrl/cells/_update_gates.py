"""A leaky tanh recurrence under three kinds of gate: constant, shared, one per neuron.

Each comes with one recurrent weight per neuron, or, with ``dense=True``, as published: with a
matrix through which every neuron sees every other.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import check_sizes, dense_weight, hold, log_uniform, weight
from rtrl.validate import require


class ConstGate(Cell):
    """Leaky tanh neurons, one fixed rate for all of them.

    ::

        h_t = (1 - s) * h_{t-1} + s * tanh(W x_t + w * h_{t-1})

    The recurrent weight is one number per neuron: no neuron sees another's state. With
    ``dense=True`` it is a matrix::

        h_t = (1 - s) * h_{t-1} + s * tanh(W x_t + U h_{t-1})

    Initialisation: W normal with variance ``1 / H``, w standard normal, U with variance ``1 / N``.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        gate: s, fixed, ``0 < s <= 1``; a neuron forgets over about ``1 / s`` timesteps.
        dense: whether neurons see each other; then RTRL is not exact.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or a gate out of range.

    Source: arXiv 2512.05790, "ConstGate"; with diagonal recurrent weights unless dense.
    """

    W: Float[Array, "N H"]
    w: Float[Array, " N"] | None
    U: Float[Array, "N N"] | None
    gate: float = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        gate: float = 0.1,
        dense: bool = False,
        key: PRNGKeyArray,
    ):
        require(0 < gate <= 1, "gate", "a rate in (0, 1]", gate)
        W_key, w_key = jax.random.split(key)
        self.W = weight(in_size, hidden_size, key=W_key)
        self.w = None if dense else jax.random.normal(w_key, (hidden_size,))
        self.U = dense_weight(hidden_size, key=w_key) if dense else None
        self.gate = gate

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def recurrent(self) -> Float[Array, "N N"] | None:
        return self.U

    def update(
        self, h: Float[Array, " N"], u: Float[Array, " N"], *from_others: Float[Array, " N"]
    ) -> Float[Array, " N"]:
        (r,) = from_others or (own(self.w, h),)
        return (1 - self.gate) * h + self.gate * jnp.tanh(u + r)


class SharedGate(Cell):
    """Leaky tanh neurons, one rate for all of them that the input decides.

    ::

        s_t = sigmoid(w_s . x_t + b_s)
        h_t = (1 - s_t) * h_{t-1} + s_t * tanh(W x_t + w * h_{t-1})

    The paper's gate also sees every neuron's state, ``u_s . h_{t-1}``: then no two neurons would be
    independent and one number per parameter would not be exact. With ``dense=True`` it does, and
    the recurrent weight is a matrix::

        s_t = sigmoid(w_s . x_t + u_s . h_{t-1} + b_s)
        h_t = (1 - s_t) * h_{t-1} + s_t * tanh(W x_t + U h_{t-1})

    Initialisation: ``1 - sigmoid(b_s) = exp(-1 / tau)``; w_s and W normal with variance ``1 / H``,
    w standard normal, u_s and U with variance ``1 / N``.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau: the initial time constant of all neurons, timesteps, positive.
        dense: whether neurons see each other; then RTRL is not exact.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or a time constant out of range.

    Source: arXiv 2512.05790, "SharedGate"; unless dense gated by the input alone, with diagonal
    recurrent weights.
    """

    w_s: Float[Array, "1 H"]
    u_s: Float[Array, "1 N"] | None
    b_s: Float[Array, ""]
    W: Float[Array, "N H"]
    w: Float[Array, " N"] | None
    U: Float[Array, "N N"] | None

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau: float = 10.0,
        dense: bool = False,
        key: PRNGKeyArray,
    ):
        check_sizes(in_size, hidden_size)
        require(tau > 0, "tau", "a positive number of timesteps", tau)
        s_key, W_key, w_key = jax.random.split(key, 3)
        self.w_s = weight(in_size, 1, key=s_key)
        self.b_s = -hold(jnp.log(jnp.asarray(float(tau))))
        self.W = weight(in_size, hidden_size, key=W_key)
        self.w = None if dense else jax.random.normal(w_key, (hidden_size,))
        self.u_s = weight(hidden_size, 1, key=jax.random.fold_in(s_key, 1)) if dense else None
        self.U = dense_weight(hidden_size, key=w_key) if dense else None

    def project(self) -> tuple[Float[Array, "1 H"], Float[Array, "N H"]]:
        return self.w_s, self.W

    def recurrent(self) -> tuple[Float[Array, "1 N"], Float[Array, "N N"]] | None:
        return None if self.u_s is None or self.U is None else (self.u_s, self.U)

    def update(
        self, h: Float[Array, " N"], u: tuple[Array, Array], *from_others: tuple[Array, Array]
    ) -> Float[Array, " N"]:
        ((r_s, r),) = from_others or ((0, own(self.w, h)),)
        s = jax.nn.sigmoid(u[0] + r_s + self.b_s)
        return (1 - s) * h + s * jnp.tanh(u[1] + r)


class DiagGate(Cell):
    """Leaky tanh neurons, each with a rate that the input and its own state decide.

    ::

        s_t = sigmoid(W_s x_t + w_s * h_{t-1} + b_s)
        h_t = (1 - s_t) * h_{t-1} + s_t * tanh(W x_t + w * h_{t-1})

    Recurrent weights are one number per neuron: no neuron sees another's state. With
    ``dense=True`` they are matrices::

        s_t = sigmoid(W_s x_t + U_s h_{t-1} + b_s)
        h_t = (1 - s_t) * h_{t-1} + s_t * tanh(W x_t + U h_{t-1})

    Initialisation: ``1 - sigmoid(b_s) = exp(-1 / tau)``, tau log-uniform in ``[tau_min, tau_max]``
    (timesteps); W_s and W normal with variance ``1 / H``, w_s and w standard normal, U_s and U with
    variance ``1 / N``.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        dense: whether neurons see each other; then RTRL is not exact.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: arXiv 2512.05790, "DiagGate"; with diagonal recurrent weights unless dense.
    """

    W_s: Float[Array, "N H"]
    w_s: Float[Array, " N"] | None
    U_s: Float[Array, "N N"] | None
    b_s: Float[Array, " N"]
    W: Float[Array, "N H"]
    w: Float[Array, " N"] | None
    U: Float[Array, "N N"] | None

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        dense: bool = False,
        key: PRNGKeyArray,
    ):
        s_key, W_key, w_key, tau_key = jax.random.split(key, 4)
        self.W_s = weight(in_size, hidden_size, key=s_key)
        self.W = weight(in_size, hidden_size, key=W_key)
        self.w_s, self.w = (None, None) if dense else jax.random.normal(w_key, (2, hidden_size))
        self.U_s = dense_weight(hidden_size, key=s_key) if dense else None
        self.U = dense_weight(hidden_size, key=w_key) if dense else None
        self.b_s = -hold(log_uniform(tau_min, tau_max, hidden_size, key=tau_key))

    def project(self) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
        return self.W_s, self.W

    def recurrent(self) -> tuple[Float[Array, "N N"], Float[Array, "N N"]] | None:
        return None if self.U_s is None or self.U is None else (self.U_s, self.U)

    def update(
        self, h: Float[Array, " N"], u: tuple[Array, Array], *from_others: tuple[Array, Array]
    ) -> Float[Array, " N"]:
        ((r_s, r),) = from_others or ((own(self.w_s, h), own(self.w, h)),)
        s = jax.nn.sigmoid(u[0] + r_s + self.b_s)
        return (1 - s) * h + s * jnp.tanh(u[1] + r)


def own(w: Float[Array, " N"] | None, h: Float[Array, " N"]) -> Float[Array, " N"]:
    """The recurrent input of a neuron that sees its own state alone."""
    assert w is not None  # a dense cell is handed its recurrent input
    return w * h
