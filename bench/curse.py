"""The curse of memory, from our own runs: figures 3.1, 3.3, 3.4 and 3.5 of Zucchet's thesis.

    python bench/curse.py     what is missing is computed; then the table and the pictures

Short versions: 3.1 (energies sampled through our cells and their RTRL traces; landscapes in closed
form); 3.3 (teachers of 10 linear neurons whose eigenvalues have moduli near nu0; students of 32,
LRU, complex diagonal, block diagonal and dense, trained by BPTT and online in chunks of 10, the
better of two rates each, 120 batches, one seed; the thesis: 64 neurons, 10,000 steps); 3.4 (the
Hessian at the optimum of a dense and a complex diagonal student that compute the same, how its top
eigenvectors lie to the axes, and Adam's rates as they act); 3.5 (four layers as initialised, states
and gradients by nu0; correlated noise in place of sentences). Ten minutes.

Writes bench/results/analysis/curse_*.json, curse.md and curse_*.png.
"""

import argparse
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _analysis_runs import RESULTS, kept
from jax.flatten_util import ravel_pytree

import rtrl
from rtrl import analysis

COMMAND = "python bench/curse.py"
STUDENTS = ("LRU", "complex diagonal", "block diagonal", "dense")
NU0 = (0.5, 0.9, 0.98)
LENGTH, BATCH, STEPS, N_TEACHER, N_STUDENT = 150, 16, 120, 10, 32
RATES = (1e-3, 1e-2)
SEEDS = (0,)
VERDICT = """\
Agrees with the thesis: sensitivities grow as the closed forms say; dense linear students fail
as the teacher's memory grows and modular ones do not, trained online too; at an optimum of the
same function the dense Hessian's top eigenvectors lie on more parameters than the complex
diagonal's, and Adam's rates there are smaller; in deep stacks the complex diagonal explodes,
most of all in its recurrent parameters, the LRU only in its angle, the GRU not at all, and
layer norm holds back what is not recurrent. Does not, or is not shown: with 120 batches the LRU
is not ahead of the complex or block diagonal; layer norm does not hold the recurrent gradients;
of the top ten eigenvectors the last few have eigenvalues of nothing. SnAp-1 of a dense linear
RNN diverges here at both rates. Not done: the ablation of figure 3.3.B, S4, the LRU's Hessian,
10,000 steps, more rates and seeds."""
DEEP_NU0 = (0.5, 0.8, 0.9, 0.96, 0.99, 0.997)


def squared_error(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


class Linear(eqx.Module):
    """A cell and a linear readout, nothing else: y = Re(C h) + D x."""

    cell: rtrl.Cell
    readout: rtrl.Readout
    recurs_once = True
    in_size: int = eqx.field(static=True, default=1)

    def __call__(self, xs, carry, *, rule, resets=None, mask=None, key=None):
        hs, after = rtrl.recur(self.cell, xs, carry[0], rule=rule, resets=resets, mask=mask)
        return jax.vmap(jax.vmap(self.readout))(hs, xs), (after,)


def linear(kind: str, n: int, nu0: float, key: Any) -> Linear:
    cell_key, readout_key = jax.random.split(key)
    cell = {
        "LRU": lambda: rtrl.cells.LRU(1, n, r_min=nu0, r_max=1.0, key=cell_key),
        "complex diagonal": lambda: rtrl.cells.ComplexDiagonal(
            1, n, r_min=nu0, r_max=1.0, key=cell_key
        ),
        "block diagonal": lambda: rtrl.cells.BlockDiagonal(
            1, n, block_size=2, r_min=nu0, r_max=1.0, key=cell_key
        ),
        "dense": lambda: rtrl.cells.LinearRNN(1, n, nu0=nu0, key=cell_key),
    }[kind]()
    return Linear(cell, rtrl.Readout(cell, 1, key=readout_key))


# Figure 3.1 ---------------------------------------------------------------------------------------


def sampled_energies() -> list[dict]:
    """E|dh/dlambda|^2 through our own cell and its RTRL trace, beside the closed form."""
    rows = []
    lam = np.array([0.5, 0.9, 0.97, 0.99])
    for rho in (0.0, 0.9, 1.0):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(1500, 500))
        for t in range(1, len(x)):
            x[t] = rho * x[t - 1] + np.sqrt(1 - rho**2) * x[t]
        cell = rtrl.cells.ComplexDiagonal(1, len(lam), key=jax.random.key(0))
        fields = lambda c: (c.lambda_re, c.lambda_im, c.B_re, c.B_im)  # noqa: E731
        values = (lam, 0 * lam, np.ones((len(lam), 1)), np.zeros((len(lam), 1)))
        cell = eqx.tree_at(fields, cell, tuple(jnp.asarray(v, jnp.float32) for v in values))
        rule = rtrl.RTRL()
        run = eqx.filter_jit(lambda x, c, cell=cell, r=rule: rtrl.recur(cell, x, c, rule=r)[1])
        carry = rtrl.init_carry(cell, rule, 500)
        for part in np.split(x, 3):
            carry = run(jnp.asarray(part[:, :, None], jnp.float32), carry)
        energy = np.abs(np.asarray(carry.trace.modules["lambda_re"][:, 0], complex)) ** 2
        expected = analysis.sensitivity_energy(lam, rho)
        for i, value in enumerate(lam):
            rows.append({
                "lambda": float(value), "rho": rho, "closed form": float(expected[i]),
                "sampled": float(energy[:, i].mean()),
                "error": float(energy[:, i].std() / np.sqrt(500)),
            })  # fmt: skip
    return rows


# Figure 3.3 ---------------------------------------------------------------------------------------


def teacher_data(teacher: Linear, rng: np.random.Generator):
    xs = jnp.asarray(rng.normal(size=(LENGTH, BATCH, 1)), jnp.float32)
    rule = rtrl.BPTT()
    return xs, teacher(xs, rtrl.init_carry(teacher, rule, BATCH), rule=rule)[0]


def train(kind: str, nu0: float, method: str, rate: float, seed: int) -> float:
    """Mean squared error over the variance of the target, over the last tenth of the updates."""
    key = jax.random.key(seed)
    teacher = linear("dense", N_TEACHER, nu0, jax.random.fold_in(key, 1))
    student = linear(kind, N_STUDENT, nu0, jax.random.fold_in(key, 2))
    online = method == "online"
    rule = (rtrl.SnAp1() if kind == "dense" else rtrl.RTRL()) if online else rtrl.BPTT()
    chunk = LENGTH // 15 if online else LENGTH
    updates = STEPS * (LENGTH // chunk)
    learner = rtrl.OnlineLearner(
        squared_error, optax.adam(optax.cosine_decay_schedule(rate, updates)), rule=rule
    )
    state = learner.init(student, BATCH)
    resets, weights = np.zeros(LENGTH, bool), np.full(LENGTH, 1 / LENGTH)
    resets[0] = True
    rng, late, make = np.random.default_rng(seed), [], eqx.filter_jit(teacher_data_of)
    for step in range(STEPS):
        xs = jnp.asarray(rng.normal(size=(LENGTH, BATCH, 1)), jnp.float32)
        ys = make(teacher, xs)
        state, out = learner.scan(state, xs, ys, chunk=chunk, weights=weights, resets=resets)
        if step >= 0.9 * STEPS:
            late.append(2 * float(out.loss.mean()) / float(ys.var()))
    return float(np.mean(late))


def teacher_data_of(teacher, xs):
    rule = rtrl.BPTT()
    return teacher(xs, rtrl.init_carry(teacher, rule, BATCH), rule=rule)[0]


# Figure 3.4 ---------------------------------------------------------------------------------------


def hessians() -> dict:
    """Gauss-Newton, which is the Hessian at an optimum without residuals: E of J^T J."""
    n, nu0, length = 4, 0.99, 300
    dense: Any = linear("dense", n, nu0, jax.random.key(3))
    A, B = np.asarray(dense.cell.A, float), np.asarray(dense.cell.B, float)
    lam, P = np.linalg.eig(A)
    into, out = np.linalg.solve(P, B), np.asarray(dense.readout.C_re, float) @ P
    diagonal = linear("complex diagonal", n, nu0, jax.random.key(0))
    f32 = lambda a: jnp.asarray(a, jnp.float32)  # noqa: E731
    diagonal = eqx.tree_at(
        lambda m: (m.cell.lambda_re, m.cell.lambda_im, m.cell.B_re, m.cell.B_im,
                   m.readout.C_re, m.readout.C_im, m.readout.D),
        diagonal,
        (f32(np.real(lam)), f32(np.imag(lam)), f32(np.real(into)), f32(np.imag(into)),
         f32(np.real(out)), f32(np.imag(out)), dense.readout.D),
    )  # fmt: skip
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(length, 16, 1)), jnp.float32)
    rule, found = rtrl.BPTT(), {}
    for name, model in (("dense", dense), ("complex diagonal", diagonal)):
        params, static = eqx.partition(model, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(params)

        def predict(p, static=static, unravel=unravel, model=model):
            network = eqx.combine(unravel(p), static)
            return network(xs, rtrl.init_carry(model, rule, 16), rule=rule)[0].ravel()

        J = np.asarray(jax.jit(jax.jacfwd(predict))(flat), float)
        H = J.T @ J / len(J)
        values, vectors = np.linalg.eigh(H)
        top = vectors[:, ::-1][:, :10]
        # On how many coordinates an eigenvector lies: 1 for an axis, all for an even spread.
        spread = 1 / (top**4).sum(0)
        names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        found[name] = {
            "parameters": len(flat), "eigenvalues": values[::-1].tolist(),
            "spread": spread.tolist(), "hessian": H.tolist(), "leaves": names,
            "rates": adam_rates(model, xs, predict(flat)).tolist(),
        }  # fmt: skip
    return found


def adam_rates(model: Linear, xs, target) -> np.ndarray:
    """Adam's rate for each parameter, ``rate / (sqrt(v) + eps)``, after learning near the best."""
    rate, rule = 1e-3, rtrl.BPTT()
    params, static = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)
    p = flat * (1 + 0.003 * jax.random.normal(jax.random.key(1), flat.shape))
    optimizer = optax.adam(rate)
    state = optimizer.init(p)

    @jax.jit
    def step(p, state):
        def objective(p):
            network = eqx.combine(unravel(p), static)
            y = network(xs, rtrl.init_carry(model, rule, xs.shape[1]), rule=rule)[0].ravel()
            return 0.5 * jnp.mean((y - target) ** 2)

        updates, state = optimizer.update(jax.grad(objective)(p), state)
        return optax.apply_updates(p, updates), state

    for _ in range(400):
        p, state = step(p, state)
    second = optax.tree.get(state, "nu") / (1 - 0.999**400)
    return np.asarray(rate / (jnp.sqrt(second) + 1e-8))


# Figure 3.5 ---------------------------------------------------------------------------------------


def deep() -> list[dict]:
    """States and gradients of four layers as initialised, by nu0."""
    rows = []
    rng = np.random.default_rng(0)
    x = rng.normal(size=(513, 8, 8))
    for t in range(1, len(x)):
        x[t] = 0.9 * x[t - 1] + np.sqrt(1 - 0.81) * x[t]
    xs, ys = jnp.asarray(x[:-1], jnp.float32), jnp.asarray(x[1:], jnp.float32)
    kinds = {
        "complex diagonal": lambda nu0: (
            lambda s, k: rtrl.cells.ComplexDiagonal(s, 32, r_min=nu0, r_max=nu0, key=k)
        ),
        "LRU": lambda nu0: lambda s, k: rtrl.cells.LRU(s, 32, r_min=nu0, r_max=nu0, key=k),
        "GRU": lambda nu0: lambda s, k: rtrl.cells.GRU(s, 32, nu0=nu0, key=k),
    }
    settings = [(k, None) for k in kinds] + [("complex diagonal", "pre")]
    for (kind, norm), nu0 in itertools.product(settings, DEEP_NU0):
        model = rtrl.SequenceModel(
            8,
            8,
            32,
            4,
            kinds[kind](nu0),
            norm=norm,
            key=jax.random.key(0),  # type: ignore
        )
        rule = rtrl.BPTT()
        grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, weights=np.full(512, 1 / 512)
        )[1]
        _, after = eqx.filter_jit(
            lambda m, r=rule: m(xs, rtrl.init_carry(m, r, 8), rule=r)
        )(model)  # fmt: skip
        energy = [float((jnp.abs(c.state) ** 2).mean()) for c in after]
        groups: dict[str, list] = {}
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            name = jax.tree_util.keystr(path)
            leaf = name.rsplit(".", 1)[-1]
            group = "feedforward"
            if ".cell." in name:
                group = {"theta_log": "angle", "lambda_re": "recurrent", "lambda_im": "recurrent",
                         "nu_log": "modulus"}.get(leaf, "other of the cell")  # fmt: skip
            groups.setdefault(group, []).append(np.asarray(g, float).ravel() ** 2)
        rows.append({
            "cell": kind + (" + layer norm" if norm else ""), "nu0": nu0, "first": energy[0],
            "fourth": energy[3],
            "gradients": {k: float(np.concatenate(v).mean()) for k, v in groups.items()},
        })  # fmt: skip
    return rows


# Tables and pictures ------------------------------------------------------------------------------


def measure() -> dict:
    found = {
        "energies": kept("curse_energies", sampled_energies, COMMAND),
        "hessian": kept("curse_hessian", hessians, COMMAND),
        "deep": kept("curse_deep", deep, COMMAND),
        "teacher": {},
    }
    for kind, nu0, method in itertools.product(STUDENTS, NU0, ("BPTT", "online")):
        name = f"curse_teacher_{kind.replace(' ', '_')}_{nu0}_{method}"
        runs = kept(
            name,
            lambda kind=kind, nu0=nu0, method=method: {
                str(rate): [train(kind, nu0, method, rate, seed) for seed in SEEDS]
                for rate in RATES
            },
            COMMAND,
        )
        found["teacher"][kind, nu0, method] = min(
            float(np.mean(values)) if np.isfinite(values).all() else float("inf")
            for values in runs.values()
        )
    return found


def table(found: dict) -> str:
    lines = [
        "# The curse of memory, from our own runs", "",
        "## Sensitivity through RTRL traces beside the closed form (figure 3.1.A)", "",
        "| λ | ρ | closed form | sampled | off by, standard errors |", "|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for r in found["energies"]:
        off = (r["sampled"] - r["closed form"]) / r["error"]
        lines.append(
            f"| {r['lambda']:g} | {r['rho']:g} | {r['closed form']:.4g} | {r['sampled']:.4g} | "
            f"{off:+.1f} |"
        )
    methods = ("BPTT", "online")
    lines += [
        "", "## Teacher and student (figure 3.3)", "",
        f"Error over the variance of the target after {STEPS} batches, mean of {len(SEEDS)} seeds, "
        f"the better of {len(RATES)} rates. Online: chunks of {LENGTH // 15}, RTRL; SnAp-1 where "
        "dense.", "",
        "| student | " + " | ".join(f"ν0 = {v}, {m}" for v in NU0 for m in methods) + " |",
        "|---|" + "---:|" * (len(NU0) * 2),
    ]  # fmt: skip
    for kind in STUDENTS:
        values = [found["teacher"][kind, v, m] for v in NU0 for m in methods]
        lines.append(f"| {kind} | " + " | ".join(f"{v:.2g}" for v in values) + " |")
    lines += [
        "", "## Hessian at the optimum (figure 3.4)", "",
        "Two students that compute the same, 4 neurons, ν0 = 0.99. Spread: on how many parameters "
        "a top eigenvector lies (mean of the top ten). Rate: of Adam as it acts, geometric mean.",
        "",
        "| student | parameters | largest eigenvalue | tenth | spread | rate |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, h in found["hessian"].items():
        rate = np.exp(np.log(h["rates"]).mean())
        lines.append(
            f"| {name} | {h['parameters']} | {h['eigenvalues'][0]:.3g} | "
            f"{h['eigenvalues'][9]:.3g} | {np.mean(h['spread']):.2g} | {rate:.2g} |"
        )
    lines += [
        "", "## Deep stacks as initialised (figure 3.5)", "",
        "Growth from ν0 = 0.5 to 0.997.", "",
        "| cell | E of the first layer's state | of the fourth's | gradients by group |",
        "|---|---:|---:|---|",
    ]  # fmt: skip
    for cell in dict.fromkeys(r["cell"] for r in found["deep"]):
        rows = [r for r in found["deep"] if r["cell"] == cell]
        a, b = rows[0], rows[-1]
        groups = ", ".join(
            f"{k} {b['gradients'][k] / a['gradients'][k]:.2g}"
            for k in a["gradients"] if a["gradients"][k] > 0
        )  # fmt: skip
        lines.append(
            f"| {cell} | {b['first'] / a['first']:.2g} | {b['fourth'] / a['fourth']:.2g} | "
            f"{groups} |"
        )
    return "\n".join([*lines, "", VERDICT]) + "\n"


def draw(found: dict) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.6), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    analysis.draw_curse(axes[0])
    for r in found["energies"]:
        axes[0].errorbar(-1 / np.log(r["lambda"]), r["sampled"], 3 * r["error"], color="k",
                         marker="o", ms=4)  # fmt: skip
    axes[0].plot([], [], "ko", label="RTRL traces of our cell")
    axes[0].legend(frameon=False)
    analysis.draw_landscape(axes[1])
    analysis.draw_remedies(axes[2])
    figure.savefig(RESULTS / "curse_3_1.png", dpi=90)

    figure = Figure(figsize=(15, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, method in zip(axes, ("BPTT", "online"), strict=False):
        for i, kind in enumerate(STUDENTS):
            values = [found["teacher"][kind, v, method] for v in NU0]
            ax.plot(1 / (1 - np.array(NU0)), values, "o-", color=f"C{i}", label=kind)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set(title=f"Students trained {'by BPTT' if method == 'BPTT' else method}",
               xlabel="teacher's memory 1 / (1 - ν0)", ylabel="error / variance")  # fmt: skip
        ax.legend(frameon=False)
    for i, (name, h) in enumerate(found["hessian"].items()):
        axes[2].plot(range(1, 11), h["spread"], "o-", color=f"C{i}", label=name)
    axes[2].set(title="Top eigenvectors of the Hessian", xlabel="eigenvector",
                ylabel="parameters that it lies on", ylim=(0, None))  # fmt: skip
    axes[2].legend(frameon=False)
    figure.savefig(RESULTS / "curse_3_3_and_3_4.png", dpi=90)

    figure = Figure(figsize=(15, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    cells = list(dict.fromkeys(r["cell"] for r in found["deep"]))
    for i, cell in enumerate(cells):
        rows = [r for r in found["deep"] if r["cell"] == cell]
        memory = [1 / (1 - r["nu0"]) for r in rows]
        axes[0].plot(memory, [r["first"] for r in rows], "o-", color=f"C{i}", label=cell)
        axes[0].plot(memory, [r["fourth"] for r in rows], "s--", color=f"C{i}")
        for ax, names in (
            (axes[1], ("recurrent", "modulus", "angle")),
            (axes[2], ("feedforward",)),
        ):
            for name, line in zip(names, ("-", "-", ":"), strict=False):
                if name in rows[0]["gradients"]:
                    ax.plot(memory, [r["gradients"][name] for r in rows], line, color=f"C{i}",
                            marker="o", label=f"{cell}, {name}")  # fmt: skip
    titles = ("E|h|² of the first and (dashed) fourth layer", "Gradients of eigenvalues",
              "Gradients of what has no memory")  # fmt: skip
    for ax, title in zip(axes, titles, strict=True):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set(title=title, xlabel="memory 1 / (1 - ν0)")
        ax.legend(frameon=False, fontsize=9)
    figure.savefig(RESULTS / "curse_3_5.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    found = measure()
    (RESULTS / "curse.md").write_text(table(found))
    draw(found)


if __name__ == "__main__":
    main()
