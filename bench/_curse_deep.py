"""Figure 3.5: states and gradients of deep recurrent stacks as initialised, by their memory."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _curse_linear import squared_error

import rtrl

NU0 = (0.5, 0.8, 0.9, 0.96, 0.99, 0.997)
SIZE, N, LAYERS, LENGTH, BATCH = 8, 32, 4, 512, 8
STACKS = ("complex diagonal", "LRU", "S4D", "GRU", "complex diagonal + layer norm")


def cell_of(kind: str, nu0: float):
    """Make cells whose moduli lie in [nu0, (1 + nu0) / 2]."""
    far = (1 + nu0) / 2
    cells = rtrl.cells
    return {
        "complex diagonal": lambda s, k: cells.ComplexDiagonal(s, N, r_min=nu0, r_max=far, key=k),
        "LRU": lambda s, k: cells.LRU(s, N, r_min=nu0, r_max=far, key=k),
        # |lambda| = exp(-delta / 2) as S4D begins
        "S4D": lambda s, k: cells.S4D(
            s, N, delta_min=-2 * np.log(far), delta_max=-2 * np.log(nu0), key=k
        ),
        "GRU": lambda s, k: cells.GRU(s, N, nu0=nu0, key=k),
    }[kind]


def noise() -> np.ndarray:
    """Noise with the autocorrelation that the thesis finds in sentences (figure A.7)."""
    rng = np.random.default_rng(0)
    white, slow = rng.normal(size=(2, LENGTH + 1, BATCH, SIZE))
    for t in range(1, len(slow)):
        slow[t] = 0.997 * slow[t - 1] + np.sqrt(1 - 0.997**2) * slow[t]
    return np.sqrt(0.332) * white + np.sqrt(0.044) * slow


def deep(stack: str) -> list[dict[str, Any]]:
    """States and gradients of one stack for every nu0."""
    x = noise()
    xs, ys = jnp.asarray(x[:-1], jnp.float32), jnp.asarray(x[1:], jnp.float32)
    kind, _, norm = stack.partition(" + ")
    rule, rows = rtrl.BPTT(), []
    for nu0 in NU0:
        model = rtrl.SequenceModel(
            SIZE, SIZE, N, LAYERS, cell_of(kind, nu0), norm="pre" if norm else None,
            key=jax.random.key(0),
        )  # fmt: skip
        grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, weights=np.full(LENGTH, 1 / LENGTH)
        )[1]
        after = eqx.filter_jit(lambda m: m(xs, rtrl.init_carry(m, rule, BATCH), rule=rule)[1])(
            model
        )
        energy = [float((jnp.abs(c.state) ** 2).mean()) for c in after]
        groups: dict[str, list] = {}
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            groups.setdefault(group_of(jax.tree_util.keystr(path)), []).append(
                np.asarray(g, float).ravel() ** 2
            )
        rows.append({
            "cell": stack, "nu0": nu0, "first": energy[0], "fourth": energy[-1],
            "gradients": {k: float(np.concatenate(v).mean()) for k, v in groups.items()},
        })  # fmt: skip
    return rows


def group_of(path: str) -> str:
    """The group of a parameter: what turns, what decays, what sets both, and the rest."""
    if ".cell." not in path:
        return "feedforward"
    return {
        "lambda_re": "recurrent", "lambda_im": "recurrent", "nu_log": "modulus", "w_re": "modulus",
        "theta_log": "angle", "w_im": "angle", "w_delta": "step",
    }.get(path.rsplit(".", 1)[-1], "other of the cell")  # fmt: skip
