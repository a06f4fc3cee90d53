"""A second-order optimizer for streams: an extended Kalman filter on a rule's derivatives."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from rtrl.engine import Observations, all_finite
from rtrl.learners import _square_root as root
from rtrl.learners._filter import Filter
from rtrl.validate import require

Groups = Literal["rows", "diagonal", "mixed"] | Callable[[PyTree], PyTree[str]]

DRIFT_EVERY = 64  # timesteps: a triangle anew takes as long as that many rank-one updates
SURE = 10  # observations of an output before its noise and spread are worth something
NOISE_RANGE = 100.0  # of an output's noise around the mean of all


class KalmanState(NamedTuple):
    """What the filter knows, in units of the (mean) observation noise.

    Attributes:
        roots: S of every covariance P = S S^T, ``(rows, m, m)`` or, diagonal, ``(rows, m)``.
        noise: variance of every output's observation noise, estimated online.
        spread: mean square of every output's innovation, those beyond the gate at the gate.
        seen: observations of every output.
        gated: how many of them were beyond the gate.
        left_out: observations left out as something would not have been finite.
        time: timesteps up to which process noise was added.
    """

    roots: PyTree[root.Root]
    noise: Float[Array, " outputs"]
    spread: Float[Array, " outputs"]
    seen: Int[Array, " outputs"]
    gated: Int[Array, " outputs"]
    left_out: Int[Array, ""]
    time: Int[Array, ""]


def kalman(
    *,
    prior: float = 10.0,
    forgetting: float = 1.0,
    drift: float = 0.0,
    gate: float | None = 30.0,
    noise: float | Sequence[float] | None = None,
    memory: float = 1000.0,
    groups: Groups = "rows",
) -> Filter:
    """Decoupled extended Kalman filter: recursive least squares for every row of every weight.

    ::

        P <- P / forgetting                       before a timestep that has a target
        P <- P + drift I                          for every timestep (64 of them at a time)

        j = dprediction/dp                        for every output, one after the other
        v = R + sum over groups of j^T P j
        p <- p - P j e / v,    P <- P - (P j)(P j)^T / v,     e = prediction - target

    With an online rule's derivatives this is second-order learning in one pass, without a learning
    rate; for a linear model of one row it is recursive least squares exactly, ``forgetting`` that
    with exponential weights. The learner hands the derivatives and errors over: give it to an
    `OnlineLearner` as it is, with the loss ``0.5 * jnp.sum((prediction - y) ** 2)`` (any other is
    refused) and ``update_every=1``.

    *Several outputs* are observations one after the other, each with the parameters that the one
    before has left (to first order); for a single group that is the joint filter with
    ``A = (R + H^T P H)^-1``, for several it forgets what two groups explain together after every
    output. A step takes a backward pass and a pass over P for every output. A missing target (NaN)
    moves nothing; the other targets of that timestep are learned. *A chunk* of K timesteps and a
    *batch* of B samples are K x B observations of every output, with the derivatives at the
    parameters before the chunk (a multistream filter): right, and K x B times the work. A
    ``weight`` divides the observation's noise.

    *Noise.* P is in units of the observation noise, so with one output R is 1 whatever the noise.
    With several, R of each is its estimated noise over the mean of all (within a factor of 100):
    the mean of ``R e^2 / v`` over ``memory`` timesteps. ``state.opt_state.noise`` has it.

    *Outliers.* An observation whose error is beyond ``gate`` root mean squares of the last errors
    is scaled down as a whole, ``e`` and ``j`` by the same factor, so that the error is at the gate:
    it is neither lost nor does it make P think that it knows. It begins after 10 observations.

    *Numbers.* What is carried is the square root S of P = S S^T, so P is symmetric and positive by
    its form. An observation that would make anything infinite is left out and counted. The mean
    variance of a group never grows beyond ``prior``, however long nothing excites it: a group that
    has come there forgets no more until it is excited again.

    Args:
        prior: variance of the parameters before the first timestep over that of the noise; larger
            learns faster at first.
        forgetting: weight of what is known after another timestep with a target, in (0, 1]: the
            memory is ``1 / (1 - forgetting)`` timesteps.
        drift: variance by which every parameter may wander in a timestep (process noise), over that
            of the noise, at least 0; also while targets are missing.
        gate: root mean squares beyond which an error is an outlier; ``None`` for none.
        noise: R, of all outputs or of each, to fix it; ``None`` to estimate it.
        memory: timesteps over which noise and root mean squares are estimated.
        groups: ``"rows"``: a covariance for every row of a matrix, one for a whole vector;
            ``"diagonal"``: a variance for every number, no more memory than Adam; ``"mixed"``:
            variances for large matrices, covariances for vectors and for matrices of few rows or
            columns (readouts, encoders). Or a function of the parameters that gives a pytree like
            them of ``"rows"`` and ``"diagonal"``.

    Returns:
        An optax gradient transformation with extra arguments, which an `OnlineLearner` gives.

    Raises:
        ValueError: an argument out of its range.

    Source: Puskorius & Feldkamp, "Neurocontrol of nonlinear dynamical systems with Kalman filter
    trained recurrent networks" (1994), section III; square roots: Potter (1963).
    """
    require(prior > 0, "prior", "a positive ratio of variances", prior)
    require(0 < forgetting <= 1, "forgetting", "a factor in (0, 1]", forgetting)
    require(drift >= 0, "drift", "a variance of at least 0", drift)
    require(gate is None or gate > 0, "gate", "None or a positive number", gate)
    require(noise is None or bool(np.all(np.asarray(noise) > 0)), "noise",
            "None or positive variances", noise)  # fmt: skip
    require(memory >= 1, "memory", "at least 1 timestep", memory)
    known = callable(groups) or groups in ("rows", "diagonal", "mixed")
    require(known, "groups", "'rows', 'diagonal', 'mixed' or a function", groups)

    def init(params: PyTree, outputs: int = 1) -> KalmanState:
        if callable(groups):
            kinds = groups(params)
        else:
            kinds = jax.tree.map(partial(_kind, str(groups)), params)
        if noise is not None:
            fits = np.shape(noise) in ((), (outputs,))
            require(fits, "noise", f"one number, or one for each of {outputs} outputs", noise)

        def first(a: Array, kind: str) -> root.Root:
            require(kind in ("rows", "diagonal"), "groups", "'rows' or 'diagonal' for every "
                    "parameter", kind)  # fmt: skip
            return root.first_root(a, prior, diagonal=kind == "diagonal")

        zeros = jnp.zeros(outputs, jnp.result_type(*jax.tree.leaves(params)))
        none = jnp.zeros(outputs, jnp.int32)
        return KalmanState(
            jax.tree.map(first, params, kinds),
            zeros,
            zeros,
            none,
            none,
            jnp.int32(0),
            jnp.uint32(0),
        )

    def update(
        grads: PyTree,
        state: KalmanState,
        params: PyTree = None,
        *,
        observations: Observations | None = None,
        time: Int[Array, ""] | None = None,
        **_: Any,
    ) -> tuple[PyTree, KalmanState]:
        if observations is None or time is None or params is None:
            raise ValueError(
                "optimizer: expected rtrl.kalman() as the optimizer of an OnlineLearner, which "
                "hands over errors and derivatives; got a call without them, as from inside "
                "optax.chain."
            )
        if drift:
            state = _drift(state, time)

        def timestep(carry, seen):
            return _timestep(params, carry, seen), None

        none = jax.tree.map(jnp.zeros_like, grads)
        return _over(timestep, (none, state), observations)

    def _drift(state: KalmanState, time: Array) -> KalmanState:
        waited = time - state.time
        variance = drift * waited.astype(state.noise.dtype)
        due = waited >= DRIFT_EVERY
        roots = jax.lax.cond(
            due,
            lambda roots: jax.tree.map(lambda s: root.diffused(s, variance, prior), roots),
            lambda roots: roots,
            state.roots,
        )
        return state._replace(roots=roots, time=jnp.where(due, time, state.time))

    def _timestep(params, carry: tuple[PyTree, KalmanState], seen: Observations):
        updates, state = carry
        if forgetting < 1:
            some = (seen.weights > 0).any()
            roots = jax.tree.map(lambda s: root.forgotten(s, forgetting, prior, some), state.roots)
            state = state._replace(roots=roots)
        samples, outputs = seen.errors.shape
        flat = jax.tree.map(lambda a: a.reshape(samples * outputs, *a.shape[2:]), seen)
        which = np.tile(np.eye(outputs, dtype=bool), (samples, 1))

        def number(carry, one):
            return _observe(params, *carry, *one), None

        return _over(number, (updates, state), (flat, which))

    def _observe(params, updates, state: KalmanState, one: Observations, which: Array):
        """Learn from one number; ``which`` says of which output it is."""

        def of(a: Array) -> Array:
            return jnp.where(which, a, 0).sum()

        e = one.errors + optax.tree.vdot(one.jacobian, updates)
        count, bound = of(state.seen), jnp.inf
        if gate is not None:
            ready = (count >= SURE) & (of(state.spread) > 0)
            bound = jnp.where(ready, gate * jnp.sqrt(of(state.spread)), jnp.inf)
        outlier = jnp.abs(e) > bound
        R = of(_noise(state, outputs=len(which)))
        scale = jnp.sqrt(one.weights) * jnp.where(outlier, bound / jnp.abs(e), 1)

        f = jax.tree.map(
            lambda s, j: scale * root.seen_through(s, root.rows(j)), state.roots, one.jacobian
        )
        g = jax.tree.map(root.gain, state.roots, f)
        v = R + optax.tree.vdot(f, f)
        after = jax.tree.map(lambda u, g: u - (scale * e / v) * g.reshape(u.shape), updates, g)
        fine = jnp.isfinite(v) & all_finite(jax.tree.map(jnp.add, params, after))
        f, g = jax.tree.map(lambda a: jnp.where(fine, a, 0), (f, g))
        roots = jax.tree.map(
            lambda s, f, g: root.observed(s, f, g, jnp.where(fine, v, R), R), state.roots, f, g
        )
        updates = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, updates)

        there = one.weights > 0
        mine = which & there & fine
        seen = state.seen.astype(state.noise.dtype)
        rate = jnp.where(mine, jnp.maximum(1 / (seen + 1), 1 / memory), 0)
        square = jnp.square(jnp.where(fine, jnp.minimum(jnp.abs(e), bound), 0))
        return updates, state._replace(
            roots=roots,
            noise=state.noise + rate * (square * jnp.where(fine, R / v, 0) - state.noise),
            spread=state.spread + rate * (square - state.spread),
            seen=jnp.where(mine, jnp.minimum(state.seen, 2**30) + 1, state.seen),
            gated=state.gated + (mine & outlier),
            left_out=state.left_out + (there & ~fine),
        )

    def _noise(state: KalmanState, outputs: int) -> Float[Array, " outputs"]:
        """R of every output, over the mean of all."""
        if noise is not None:
            return jnp.broadcast_to(jnp.asarray(noise, state.noise.dtype), (outputs,))
        ones = jnp.ones_like(state.noise)
        if outputs == 1:
            return ones
        # What few observations say of an output counts as few of many.
        seen = state.seen.astype(state.noise.dtype)
        known = seen / (seen + SURE)
        mean = (known * state.noise).sum() / jnp.maximum(known.sum(), 1e-6)
        own = known * state.noise / jnp.where(mean > 0, mean, 1) + (1 - known)
        return jnp.clip(jnp.where(mean > 0, own, 1), 1 / NOISE_RANGE, NOISE_RANGE)

    return Filter(init, update)  # type: ignore[arg-type]


def _kind(groups: str, a: Array) -> str:
    if groups != "mixed":
        return groups
    n, m = root.rows(a).shape
    return "rows" if n * m**2 <= 8 * max(n, m) ** 2 else "diagonal"


def _over(body: Callable, carry: tuple[PyTree, KalmanState], items: PyTree):
    """A scan; XLA fuses several rounds that are written out into what takes minutes to compile."""
    if len(jax.tree.leaves(items)[0]) == 1:
        return body(carry, jax.tree.map(lambda a: a[0], items))[0]
    return jax.lax.scan(body, carry, items)[0]
