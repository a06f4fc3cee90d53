"""How far back does credit reach? A gradient taken apart by the lag from cause to error."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rtrl.analysis._recording import Record, propagate_back
from rtrl.cells import Cell
from rtrl.engine import Modules


@eqx.filter_jit
def gradient_by_lag(
    cell: Cell, record: Record, lags: int
) -> tuple[Float[Array, " lags"], Float[Array, " lags"]]:
    """Split the gradient of a cell's parameters by the time between a cause and its error.

    ::

        G = sum over t, l of (dh_t/dh_{t-l})^T delta_t  times  dh_{t-l}/dparameters = sum_l G_l
        share_l = <G_l, G> / <G, G>,    size_l = |G_l|

    The shares of all lags add up to 1; lags that are left out (the window is the longest there is)
    are missing from the sum.

    Args:
        cell: the cell.
        record: of this cell, with errors.
        lags: how many lags, from 0.

    Returns the shares and the sizes, ``(lags,)`` each.

    Source: the sum over t of equation 3.4 in Zucchet's thesis, ordered by t - t'.
    """
    p, m = record.partials, Modules(cell)
    weights = (*m.weights(), *m.recurrent())
    assert record.errors is not None
    before = jnp.zeros_like(record.errors[:1])

    def part(errors: Array) -> Array:
        """The gradient of errors that have arrived at the states of their causes, flat."""
        pieces = []
        for J, x, w in zip(p.J, p.inputs, weights, strict=True):
            if x is not None:
                g = jnp.einsum("kbn,kbh->nh", (J * errors).sum(2), x).ravel()
                # A complex weight is two real parameters, any other has a real gradient.
                pieces += [g.real, g.imag] if jnp.iscomplexobj(w) else [g.real]
        pieces += [(E * errors).sum((0, 1, 2)).real for E in p.E.values()]
        return jnp.concatenate(pieces)

    def back(errors, _):
        earlier = propagate_back(p, errors)
        if p.resets is not None:
            earlier = jnp.where(p.resets[..., None, None], 0, earlier)
        return jnp.concatenate([earlier[1:], before]), part(errors)

    length = len(record.errors)
    _, by_lag = jax.lax.scan(back, record.errors, None, length=min(lags, length))
    rest = record.errors
    total = by_lag.sum(0)
    if lags < length:  # the whole gradient, whatever is shown of it

        def step(state, _):
            errors, total = state
            errors, piece = back(errors, None)
            return (errors, total + piece), None

        zero = jnp.zeros_like(total)
        (_, total), _ = jax.lax.scan(step, (rest, zero), None, length=length)
    square = jnp.vdot(total, total)
    shares = by_lag @ total / jnp.where(square == 0, 1, square)
    return shares, jnp.linalg.norm(by_lag, axis=1)
