"""The online learner: data in, one learning step out."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import equinox as eqx
import optax
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

from rtrl.engine import Loss, Rule
from rtrl.learners import _inputs
from rtrl.learners._arguments import check_arguments
from rtrl.learners._begin import begin
from rtrl.learners._call import call
from rtrl.learners._feed import feed, layout_here, samples_here
from rtrl.learners._guard import Guard, bounds_of
from rtrl.learners._hidden import hidden, predict_one
from rtrl.learners._overlap import check_step, forgotten
from rtrl.learners._restart import restart
from rtrl.learners._state import LearnerState, StepOutput
from rtrl.learners._step import advance_many, advance_one
from rtrl.learners._stream import stream
from rtrl.learners._stream_state import StreamState
from rtrl.rules import RTRL
from rtrl.validate import require


class OnlineLearner(eqx.Module):
    """Trains a network on a stream: one timestep (or chunk) in, one learning step out.

    ::

        objective of a chunk = sum over t of w_t * (mean over the batch of loss(prediction_t, y_t))

    The gradient is the rule's; the optimizer updates the parameters after every ``update_every``
    chunks from the sum of their gradients. A window of zero total weight skips the optimizer,
    momentum included.

    `rtrl.shard` spreads a state over devices. Inside `jax.shard_map` (``check_vma=True``, as by
    default) the batch may be distributed, along mesh axes over which data and carry vary and the
    parameters do not; ``out``, but for predictions, and parameters are the same on every device.

    Args:
        loss: ``(prediction, target) -> scalar``, for one sample at one timestep.
        optimizer: an optax gradient transformation.
        rule: the learning rule.
        update_every: chunks per update of the parameters (a ``step`` is a chunk of one timestep).
        overlap: timesteps before every chunk that are run again with it, so that every error
            reaches back over at least as many through all layers; see `LearnerState`, ``past``. For
            rules whose errors travel back in time; under `BPTT` it is rolling TBPTT.
        on_nonfinite: ``"skip"``: a sample whose input is not finite is removed (state and trace
            stay as they were), one whose target or loss is not finite gets weight 0, an update
            whose gradient is not finite (or overflows when squared), or that would make a
            parameter or a number of the optimizer's state so, is left out whole; ``out.skipped``
            counts. (Most updates of a `scan` are proven to be finite rather than tested, where the
            optimizer's code allows.) ``"raise"``: any of these raises `NonFiniteError` after the
            call, with the untouched state as ``error.state``; this waits for every call and
            donates nothing.
            ``"ignore"``: nothing is looked for, for data that are known to be good: one NaN in an
            input, a target, a gradient or an update spreads and ends learning. It takes no guard.
        guard: bounds how far one sample can move the learner, see `Guard`; ``None``: nothing stands
            between data and gradient. With or without one nothing that is carried is ever
            non-finite (unless that is ignored): what has overflowed begins anew, and
            ``out.restarted`` counts it.
        donate: let the new state reuse the memory of the old one, which can then not be used
            again: trying to says so in a `ValueError`. ``False`` keeps old states alive. Ctrl-C
            while a call uses up its state waits until the new one is there (a second Ctrl-C does
            not), and is raised as a ``KeyboardInterrupt`` that has it as ``error.state``; without
            ``state`` it came between calls, where the last state returned is good. So
            ``except KeyboardInterrupt as error: state = getattr(error, "state", state)`` goes on
            from there. Only in the instant between a call's return and its assignment can a state
            be lost; with ``False`` none can.
        trace_dtype: of the traces between chunks: ``"bfloat16"``, half the memory, or ``"int8"``, a
            quarter, with a float32 scale for every module (traces of module parameters, one number
            each, stay float32). All is computed in float32: a trace is widened, advanced, read for
            the gradient, and rounded at the end of the chunk, up or down at random so that its mean
            is kept (by a hash of ``state.step``: a resumed run rounds alike). For rules whose trace
            is one number per parameter. What is saved in JAX is what is held between calls and in
            files: while a call runs, XLA has widened copies among its temporaries. Exported C has
            none. For the optimizer's moments see `rtrl.narrow_moments`.

    Raises:
        ValueError: an argument of the wrong kind or out of range.
    """

    loss: Loss = eqx.field(static=True)
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    rule: Rule
    update_every: int = eqx.field(static=True)
    overlap: int = eqx.field(static=True)
    on_nonfinite: Literal["skip", "raise", "ignore"] = eqx.field(static=True)
    guard: Guard | None
    donate: bool = eqx.field(static=True)
    trace_dtype: Literal["float32", "bfloat16", "int8"] = eqx.field(static=True)

    def __init__(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        *,
        rule: Rule = RTRL(),  # noqa: B008  (a frozen dataclass)
        update_every: int = 1,
        overlap: int = 0,
        on_nonfinite: Literal["skip", "raise", "ignore"] = "skip",
        guard: Guard | None = None,
        donate: bool = True,
        trace_dtype: Literal["float32", "bfloat16", "int8"] = "float32",
    ):
        check_arguments(
            loss, optimizer, rule, update_every, overlap, on_nonfinite, guard, trace_dtype
        )
        self.loss = loss
        self.optimizer = optimizer
        self.rule = rule
        self.update_every = update_every
        self.overlap = overlap
        self.on_nonfinite = on_nonfinite
        self.guard = guard
        self.donate = donate
        self.trace_dtype = trace_dtype

    def init(
        self, model: PyTree, batch_size: int | None = None, *, key: PRNGKeyArray | None = None
    ) -> LearnerState:
        """Give the state to start learning from; the model's arrays are copied.

        Args:
            model: a `SequenceModel`, or any Equinox module of our cells that is called the same
                way: ``model(xs, carry, *, rule, resets, mask, key) -> (predictions, carry)``. One
                that calls `recur` exactly once per cell, on the carry as it is given, and returns
                the carry which that gives, may say so with a class attribute
                ``recurs_once = True``: its traces are then advanced and read in one pass. A model
                that says so and does otherwise is refused, when it first learns.
            batch_size: samples that are learned side by side; ``None`` for no batch axis.
            key: PRNG key of the dropout; default ``jax.random.key(0)``.

        Raises:
            ValueError: the model holds no cell, or one that breaks the contract of `Cell`; or the
                optimizer is a filter (`rtrl.kalman`) and the loss is not half the squared error.
        """
        return begin(self, model, batch_size, key)

    def step(
        self,
        state: LearnerState,
        x: Any,
        y: PyTree[ArrayLike] | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> tuple[LearnerState, StepOutput]:
        """Predict one timestep, then learn from it. Where every microsecond counts, see `Live`.

        Args:
            state: from `init` or the last call.
            x: input, ``([batch,] in_size)``.
            y: target, or ``None`` if there is none (as with weight 0).
            weight: of the loss, ``([batch])``.
            reset: true where a new sequence begins with this timestep, ``([batch])``.

        Returns the new state, and what the step tells, without time axes.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
            NonFiniteError: see ``on_nonfinite``.
        """
        check_step(self.rule, self.overlap)
        batch_size, dtype = layout_here(state)
        data = _inputs.prepare_one(state.model, x, y, weight, reset, batch_size, dtype)
        return call(self, advance_one, state, data, None)

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

        Returns the new state, and what the steps tell, time first.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
            NonFiniteError: see ``on_nonfinite``.
        """
        batch_size, dtype = layout_here(state)
        data = _inputs.prepare(state.model, xs, ys, weights, resets, batch_size, dtype)
        chunk = _inputs.chunk_size(chunk, data.xs.shape[0], self.rule)
        return call(self, advance_many, state, data, chunk)

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

        Returns an iterator of pairs, a `StreamState` and a `StepOutput`.

        Raises:
            ValueError: an argument, or an item named by its number. The last state yielded is as it
                was: go on from it with the next item.
            NonFiniteError: see ``on_nonfinite``; ``error.state`` is the last state yielded.
            KeyboardInterrupt: see ``donate``; ``error.state`` is the newest state, which may hold
                one item more than the last state yielded.
        """
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

        Raises:
            ValueError: ``x`` does not have the shape that the model and the state ask for.
        """
        x = _inputs.cast(x, _inputs.float_dtype(state.model), "x")
        _inputs.check_xs(state.model, x, samples_here(state), time=False)
        carry = hidden(state.carry if carry is None else carry)
        core = getattr(state, "learner", state)  # of a stream, the learner behind
        bounds, x = bounds_of(self.guard, core.guard), feed(state, x, time=False)
        return predict_one(state.model, bounds, x, carry)

    def reset(self, state: LearnerState, mask: ArrayLike | None = None) -> LearnerState:
        """Begin a new sequence: initial hidden states, zero traces; gradients summed are kept.

        Args:
            state: from `init`, `step` or `scan`.
            mask: which samples, ``(batch,)``; default all. Needs a batch axis.

        Returns the new state.

        Raises:
            ValueError: the state is one of a stream, or the mask does not fit it.
        """
        learning = isinstance(state, LearnerState)
        require(learning, "state", "a LearnerState (in a stream resets are items)", type(state))
        batch_size = samples_here(state)
        if mask is not None:
            require(batch_size is not None, "mask", "None, as the state has no batch axis", mask)
            mask = _inputs.per_timestep(mask, (batch_size or 0,), "mask", bool)
        mask = feed(state, mask, time=False)
        carry, past = restart(state.model, state.carry, mask), forgotten(state.past, mask)
        return dataclasses.replace(state, carry=carry, past=past)
