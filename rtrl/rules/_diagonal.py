"""What rules with a trace of one number per parameter share."""

import abc
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from rtrl.engine import (
    Gradients,
    LocalRule,
    Modules,
    Partials,
    Trace,
    structure,
    with_trace,
    with_window,
)
from rtrl.validate import require

ErrorPath = Literal["chunk", "timestep"]


def check_errors(errors: str) -> None:
    require(errors in ("chunk", "timestep"), "errors", "'chunk' or 'timestep'", errors)


class DiagonalRule(LocalRule):
    """A rule whose trace decays module by module, ``s_t = D_t s_{t-1} + immediate``.

    A rule says what D is (`decay`). ``errors`` is the path of errors to the layers below:
    ``"timestep"``, through the same timestep only, or ``"chunk"``, also back in time inside a
    chunk. ``implementation`` is that of the trace's update: ``None`` for the fused kernel on a GPU
    where it works and pays and XLA everywhere else, or ``"xla"``, ``"pallas"`` or
    ``"pallas_interpret"``.
    """

    errors: ErrorPath = "chunk"
    implementation: str | None = eqx.field(default=None, kw_only=True, static=True)

    trace_type: ClassVar[type] = Trace

    def __check_init__(self):
        check_errors(self.errors)
        require(
            self.implementation in (None, "xla", "pallas", "pallas_interpret"),
            "implementation",
            "None, 'xla', 'pallas' or 'pallas_interpret'",
            self.implementation,
        )

    @abc.abstractmethod
    def decay(self, partials: Partials) -> Array:
        """Give D, ``(..., d, d, N)``.

        Args:
            partials: the one-step derivatives, D among them with the recurrent input held fixed.
        """

    def local(
        self, trace: Trace, partials: Partials, deltas: Array
    ) -> tuple[Gradients, Trace, Array]:
        return self._local(trace, partials, deltas, consume=False)

    def consume(
        self, trace: Trace, partials: Partials, deltas: Array
    ) -> tuple[Gradients, Trace, Array]:
        return self._local(trace, partials, deltas, consume=True)

    def reaches_back(self) -> bool:
        return self.errors == "chunk"

    def over_window(
        self,
        trace: Trace,
        partials: Partials,
        deltas: Array,
        *,
        advance: int,
        consume: bool = False,
    ) -> tuple[Gradients, Trace, Array]:
        partials = partials._replace(D=self.decay(partials))
        return with_window(trace, partials, deltas, advance, self.implementation, consume=consume)

    def _local(self, trace, partials, deltas, *, consume: bool) -> tuple[Gradients, Trace, Array]:
        # The rules of this family differ in D alone: with another one in its place all else is
        # shared, the fused kernel too.
        partials = partials._replace(D=self.decay(partials))
        gradients, trace, errors = with_trace(
            trace, partials, deltas, self.implementation, consume=consume
        )
        # e_k, or delta_k: what the layer below gets as its error is the whole difference.
        return gradients, trace, errors if self.errors == "chunk" else deltas

    def label(self, chunk: int | None = None) -> str:
        name = type(self).__name__
        # In chunks of one timestep the two paths of errors are the same.
        return name if chunk == 1 else f"{name}, {self.errors} errors"

    def init_trace(self, cell: Any, parameters: int, batch_size: int | None) -> Trace:
        modules = Modules(cell)
        batch = () if batch_size is None else (batch_size,)
        d, n = modules.initial.shape

        def zeros(*shape: int) -> Array:
            return jnp.zeros((*batch, d, n, *shape), modules.dtype)

        weights = (*modules.weights(), *modules.recurrent())
        return Trace(
            # N rows also for a (1, H) weight: its product is shared, but each module's state
            # answers to it in its own way.
            tuple(None if w is None else zeros(w.shape[1]) for w in weights),
            {modules.names[i]: zeros() for i in structure(modules).module_leaves},
        )
