"""The contract of an expert."""

from typing import Any, Protocol

from jaxtyping import Array, Float, PyTree

from rtrl.streams.experts._features import Features, Sizes


class Expert(Protocol):
    """One way, or several of a kind, to forecast the change of a target.

    A new expert is a file with an `equinox.Module` that has these functions: pure, compiled, of
    static shapes. Whatever it needs of a row when its target comes, ``ahead`` rows later, it gives
    as ``kept``; everything else lives in its state.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """One for every member: what tables and pictures call it."""
        ...

    def init(self, sizes: Sizes, key: Array) -> PyTree:
        """Give the state before the first row.

        Args:
            sizes: what it is built for.
            key: for random numbers.
        """
        ...

    def predict(
        self, state: Any, features: Features
    ) -> tuple[Float[Array, " members"], PyTree, PyTree]:
        """Give the forecasts of a row, what is kept of it, and the new state.

        Args:
            state: from `init`, or the last call of either function.
            features: of the row.
        """
        ...

    def learn(
        self, state: Any, kept: PyTree, target: Float[Array, ""], weight: Float[Array, ""]
    ) -> PyTree:
        """Give the state after a target has come.

        Args:
            state: the newest.
            kept: as `predict` gave it, ``ahead`` rows before.
            target: the change that came true; 0 where it is missing.
            weight: 0 where the target is missing, or nothing had been kept.
        """
        ...
