"""Will it blow up or vanish over a sequence? Advice on a cell's initialisation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float, PyTree

from rtrl.analysis._layers import layer_of
from rtrl.cells import Cell, is_cell, is_dense
from rtrl.engine import Modules
from rtrl.validate import require, require_integer

#: Of timesteps over the square root of the width, between which finite width begins to show: there
#: the energy is 1.01 and 1.4 times that of infinite width.
CRITICAL = (0.7, 1.7)
KEPT = 10.0  # times: growth of the energy over the sequence that is called blowing up
SLOW = 1 / 3  # of the sequence: a time scale that reaches its end still holds 5% of its beginning


class Advice(NamedTuple):
    """What a cell's recurrence does over a sequence, linearised at rest; made by `advise`.

    Attributes:
        where: the layer, ``""`` for a cell by itself.
        cell: the class of the cell.
        length: T, timesteps.
        width: n, modules.
        regime: ``"modular"`` where modules do not see each other, which has no finite-width effect;
            else by ``T / sqrt(n)``: ``"subcritical"``, ``"critical"`` or ``"supercritical"``.
        radius: the largest modulus of an eigenvalue.
        reach: the longest time scale, timesteps; infinite where a mode does not decay.
        energy_log10: log10 of the energy that T steps keep, ``tr (F^T)^* F^T / n`` with the
            Jacobian F at rest.
        peak_log10: log10 of the largest such energy on the way.
        sensitivity_log10: log10 of ``E |dh/dlambda|^2`` of the slowest mode for white input.
        verdict: ``"blows up"``, ``"vanishes"``, or ``"holds"``.
        better_radius: a largest modulus that would do; the present one where all is well.
        says: all this in words.
    """

    where: str
    cell: str
    length: int
    width: int
    regime: str
    radius: float
    reach: float
    energy_log10: float
    peak_log10: float
    sensitivity_log10: float
    verdict: str
    better_radius: float
    says: str

    def __str__(self) -> str:
        return self.says


def advise(cell_or_model: PyTree, length: int) -> Any:
    """Say what a cell or network, as initialised, does over a sequence, and a better radius.

    ::

        h_t = F h_{t-1} + ...,   F = dh_t/dh_{t-1} at rest;   energy(T) = tr (F^T)^* F^T / n

    A recurrence whose modules see each other leaves the theory of infinite width at
    ``T ~ sqrt(n)`` (`ginibre_energy`); one whose modules do not, never. It *blows up* if an
    energy on the way exceeds ten times its beginning, *vanishes* if no mode holds 5% of
    its beginning to the end (no time scale reaches a third of the sequence), and *holds* otherwise.
    A better radius: where it blows up, the one at which the energy after T steps is 1 (at
    most 1); where it vanishes, ``exp(-1 / T)``, a time scale of the length of the sequence.

    Args:
        cell_or_model: a cell, or any pytree that holds cells.
        length: T, timesteps.

    Returns:
        For a cell its `Advice`; for anything else a tuple with one for each cell, in their order.

    Raises:
        ValueError: a length below 1, or a tree without cells.

    A network warns of it by itself when it is made, where asked: see the ``advise`` of
    `rtrl.SequenceModel`.

    Source: Seleznova, arXiv:2605.05113; for the sensitivity Zucchet's thesis, equation A.49.
    """
    require_integer(length, "length", 1, "(timesteps)")
    if isinstance(cell_or_model, Cell):
        return _advise(cell_or_model, length, "")
    nodes = jax.tree_util.tree_leaves_with_path(cell_or_model, is_leaf=is_cell)
    cells = [(layer_of(path), node) for path, node in nodes if is_cell(node)]
    require(bool(cells), "cell_or_model", "one that holds cells", type(cell_or_model).__name__)
    return tuple(_advise(cell, length, name) for name, cell in cells)


def jacobian_at_rest(cell: Cell) -> Complex[np.ndarray, "dN dN"]:
    """Give dh_t/dh_{t-1} of a whole cell at its initial state and without input.

    ::

        F = D + sum over U of J^U U slope

    Args:
        cell: any cell; the state's numbers are ordered d first, then modules.
    """
    m = Modules(cell)
    _, w = m.example()
    h = m.initial
    count = len(m.weights())
    w = (*w[:count], *(v[0, 0] for v in m.recurrent_inputs(h[None, None])))
    D = np.asarray(jax.jit(m.decay)(h, w))
    d, _, n = D.shape
    F = np.zeros((d, n, d, n), complex)
    index = np.arange(n)
    F[:, index, :, index] = np.moveaxis(D, -1, 0)
    if m.recurrent():
        slope = np.asarray(m.slope(h))
        for p, U in enumerate(m.recurrent(), count):
            J = np.asarray(m.gain(h, w, p))
            F += np.einsum("in,nm,jm->injm", J, np.asarray(jnp.broadcast_to(U, (n, n))), slope)
    return F.reshape(d * n, d * n)


def energies_log10(F: Complex[np.ndarray, "n n"], length: int) -> Float[np.ndarray, " T"]:
    """Give log10 of ``tr (F^k)^* F^k / n`` for k = 1 .. T, scaled along the way.

    Args:
        F: a matrix.
        length: T.
    """
    n = len(F)
    if not np.any(F - np.diag(np.diag(F))):
        with np.errstate(divide="ignore"):
            logs = 2 * np.log(np.abs(np.diag(F)))
        by_mode = np.arange(1, length + 1)[:, None] * logs
        return (np.logaddexp.reduce(by_mode, axis=1) - np.log(n)) / np.log(10)
    P, scale, out = np.eye(n, dtype=F.dtype), 0.0, np.empty(length)
    for k in range(length):
        P = F @ P
        size = np.linalg.norm(P)
        if size == 0:
            out[k:] = -np.inf
            break
        P, scale = P / size, scale + np.log(size)
        out[k] = (2 * scale - np.log(n)) / np.log(10)
    return out


def _advise(cell: Cell, length: int, where: str) -> Advice:
    F = jacobian_at_rest(cell)
    n = Modules(cell).initial.shape[1]
    moduli = np.sort(np.abs(np.linalg.eigvals(F)))[::-1]
    radius = float(moduli[0])
    energies = energies_log10(F, length)
    end, peak = float(energies[-1]), float(energies.max())
    with np.errstate(divide="ignore"):
        reach = float(-1 / np.log(radius)) if 0 < radius < 1 else (0.0 if radius == 0 else np.inf)
    c = length / np.sqrt(n)
    regime = "modular"
    if is_dense(cell):
        names = ("subcritical", "critical", "supercritical")
        regime = names[int(c > CRITICAL[0]) + int(c > CRITICAL[1])]
    verdict, better = "holds", radius
    if peak > np.log10(KEPT):
        verdict = "blows up"
        # F scaled by s has the energy s^(2T) times as large.
        better = min(radius * 10 ** (-end / (2 * length)), 1.0) if end > 0 else min(radius, 1.0)
    elif reach < SLOW * length:
        verdict, better = "vanishes", float(np.exp(-1 / length))
    r2 = min(radius, 1 - 1e-12) ** 2
    sensitivity = float(np.log10((1 + r2) / (1 - r2) ** 3))
    says = _words(cell, where, length, n, c, regime, radius, reach, end, peak, verdict, better)
    return Advice(
        where, type(cell).__name__, length, n, regime, radius, reach, end, peak, sensitivity,
        verdict, better, says,
    )  # fmt: skip


def _words(cell, where, length, n, c, regime, radius, reach, end, peak, verdict, better) -> str:
    name = f"{where} ({type(cell).__name__})" if where else type(cell).__name__
    kind = {
        "modular": "see nothing of each other, so that width does not matter",
        "subcritical": f"keep to the theory of infinite width (T / sqrt(n) = {c:.2g})",
        "critical": f"begin to show their finite width (T / sqrt(n) = {c:.2g})",
        "supercritical": f"are beyond the theory of infinite width (T / sqrt(n) = {c:.2g})",
    }[regime]
    first = f"{name} over {length:,} timesteps: {verdict}; its {n} modules {kind}."
    shown = f"{reach:,.3g} timesteps" if np.isfinite(reach) else "for ever"
    second = (
        f" Largest eigenvalue {radius:.5g} (remembers {shown}), energy after the sequence "
        f"10^{end:.2g} of its beginning, at most 10^{peak:.2g} on the way."
    )
    third = {
        "blows up": f" States and gradients blow up: scale the recurrence so that its largest "
        f"eigenvalue is {better:.5g}.",
        "vanishes": f" What came first is gone before the end: a largest eigenvalue of "
        f"{better:.5g} (a time scale of {length:,}) would keep it.",
        "holds": "",
    }[verdict]
    return first + second + third
