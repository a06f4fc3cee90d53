"""Figure 3.1: the sensitivity to an eigenvalue, through our own cells and their RTRL traces."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rtrl
from rtrl import analysis

MODULI = (0.5, 0.9, 0.97, 0.99)
RHOS = (0.0, 0.9, 1.0)
SAMPLES, LENGTH = 500, 1500


def sampled_energies() -> list[dict]:
    """E|dh/dlambda|^2 through our own cell and its RTRL trace, beside the closed form."""
    rows, lam = [], np.array(MODULI)
    for rho in RHOS:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(LENGTH, SAMPLES))
        for t in range(1, len(x)):
            x[t] = rho * x[t - 1] + np.sqrt(1 - rho**2) * x[t]
        cell = rtrl.cells.ComplexDiagonal(1, len(lam), key=jax.random.key(0))
        fields = lambda c: (c.lambda_re, c.lambda_im, c.B_re, c.B_im)  # noqa: E731
        values = (lam, 0 * lam, np.ones((len(lam), 1)), np.zeros((len(lam), 1)))
        cell = eqx.tree_at(fields, cell, tuple(jnp.asarray(v, jnp.float32) for v in values))
        rule = rtrl.RTRL()
        run = eqx.filter_jit(lambda x, c, cell=cell, r=rule: rtrl.recur(cell, x, c, rule=r)[1])
        carry = rtrl.init_carry(cell, rule, SAMPLES)
        for part in np.split(x, 3):
            carry = run(jnp.asarray(part[:, :, None], jnp.float32), carry)
        energy = np.abs(np.asarray(carry.trace.modules["lambda_re"][:, 0], complex)) ** 2
        expected = analysis.sensitivity_energy(lam, rho)
        for i, value in enumerate(lam):
            rows.append({
                "lambda": float(value), "rho": rho, "closed form": float(expected[i]),
                "sampled": float(energy[:, i].mean()),
                "error": float(energy[:, i].std() / np.sqrt(SAMPLES)),
            })  # fmt: skip
    return rows
