"""The online learner: data in, one learning step out."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, PyTree

from rtrl import _inputs
from rtrl._branch import branch
from rtrl._carry import Carry, init_carry, is_carry
from rtrl._gradient import Loss, chunk_gradient, over_chunks
from rtrl._inputs import Chunk
from rtrl._jit import Jitted
from rtrl._validate import require
from rtrl.cells._base import cells_of
from rtrl.rules._base import Rule, check_rule
from rtrl.rules._bptt import BPTT
from rtrl.rules._rtrl import RTRL

if TYPE_CHECKING:
    from rtrl._stream import StreamState


class Window(eqx.Module):
    """What is summed until the next update of the parameters."""

    grads: PyTree
    weight: Float[Array, ""]
    chunks: Int[Array, ""]


class LearnerState(eqx.Module):
    """All that a learner knows: an immutable pytree, saved and loaded whole.

    Attributes:
        model: the network as it is now.
        carry: hidden state and trace of every cell.
        opt_state: the optimizer's state.
        window: gradients summed since the last update; ``None`` if every chunk updates.
        step: timesteps seen (stays at the largest uint32 if it gets there).
        key: PRNG key of the dropout.
    """

    model: PyTree
    carry: PyTree
    opt_state: PyTree
    window: Window | None
    step: Int[Array, ""]
    key: PRNGKeyArray


class StepOutput(eqx.Module):
    """What a learning step tells.

    Attributes:
        prediction: made before the update, ``([time,] [batch,] ...)``.
        loss: unweighted, mean over the samples that have a usable target, ``([time])``; NaN where
            none has.
        skipped: samples left out because an input, target or loss was not finite, plus one at the
            end of a chunk whose gradient was not finite, ``([time])``.
        grad_norm: Euclidean norm of the gradient of every chunk, ``([chunks])``.
    """

    prediction: PyTree[Array]
    loss: Float[Array, "*time"]
    skipped: Int[Array, "*time"]
    grad_norm: Float[Array, "*chunks"]


class NonFiniteError(ArithmeticError):
    """Data or a gradient was not finite; ``state`` is the learner's state before the call."""

    def __init__(self, message: str, state: LearnerState):
        super().__init__(message)
        self.state = state


class OnlineLearner(eqx.Module):
    """Trains a network on a stream: one timestep (or chunk) in, one learning step out.

    ::

        objective of a chunk = sum over t of w_t * (mean over the batch of loss(prediction_t, y_t))

    The gradient is the rule's; the optimizer updates the parameters after every ``update_every``
    chunks from the sum of their gradients. A window of zero total weight skips the optimizer,
    momentum included.

    Args:
        loss: ``(prediction, target) -> scalar``, for one sample at one timestep.
        optimizer: an optax gradient transformation.
        rule: the learning rule.
        update_every: chunks per update of the parameters (a ``step`` is a chunk of one timestep).
        on_nonfinite: ``"skip"``: a sample whose input is not finite is removed (state and trace
            stay as they were), one whose target or loss is not finite gets weight 0, an update
            whose gradient is not finite (or overflows when squared) is left out; ``out.skipped``
            counts. ``"raise"``: any of these raises `NonFiniteError` after the call, with the
            untouched state as ``error.state``; this waits for every call and donates nothing.
        donate: let the new state reuse the memory of the old one, which can then not be used
            again. ``False`` keeps old states alive.

    Raises:
        ValueError: an argument of the wrong kind or out of range.
    """

    loss: Loss = eqx.field(static=True)
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    rule: Rule
    update_every: int = eqx.field(static=True)
    on_nonfinite: Literal["skip", "raise"] = eqx.field(static=True)
    donate: bool = eqx.field(static=True)

    def __init__(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        *,
        rule: Rule = RTRL(),  # noqa: B008  (a frozen dataclass)
        update_every: int = 1,
        on_nonfinite: Literal["skip", "raise"] = "skip",
        donate: bool = True,
    ):
        require(callable(loss), "loss", "a function (prediction, target) -> scalar", loss)
        require(
            callable(getattr(optimizer, "init", None))
            and callable(getattr(optimizer, "update", None)),
            "optimizer",
            "an optax gradient transformation such as optax.adam(1e-3)",
            optimizer,
        )
        check_rule(rule)
        require(
            isinstance(update_every, int) and update_every >= 1,
            "update_every",
            "an integer of at least 1 (chunks)",
            update_every,
        )
        known = on_nonfinite in ("skip", "raise")
        require(known, "on_nonfinite", "'skip' or 'raise'", on_nonfinite)
        self.loss = loss
        self.optimizer = optimizer
        self.rule = rule
        self.update_every = update_every
        self.on_nonfinite = on_nonfinite
        self.donate = donate

    def init(
        self, model: PyTree, batch_size: int | None = None, *, key: PRNGKeyArray | None = None
    ) -> LearnerState:
        """Start learning a model; its arrays are copied and stay the caller's.

        Args:
            model: a `SequenceModel`, or any Equinox module of our cells that is called the same
                way: ``model(xs, carry, *, rule, resets, mask, key) -> (predictions, carry)``. One
                that calls `recur` once per cell may say so with a class attribute
                ``recurs_once = True``: its traces are then advanced and read in one pass.
            batch_size: samples that are learned side by side; ``None`` for no batch axis.
            key: PRNG key of the dropout; default ``jax.random.key(0)``.

        Raises:
            ValueError: the model holds no cell, or one that breaks the contract of `Cell`.
        """
        params = eqx.filter(model, eqx.is_inexact_array)
        window = None
        if self.update_every > 1:
            zeros = jax.tree.map(jnp.zeros_like, params)
            window = Window(zeros, jnp.zeros((), _inputs.float_dtype(model)), jnp.int32(0))
        state = LearnerState(
            model=model,
            carry=init_carry(model, self.rule, batch_size),
            opt_state=self.optimizer.init(params),
            window=window,
            step=jnp.uint32(0),
            key=jax.random.key(0) if key is None else key,
        )
        # Every leaf gets memory of its own: donating one must not delete another or the caller's.
        # None is weakly typed: the first call would return another type and compile twice.
        return jax.tree.map(lambda a: jnp.array(a, dtype=a.dtype) if eqx.is_array(a) else a, state)

    def step(
        self,
        state: LearnerState,
        x: Any,
        y: PyTree[ArrayLike] | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> tuple[LearnerState, StepOutput]:
        """Predict one timestep, then learn from it.

        Args:
            state: from `init` or the last call.
            x: input, ``([batch,] in_size)``.
            y: target, or ``None`` if there is none (as with weight 0).
            weight: of the loss, ``([batch])``.
            reset: true where a new sequence begins with this timestep, ``([batch])``.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
            NonFiniteError: see ``on_nonfinite``.
        """
        require(not self.rule.whole_sequence, "rule", "one that learns from single timesteps "
                "(BPTT needs scan with a chunk)", self.rule)  # fmt: skip
        batch_size, dtype = _layout(state)
        x = _inputs.cast(x, dtype, "x")
        _inputs.check_xs(state.model, x, batch_size, time=False)
        lead = () if batch_size is None else (batch_size,)
        y = None if y is None else _inputs.cast(y, dtype, "y")
        weights = _inputs.per_timestep(weight, lead, "weight", dtype)
        resets = None if reset is False else _inputs.per_timestep(reset, lead, "reset", bool)
        return self._call(_advance_one, state, Chunk(x, y, weights, resets), None)

    def scan(
        self,
        state: LearnerState,
        xs: ArrayLike,
        ys: PyTree[ArrayLike] | None = None,
        *,
        chunk: int | None = None,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[LearnerState, StepOutput]:
        """Predict and learn a sequence in chunks, parameters held fixed inside each.

        Args:
            state: from `init` or the last call.
            xs: inputs, ``(time, [batch,] in_size)``.
            ys: targets, a pytree of arrays ``(time, [batch,] ...)``, or ``None``.
            chunk: timesteps per chunk; default 1 (under `BPTT` the whole call). A ragged tail is
                a chunk.
            weights: of the losses, ``(time, [batch])``; default 1.
            resets: true where a new sequence begins, ``(time, [batch])``.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
            NonFiniteError: see ``on_nonfinite``.
        """
        data = _inputs.prepare(state.model, xs, ys, weights, resets, _batch_size(state))
        chunk = _inputs.chunk_size(chunk, data.xs.shape[0], self.rule)
        return self._call(_advance_many, state, data, chunk)

    def stream(
        self,
        state: "LearnerState | StreamState",
        source: Iterable[tuple],
        chunk: int = 16,
        delay: int = 0,
    ) -> "Iterator[tuple[StreamState, StepOutput]]":
        """Predict every item of a live source at once, and learn behind it in chunks.

        Every item gives one pair ``(state, out)``. Its ``x`` is predicted before its ``y`` is
        looked at, with the newest parameters; up to ``chunk + delay`` items are held, and a chunk
        is learned (as `scan` would) when the last of its targets is there. No prediction depends
        on anything that had not arrived when it was made.

        ``out.prediction`` belongs to this item; ``out.loss``, ``out.skipped`` and ``out.grad_norm``
        are those of the chunk just learned, oldest timestep first, and of length 0 if none was.

        The state yielded holds all there is, the waiting items included: stop at any item, save it,
        load it and stream on, and the predictions are the same bit for bit as without a stop. The
        end of the source is nothing but a stop. ``learner.predict(state, x)`` looks ahead from
        the newest item; `rtrl.close_stream` learns what is held and gives a `LearnerState` back.

        Args:
            state: from `init`, `step` or `scan`, or from a stream with the same ``chunk`` and
                ``delay``, which then goes on.
            source: yields ``(x, y)``, or ``(x, y, weight)`` or ``(x, y, weight, reset)``, as `step`
                takes them. ``y`` (and its weight) is the target of the ``x`` that came ``delay``
                items earlier, ``None`` if it is missing for good; the first ``delay`` of a stream
                belong to nothing and are ignored. ``reset`` begins a sequence with this ``x``.
            chunk: timesteps per chunk, parameters held fixed inside each.
            delay: items between an input and its target.

        Raises:
            ValueError: an argument, or an item named by its number. The last state yielded is as it
                was: go on from it with the next item.
            NonFiniteError: see ``on_nonfinite``; ``error.state`` is the last state yielded.
        """
        from rtrl._stream import stream  # it builds on this class

        return stream(self, state, source, chunk, delay)

    def predict(
        self, state: LearnerState, x: ArrayLike, carry: PyTree | None = None
    ) -> tuple[PyTree[Array], PyTree]:
        """Predict one timestep without learning; the learning state is not touched.

        Args:
            state: the learner's state, for its parameters.
            x: input, ``([batch,] in_size)``; a sample that is not finite leaves its hidden state
                as it was.
            carry: hidden states from the last call; default those of ``state``.

        Returns the prediction and the new hidden states (a carry without traces).
        """
        batch_size = _batch_size(state)
        x = _inputs.cast(x, _inputs.float_dtype(state.model), "x")
        _inputs.check_xs(state.model, x, batch_size, time=False)
        carry = hidden(state.carry if carry is None else carry)
        return _predict(state.model, x, carry)

    def reset(self, state: LearnerState, mask: ArrayLike | None = None) -> LearnerState:
        """Begin a new sequence: initial hidden states, zero traces; gradients summed are kept.

        Args:
            mask: which samples, ``(batch,)``; default all. Needs a batch axis.
        """
        known = isinstance(state, LearnerState)
        require(known, "state", "a LearnerState (in a stream resets are items)", type(state))
        batch_size = _batch_size(state)
        if mask is not None:
            require(batch_size is not None, "mask", "None, as the state has no batch axis", mask)
            mask = _inputs.per_timestep(mask, (batch_size or 0,), "mask", bool)
        carry = _restart(state.model, state.carry, mask)
        return eqx.tree_at(lambda s: s.carry, state, carry)

    def _call(self, function, state, data, chunk):
        wait = self.on_nonfinite == "raise"
        if wait and any(isinstance(a, Tracer) for a in jax.tree.leaves((state, data))):
            raise ValueError(
                "on_nonfinite: 'raise' can't work inside jit, where no value can be looked at; "
                "use 'skip' and look at out.skipped."
            )
        jitted = function.donating if self.donate and not wait else function.keeping
        after, out = jitted(self, data, chunk, state)
        if wait and (skipped := np.asarray(out.skipped)).any():
            first = int(np.argmax(skipped > 0))
            raise NonFiniteError(
                f"{int(skipped.sum())} inputs, targets, losses or gradients were not finite, the "
                f"first at timestep {first} of the call; the state before it is in error.state.",
                state,
            )
        return after, out


class _Advance:
    """A function of ``(learner, data, chunk, state)`` compiled with and without donating state."""

    def __init__(self, function: Callable[..., Any]):
        self.donating = Jitted(function, donate_last=True)
        self.keeping = Jitted(function)


@_Advance
def _advance_one(learner, data, chunk, state):
    state, out = _learn(learner, state, jax.tree.map(lambda a: a[None], data))
    prediction, loss, skipped = jax.tree.map(
        lambda a: a[0], (out.prediction, out.loss, out.skipped)
    )
    return state, StepOutput(prediction, loss, skipped, out.grad_norm)


@_Advance
def _advance_many(learner, data, chunk, state):
    arrays, static = eqx.partition(state, eqx.is_array)

    def body(arrays, data):
        state, out = _learn(learner, eqx.combine(arrays, static), data)
        return eqx.filter(state, eqx.is_array), out

    arrays, outs = over_chunks(body, arrays, data, data.xs.shape[0], chunk)
    norms = jnp.concatenate([out.grad_norm for out in outs])

    def join(*parts):  # (chunks, K, ...) each, to (time, ...)
        return jnp.concatenate([p.reshape(-1, *p.shape[2:]) for p in parts])

    parts = [(out.prediction, out.loss, out.skipped) for out in outs]
    prediction, loss, skipped = jax.tree.map(join, *parts)
    return eqx.combine(arrays, static), StepOutput(prediction, loss, skipped, norms)


def _learn(
    learner: OnlineLearner, state: LearnerState, data: Chunk
) -> tuple[LearnerState, StepOutput]:
    """Learn from one chunk."""
    data, present = _remove_nonfinite(data)
    result = chunk_gradient(
        state.model,
        learner.loss,
        state.carry,
        data,
        rule=learner.rule,
        key=jax.random.fold_in(state.key, state.step),
        forgive=True,
    )
    norm = _norm(result.grads)
    finite = jnp.isfinite(norm)
    weight = jnp.abs(result.weights).sum()
    if state.window is None:
        model, opt_state = _update(learner, state, result.grads, finite & (weight > 0))
        window = None
    else:
        model, opt_state, window = _accumulate(
            learner, state, state.window, result.grads, finite, weight
        )

    counted = present & jnp.isfinite(result.losses)
    loss = jnp.where(counted, result.losses, 0)
    skipped = ~present | ((data.weights != 0) & (result.weights == 0) & (data.ys is not None))
    if loss.ndim == 2:
        loss, counted, skipped = loss.sum(1), counted.sum(1), skipped.sum(1)
    out = StepOutput(
        prediction=result.predictions,
        loss=jnp.where(counted > 0, loss / jnp.maximum(counted, 1), jnp.nan),
        skipped=skipped.astype(jnp.int32).at[-1].add(~finite),
        grad_norm=norm,
    )
    step = state.step + jnp.uint32(data.xs.shape[0])
    step = jnp.maximum(step, state.step)  # stays where it is rather than wrap around
    return LearnerState(model, result.carry, opt_state, window, step, state.key), out


def _norm(tree: PyTree[Array]) -> Float[Array, ""]:
    """Euclidean norm; small arrays as one, as a sum by itself takes longer than its numbers."""
    leaves = jax.tree.leaves(tree)
    small = [a.reshape(-1) for a in leaves if a.size <= 128]
    large = [a for a in leaves if a.size > 128]
    joined = [jnp.concatenate(small)] if small else []
    return jnp.sqrt(sum(jnp.square(jnp.abs(a)).sum() for a in (*joined, *large)))


def _remove_nonfinite(data: Chunk) -> tuple[Chunk, Bool[Array, "time *batch"]]:
    """Mask the samples whose input is not finite, before it can reach any state or trace."""
    xs = data.xs
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        return data, jnp.ones(data.weights.shape, bool)
    present = jnp.isfinite(xs).all(range(data.weights.ndim, xs.ndim))
    shape = jnp.expand_dims(present, range(present.ndim, xs.ndim))
    xs = jnp.where(shape, xs, 0)
    weights = jnp.where(present, data.weights, 0)
    return data._replace(xs=xs, weights=weights, mask=present), present


def _optimize(learner, params, opt_state, grads):
    updates, opt_state = learner.optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def _update(learner, state, grads, go: Bool[Array, ""]) -> tuple[PyTree, PyTree]:
    """Update the parameters, or leave everything as it was."""
    params, static = eqx.partition(state.model, eqx.is_inexact_array)
    params, opt_state = branch(
        go,
        lambda params, opt_state, grads: _optimize(learner, params, opt_state, grads),
        lambda params, opt_state, grads: (params, opt_state),
        params, state.opt_state, grads,
    )  # fmt: skip
    return eqx.combine(params, static), opt_state


def _accumulate(
    learner, state, window: Window, grads, finite: Bool[Array, ""], weight: Float[Array, ""]
) -> tuple[PyTree, PyTree, Window]:
    """Add a chunk to the window, and update the parameters when it is full."""
    total = jax.tree.map(lambda t, g: jnp.where(finite, t + g, t), window.grads, grads)
    window = Window(total, window.weight + jnp.where(finite, weight, 0), window.chunks + 1)
    full = window.chunks >= learner.update_every
    model, opt_state = _update(learner, state, window.grads, full & (window.weight > 0))
    window = jax.tree.map(lambda a: jnp.where(full, jnp.zeros_like(a), a), window)
    return model, opt_state, window


def _layout(state: LearnerState) -> tuple[int | None, jnp.dtype]:
    """The batch size, and the real dtype of the network: asking its parameters takes longer."""
    h = jax.tree.leaves(state.carry)[0]  # a hidden state: ([batch,] N)
    return None if h.ndim == 1 else h.shape[0], jnp.finfo(h.dtype).dtype


def _batch_size(state: LearnerState) -> int | None:
    return _layout(state)[0]


def hidden(carry: PyTree) -> PyTree:
    """Strip the traces off what a network carries."""
    return jax.tree.map(lambda c: Carry(c.state, None), carry, is_leaf=is_carry)


@Jitted
def _predict(model, x, carry):
    lead = jax.tree.leaves(carry)[0].shape[:-1]
    data = Chunk(x[None], None, jnp.ones((1, *lead)))
    data, _ = _remove_nonfinite(data)
    predictions, carry = model(data.xs, carry, rule=BPTT(), resets=None, mask=data.mask, key=None)
    return jax.tree.map(lambda a: a[0], predictions), carry


@Jitted
def _restart(model, carry, mask):
    def restart(cell, carry):
        fresh = Carry(
            jax.tree.map(lambda h0, h: jnp.broadcast_to(h0, h.shape), cell.initial(), carry.state),
            # What is not a sensitivity, such as the key of a random rule, goes on.
            jax.tree.map(
                lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, carry.trace
            ),
        )
        if mask is None:
            return fresh
        return jax.tree.map(
            lambda new, old: jnp.where(jnp.expand_dims(mask, range(1, old.ndim)), new, old),
            fresh,
            carry,
        )

    if is_carry(carry):
        return restart(model, carry)
    return tuple(restart(cell, c) for cell, c in zip(cells_of(model), carry, strict=True))
