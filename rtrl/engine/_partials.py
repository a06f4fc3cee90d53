"""One timestep, differentiated: what traces are made of."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Inexact


class Partials(NamedTuple):
    """One timestep, differentiated (leading axes: time and batch, 1 where all would be alike).

    Attributes:
        D: dh_t/dh_{t-1} with everything projected held fixed, ``(..., d, d, N)``.
        J: dh_t/du_t for every projection, then dh_t/dv_t for every recurrent one, ``(..., d, N)``.
        E: dh_t/dtheta for every module parameter by name, ``(..., d, N)``.
        inputs: the vector that every projection multiplies, input ones first, ``(time, batch, H)``;
            ``None`` for one without a weight.
        recurrent: weights of the recurrent projections, ``(N, N)`` or ``(1, N)``; where modules are
            spread over devices, those between the modules of this one.
        slope: doutput/dh_{t-1}, how the modules see each other, ``(..., d, N)``; ``None`` if they
            are independent.
        resets: where a timestep begins a sequence, ``(time, batch)``, ``None`` if none does. There
            D and the slope are zero; but zero times a trace that overflowed is NaN, so that what
            came before is left out by choice, not by multiplication.
    """

    D: Inexact[Array, "*t d d N"]
    J: tuple[Inexact[Array, "*t d N"], ...]
    E: dict[str, Inexact[Array, "*t d N"]]
    inputs: tuple[Array | None, ...]
    recurrent: tuple[Array, ...]
    slope: Array | None
    resets: Bool[Array, "*t"] | None = None

    @property
    def first_recurrent(self) -> int:
        """Where in J and inputs the recurrent projections begin."""
        return len(self.J) - len(self.recurrent)
