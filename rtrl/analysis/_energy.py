"""The curse of memory: how large states and their sensitivities are, in closed form.

For a linear recurrence ``h_t = lambda h_{t-1} + x_t`` of stationary input with autocorrelation
``R(D) = E x_t conj(x_{t-D})``, real. Everything follows from one function of two eigenvalues::

    f(a, b) = 1 / (1 - a b) * (R(0) + sum over D >= 1 of (a^D + b^D) R(D))
    E h_lambda conj(h_mu) = f(lambda, conj(mu))

An autocorrelation is an array of its values at the lags 0, 1, ..., beyond which it counts as zero,
or a number rho in [0, 1] that stands for ``rho^|D|`` at all lags.
"""

from typing import Any

import numpy as np
from jaxtyping import Complex, Float
from numpy.typing import ArrayLike

from rtrl.validate import require

Acf = ArrayLike | float


def state_energy(lam: ArrayLike, acf: Acf, *, gain: ArrayLike = 1.0) -> Float[np.ndarray, "..."]:
    """Give the energy of the state of a linear recurrence.

    ::

        E|h|^2 = gain^2 / (1 - |lambda|^2) * (R(0) + 2 Re sum over D >= 1 of lambda^D R(D))
               = gain^2 (1 - rho^2 |lambda|^2) / (|1 - rho lambda|^2 (1 - |lambda|^2))

    the second for ``R(D) = rho^|D|``.

    Args:
        lam: eigenvalues, real or complex, ``|lambda| < 1``.
        acf: R(0), R(1), ... of a scalar input, ``(lags,)``; or rho.
        gain: of the input, which normalises; ``sqrt(1 - |lambda|^2)`` in an `LRU`.

    Raises:
        ValueError: an eigenvalue outside of the unit disk, or no autocorrelation.

    Source: Zucchet's thesis, equations 3.5 (real), A.34 (complex), A.37 (rho) and A.66 (gain).
    """
    lam = _eigenvalues(lam)
    return np.asarray(gain) ** 2 * np.real(_cross(lam, np.conj(lam), acf)[0])


def sensitivity_energy(
    lam: ArrayLike, acf: Acf, *, gain: ArrayLike = 1.0, slope: ArrayLike = 1.0
) -> Float[np.ndarray, "..."]:
    """Give the energy of the state's sensitivity to its eigenvalue, or to what it is made of.

    ::

        E|dh/dlambda|^2 = (1 + |lambda|^2) / (1 - |lambda|^2)^3 (R(0) + 2 Re sum of lambda^D R(D))
                        + 2 / (1 - |lambda|^2)^2 Re sum over D >= 1 of D lambda^D R(D)
        E|dh/domega|^2  = gain^2 |slope|^2 E|dh/dlambda|^2,     slope = dlambda/domega

    Args:
        lam, acf, gain: as for `state_energy`; the gain is held fixed as lambda moves.
        slope: dlambda/domega of a parameter omega of the eigenvalue.

    Raises:
        ValueError: an eigenvalue outside of the unit disk, or no autocorrelation.

    Source: Zucchet's thesis, equations 3.6 (real), A.46 (complex) and A.68. Its equation A.72 has
    a quarter of this for the polar form: there a derivative by a complex number is taken by half.
    Its equation A.48, of rho, as printed agrees with A.46 at rho = 0 and 1 only; sampled traces
    bear A.46 out.
    """
    lam = _eigenvalues(lam)
    scale = np.asarray(gain) ** 2 * np.abs(np.asarray(slope)) ** 2
    return scale * np.real(_cross(lam, np.conj(lam), acf)[3])


def lru_energies(lam: ArrayLike, acf: Acf) -> dict[str, Float[np.ndarray, "..."]]:
    """Give the energies of the state of an `LRU` and of its sensitivities, by parameter.

    ::

        lambda = exp(-nu + i theta),   gain = sqrt(1 - |lambda|^2)
        E|dh/dnu_log|^2    = gain^2 |lambda|^2 nu^2    E|dh/dlambda|^2
        E|dh/dtheta_log|^2 = gain^2 |lambda|^2 theta^2 E|dh/dlambda|^2
        E|dh/dgamma_log|^2 = E|h|^2

    Input normalisation and the exponential of ``nu_log`` hold the first two of these where they
    are as memory grows, if the input is white; nothing holds the angle's.

    Args:
        lam, acf: as for `state_energy`; the phase of lambda is taken in [0, 2 pi).

    Returns the energies by name: ``state``, ``nu_log``, ``theta_log``, ``gamma_log``.

    Raises:
        ValueError: an eigenvalue outside of the unit disk, or no autocorrelation.

    Source: Zucchet's thesis, section A.2.3.
    """
    lam = np.asarray(lam, complex)
    r, theta = np.abs(lam), np.angle(lam) % (2 * np.pi)
    gain = np.sqrt(1 - r**2)
    state = state_energy(lam, acf, gain=gain)
    nu = -np.log(np.where(r > 0, r, 1))
    return {
        "state": state,
        "nu_log": sensitivity_energy(lam, acf, gain=gain, slope=r * nu),
        "theta_log": sensitivity_energy(lam, acf, gain=gain, slope=r * theta),
        "gamma_log": state,
    }


def gated_energies(lam: ArrayLike, acf: Acf) -> tuple[np.ndarray, np.ndarray]:
    """Give the energies of the state of a gated recurrence and of its sensitivity to its gate.

    ::

        h_t = lambda h_{t-1} + (1 - lambda) x_t,    g(a, b) = (1 - a)(1 - b) f(a, b)
        E|h|^2 = g(lambda, lambda),   E|dh/dlambda|^2 = d^2 g / da db  at  a = b = lambda

    By a gate's bias: ``dlambda/db = lambda (1 - lambda)``, its square a factor of the second.

    Args:
        lam: what the gate holds, real, in [0, 1).
        acf: as for `state_energy`.

    Returns both, of the shape of ``lam``.

    Raises:
        ValueError: an eigenvalue outside of the unit disk, or no autocorrelation.

    Source: Zucchet's thesis, equations A.147-A.149.
    """
    lam = np.asarray(_eigenvalues(lam), float)
    f, f_a, f_b, f_ab = (np.real(v) for v in _cross(lam, lam, acf))
    rest = 1 - lam
    return rest**2 * f, f - rest * f_a - rest * f_b + rest**2 * f_ab


def teacher_loss(lam: ArrayLike, teacher: ArrayLike, acf: Acf) -> Float[np.ndarray, "..."]:
    """Give the loss of a one-dimensional student whose eigenvalue is not its teacher's.

    ::

        L = E|h_lambda - h_teacher|^2 / 2
          = (f(lambda, conj lambda) + f(mu, conj mu)) / 2 - Re f(lambda, conj mu),    mu = teacher

    Args:
        lam: the student's eigenvalues.
        teacher: the teacher's, broadcast with them.
        acf: as for `state_energy`.

    Raises:
        ValueError: an eigenvalue outside of the unit disk, or no autocorrelation.

    Source: Zucchet's thesis, equation A.75, for long sequences.
    """
    lam, mu = np.broadcast_arrays(_eigenvalues(lam), _eigenvalues(teacher))
    between = np.real(_cross(lam, np.conj(mu), acf)[0])
    return (state_energy(lam, acf) + state_energy(mu, acf)) / 2 - between


def autocorrelation(xs: ArrayLike, lags: int) -> Float[np.ndarray, " lags"]:
    """Give the empirical autocorrelation of a scalar series, or the mean over several.

    ::

        R(D) = mean over t and samples of x_t x_{t+D}

    Args:
        xs: ``(time, [batch])``; nothing is subtracted.
        lags: how many, from 0; at most the length.

    Raises:
        ValueError: more lags than timesteps.

    Source: Zucchet's thesis, equation A.64.
    """
    x = np.asarray(xs, np.float64)
    require(1 <= lags <= len(x), "lags", f"from 1 to the {len(x)} timesteps", lags)
    return np.array([(x[: len(x) - lag] * x[lag:]).mean() for lag in range(lags)])


def _eigenvalues(lam: ArrayLike) -> np.ndarray:
    lam = np.asarray(lam)
    require(bool((np.abs(lam) < 1).all()), "lam", "eigenvalues inside of the unit disk", lam)
    return lam


def _cross(
    a: np.ndarray, b: np.ndarray, acf: Acf
) -> tuple[Complex[np.ndarray, "..."], Any, Any, Any]:
    """f(a, b) and its derivatives by a, by b, and by both."""
    past_a, slope_a = _sums(a, acf)
    past_b, slope_b = _sums(b, acf)
    values = np.atleast_1d(np.asarray(acf, float))
    R0 = 1.0 if np.ndim(acf) == 0 else values[0]
    total, left = R0 + past_a + past_b, 1 / (1 - a * b)
    f_a = b * left**2 * total + left * slope_a
    f_b = a * left**2 * total + left * slope_b
    f_ab = (1 + a * b) * left**3 * total + left**2 * (a * slope_a + b * slope_b)
    return left * total, f_a, f_b, f_ab


def _sums(a: np.ndarray, acf: Acf) -> tuple[np.ndarray, np.ndarray]:
    """``sum over D >= 1 of a^D R(D)``, and its derivative by a."""
    if np.ndim(acf) == 0:
        rho = float(np.asarray(acf))
        require(0 <= rho <= 1, "acf", "a correlation rho in [0, 1], or an array", rho)
        return rho * a / (1 - rho * a), rho / (1 - rho * a) ** 2
    R = np.asarray(acf, float)
    require(R.ndim == 1 and len(R) >= 1, "acf", "R(0), R(1), ..., (lags,)", R.shape)
    past, slope = np.zeros_like(a * 1.0), np.zeros_like(a * 1.0)
    for value in R[:0:-1]:  # Horner, from the farthest lag: no power underflows on its own
        past, slope = a * (value + past), value + past + a * slope
    return past, slope


def draw_curse(ax: Any, rhos: ArrayLike = (0.0, 0.5, 0.9, 0.99, 1.0)) -> None:
    """Draw how a state's sensitivity to its eigenvalue grows with its memory (figure 3.1.A).

    Args:
        ax: axes of matplotlib.
        rhos: correlations of the input from one timestep to the next.
    """
    tau = np.logspace(0, 4, 200)
    lam = np.exp(-1 / tau)
    for i, rho in enumerate(np.atleast_1d(np.asarray(rhos, float))):
        ax.plot(tau, sensitivity_energy(lam, rho), color=f"C{i}", label=f"ρ = {rho:g}")
    ax.plot(tau, state_energy(lam, 1.0), color="0.5", ls="--", label="the state, ρ = 1")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(title="The curse of memory", xlabel="memory -1 / log|λ|, timesteps", ylabel="E |dh/dλ|²")
    ax.legend(frameon=False)


def draw_remedies(ax: Any, rhos: ArrayLike = (0.0, 0.5, 0.99), phase: float = 0.1) -> None:
    """Draw what an `LRU`'s normalisation and parametrisation leave of it (figure 3.2.B).

    Args:
        ax: axes of matplotlib.
        rhos: correlations of the input from one timestep to the next.
        phase: of the eigenvalue, radians, for the angle's sensitivity.
    """
    tau = np.logspace(0, 4, 200)
    lam = np.exp(-1 / tau + 1j * phase)
    for i, rho in enumerate(np.atleast_1d(np.asarray(rhos, float))):
        energies = lru_energies(lam, rho)
        ax.plot(tau, energies["nu_log"], color=f"C{i}", label=f"modulus, ρ = {rho:g}")
        ax.plot(tau, energies["theta_log"], color=f"C{i}", ls="--", label=f"angle, ρ = {rho:g}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(title=f"Sensitivities of an LRU (phase {phase:g})", ylabel="E |dh/dω|²",
           xlabel="memory -1 / log|λ|, timesteps")  # fmt: skip
    ax.legend(frameon=False)


def draw_landscape(ax: Any, teachers: ArrayLike = (0.5, 0.9, 0.99), acf: Acf = 0.0) -> None:
    """Draw the loss of a one-dimensional student along the real axis (figure 3.1.B).

    Args:
        ax: axes of matplotlib.
        teachers: their eigenvalues.
        acf: as for `state_energy`.
    """
    lam = np.concatenate([np.linspace(0, 0.9, 300), 1 - np.logspace(-1, -4, 300)])
    for i, teacher in enumerate(np.atleast_1d(np.asarray(teachers, float))):
        loss = teacher_loss(lam, teacher, acf) / state_energy(teacher, acf)
        ax.plot(lam, loss, color=f"C{i}", label=f"teacher {teacher:g}")
    ax.set(title="Loss of a student with another memory", xlabel="λ", ylabel="loss / E|h|²",
           ylim=(0, 2))  # fmt: skip
    ax.legend(frameon=False)
