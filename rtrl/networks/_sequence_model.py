"""The paper's network: encoder, residual blocks around recurrent cells, decoder."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from rtrl.cells import Cell
from rtrl.engine import Carry, Rule
from rtrl.networks._block import Block, Norm, each
from rtrl.networks._dropout import split
from rtrl.networks._readout import Glu, dense
from rtrl.validate import require


class SequenceModel(eqx.Module):
    """Dense encoder, ``depth`` residual blocks around recurrent cells, dense decoder.

    The layout of the parameters, for loading a network trained elsewhere leaf by leaf with
    ``eqx.tree_at`` (W = width, N = modules of a cell)::

        encoder.weight (W, in_size)   encoder.bias (W,)
        layers[i].cell                the cell's own fields, see its class
        layers[i].readout.C_re, C_im  (W, N)       .D (W,)
        layers[i].mixer.value, gate   .weight (W, W)  .bias (W,)      value: full GLU only
        layers[i].norm                .weight (W,)    .bias (W,)
        decoder.weight (out_size, W)  decoder.bias (out_size,)

    Args:
        in_size: features of the input; ``None`` if timesteps have no feature axis (tokens for an
            embedding as ``encoder``).
        out_size: features of the prediction.
        width: W, features between the layers.
        depth: number of blocks.
        cell: ``(size, key) -> Cell``, called once per block with ``size = width``.
        activation: elementwise, after the readout; GELU in its tanh form by default.
        glu: gated linear unit, ``"full"``, ``"half1"``, ``"half2"`` (see `GLU`) or ``None``.
        norm: layer norm before the recurrence (``"pre"``), after the skip (``"post"``), or
            ``None``.
        eps: epsilon of the layer norm.
        dropout: probability of dropping a feature, in ``[0, 1)``.
        encoder, decoder: modules to use instead of the dense ones; each sees one timestep of one
            sample.
        advise: asked about the finished network, such as
            ``functools.partial(rtrl.analysis.advise, length=784)``: a ``UserWarning`` says it of
            every layer that will not hold what it is given over a sequence.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or an argument out of its range.

    Source: Zucchet et al. (2023), appendix B.1 (there ``norm="post"``; its released runs are
    ``"pre"``).
    """

    #: It runs every cell exactly once per call and hands on the carry which that gives, so that
    #: traces may advance in the backward pass. The engine holds a model to it.
    recurs_once: ClassVar[bool] = True

    encoder: Callable
    layers: tuple[Block, ...]
    decoder: Callable
    in_size: int | None = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int | None,
        out_size: int,
        width: int,
        depth: int,
        cell: Callable[[int, Any], Cell],
        *,
        activation: Callable = jax.nn.gelu,
        glu: Glu | None = "full",
        norm: Norm | None = "pre",
        eps: float = 1e-6,
        dropout: float = 0.0,
        encoder: Callable | None = None,
        decoder: Callable | None = None,
        advise: Callable[[Any], Any] | None = None,
        key: PRNGKeyArray,
    ):
        require(in_size is not None or encoder is not None, "in_size", "features of a timestep "
                "(or an encoder that takes timesteps without a feature axis)", in_size)  # fmt: skip
        for name, size in (("in_size", in_size), ("out_size", out_size), ("width", width)):
            require(size is None or size >= 1, name, "at least 1", size)
        require(depth >= 1, "depth", "at least 1", depth)
        encoder_key, decoder_key, *layer_keys = jax.random.split(key, depth + 2)
        self.in_size = in_size
        self.out_size = out_size
        if encoder is None:
            assert in_size is not None
            encoder = dense(in_size, width, key=encoder_key)
        self.encoder = encoder
        layers = []
        for layer_key in layer_keys:
            cell_key, block_key = jax.random.split(layer_key)
            block = Block(
                cell(width, cell_key), width, activation=activation, glu=glu, norm=norm, eps=eps,
                dropout=dropout, key=block_key,
            )  # fmt: skip
            layers.append(block)
        self.layers = tuple(layers)
        self.decoder = dense(width, out_size, key=decoder_key) if decoder is None else decoder
        for advice in () if advise is None else advise(self):
            if advice.verdict != "holds":
                warnings.warn(str(advice), stacklevel=2)

    def __call__(
        self,
        xs: Array,
        carry: tuple[Carry, ...],
        *,
        rule: Rule,
        resets: Bool[Array, "time *batch"] | None = None,
        mask: Bool[Array, "time *batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, tuple[Carry, ...]]:
        """Predict a chunk of timesteps; under ``jax.grad`` the derivative is the rule's.

        Args:
            xs: inputs, ``(time, [batch,] in_size)``.
            carry: from `init_carry` or the last call, one per layer.
            rule: the learning rule.
            resets, mask: passed to `recur`.
            key: PRNG key of the dropout, or one for every timestep, ``(time,)``; ``None`` for no
                dropout.

        Returns the predictions, ``(time, [batch,] out_size)``, and the new carry.

        Raises:
            ValueError: the dense encoder got integers, or what `recur` refuses.
        """
        dense_encoder = isinstance(getattr(self.encoder, "inner", self.encoder), eqx.nn.Linear)
        if dense_encoder and not jnp.issubdtype(xs.dtype, jnp.floating):
            raise ValueError(
                f"xs: expected floating-point features for the dense encoder, got {xs.dtype}. "
                "Convert them, or give an encoder that takes integers (such as eqx.nn.Embedding)."
            )
        axes = xs.ndim - (self.in_size is not None)
        keys = split(key, len(self.layers))
        xs = each(self.encoder, xs, axes=axes)
        after = []
        for layer, layer_carry, layer_key in zip(self.layers, carry, keys, strict=True):
            xs, layer_carry = layer(
                xs, layer_carry, rule=rule, resets=resets, mask=mask, key=layer_key
            )
            after.append(layer_carry)
        return each(self.decoder, xs, axes=axes), tuple(after)
