"""Square roots of covariances: S for P = S S^T, so that P is symmetric and positive by its form.

A parameter array has one covariance for every row (``(rows, m, m)``), or one variance for every
number (``(rows, m)``, the diagonal). In float32 a root holds variances that are 10^14 apart; a
covariance itself loses its sign where they are more than 10^7 apart.

Source: Potter (1963), in Bierman, "Factorization methods for discrete sequential estimation"
(1977), chapter II; with the variance v of the whole filter in place of that of the group alone.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Root = Float[Array, "rows m m"] | Float[Array, "rows m"]


def rows(a: Array) -> Float[Array, "rows m"]:
    """A parameter array as the rows that have a covariance each; a vector is one row."""
    return a.reshape(1, -1) if a.ndim < 2 or a.size == len(a) else a.reshape(len(a), -1)


def first_root(a: Array, variance: float, *, diagonal: bool) -> Root:
    """The root of the covariance ``variance I``."""
    n, m = rows(a).shape
    one = jnp.ones(m, a.dtype) if diagonal else jnp.eye(m, dtype=a.dtype)
    return jnp.broadcast_to(variance**0.5 * one, (n, *one.shape))


def seen_through(root: Root, j: Float[Array, "rows m"]) -> Float[Array, "rows m"]:
    """``f = S^T j``, whose square is the variance ``j^T P j`` of what is predicted."""
    return root * j if root.ndim == 2 else jnp.einsum("nij,ni->nj", root, j)


def gain(root: Root, f: Float[Array, "rows m"]) -> Float[Array, "rows m"]:
    """``g = S f = P j``."""
    return root * f if root.ndim == 2 else jnp.einsum("nij,nj->ni", root, f)


def observed(root: Root, f: Array, g: Array, variance: Array, noise: Array) -> Root:
    """The root of ``P - g g^T / variance``, where ``variance >= noise + f^T f``.

    ::

        S (I - beta f f^T),   beta = 1 / (variance (1 + sqrt(left))),   left = 1 - f^T f / variance
    """
    least = noise / variance  # left of a group that explains everything alone
    if root.ndim == 2:
        return root * jnp.sqrt(jnp.maximum(1 - f * f / variance, least))
    left = jnp.maximum(1 - (f * f).sum(-1, keepdims=True) / variance, least)
    beta = f / (variance * (1 + jnp.sqrt(left)))
    return root - g[:, :, None] * beta[:, None, :]


def forgotten(root: Root, rate: float, prior: float, observed: Bool[Array, ""]) -> Root:
    """The root of ``P / rate``, no further than to the mean variance ``prior``."""
    most = jnp.maximum(prior / _mean_variance(root), 1)
    factor = jnp.where(observed, jnp.sqrt(jnp.minimum(1 / rate, most)), 1)
    return root * (factor if root.ndim == 2 else factor[:, None, None])


def diffused(root: Root, variance: Array, prior: float) -> Root:
    """The root of ``P + variance I``, no further than to the mean variance ``prior``."""
    if root.ndim == 2:
        return jnp.minimum(jnp.sqrt(root * root + variance), jnp.maximum(root, prior**0.5))
    before = _mean_variance(root)
    own = jnp.broadcast_to(
        jnp.sqrt(variance) * jnp.eye(root.shape[1], dtype=root.dtype), root.shape
    )
    # R^T R = S S^T + variance I for the triangle R of the two roots, one above the other.
    both = jnp.concatenate([jnp.swapaxes(root, 1, 2), own], 1)
    after = jnp.swapaxes(jnp.linalg.qr(both, mode="r"), 1, 2)
    factor = jnp.sqrt(jnp.minimum(jnp.maximum(before, prior) / _mean_variance(after), 1))
    return after * factor[:, None, None]


def _mean_variance(root: Root) -> Float[Array, "rows *m"]:
    return root * root if root.ndim == 2 else (root * root).sum((1, 2)) / root.shape[1]
