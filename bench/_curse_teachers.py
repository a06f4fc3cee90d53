"""Figure 3.3: linear students of a linear teacher with long memory, and what each change buys."""

import argparse
import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _analysis_runs import RESULTS, kept
from _curse_linear import CHANGES, linear, squared_error

import rtrl

LENGTH, BATCH, N_TEACHER, N_STUDENT = 300, 16, 10, 64
STEPS = {"BPTT": 10_000, "online": 2_000}
CHUNK = {"BPTT": LENGTH, "online": 10}
CALL = 50  # batches a call of the learner
NU0 = (0.5, 0.9, 0.97, 0.99)
SEEDS, VALIDATION = (0, 1, 2), 100
COMMAND = "python bench/curse.py"
# Half powers of ten. The thesis: real students from -5 to -2.5, complex ones from -2.5 to -0.5.
POWERS = {
    ("real", "BPTT"): (-4, -3.5, -3, -2.5, -2),
    ("real", "online"): (-4.5, -4, -3.5, -3, -2.5),
    ("complex", "BPTT"): (-3, -2.5, -2, -1.5, -1),
    ("complex", "online"): (-3.5, -3, -2.5, -2, -1.5),
}
LONGEST_ONLINE = (-4.5, -4, -3.5, -3, -2.5)  # of all students where memory is longest


def settings() -> list[tuple[str, float, str]]:
    """(student, nu0, method): all changes where memory is longest, the two ends before."""
    longest = [(kind, NU0[-1], method) for kind in CHANGES for method in STEPS]
    ends = itertools.product(("LRU", "dense"), NU0[:-1], STEPS)
    return [*longest, *((str(kind), nu0, method) for kind, nu0, method in ends)]


def choices(kind: str, nu0: float, method: str) -> list[tuple[float, float]]:
    """(power of ten of the rate, nu0 of the initialisation) to choose from."""
    longest = nu0 == NU0[-1] and method == "online"
    real = kind in ("dense", "block diagonal", "more blocks")
    starts = (nu0, 0.0) if kind == "dense" else (nu0,)
    powers = LONGEST_ONLINE if longest else POWERS["real" if real else "complex", method]
    return [(p, s) for p in powers for s in starts]


def batches_to_choose(nu0: float, method: str) -> int:
    """A tenth; three online where memory is longest: the rates' order changes until then."""
    return STEPS[method] // 10 * (3 if nu0 == NU0[-1] and method == "online" else 1)


def student_of(
    kind: str, nu0: float, method: str, seeds: tuple[int, ...] = SEEDS, *, missing: bool = True
) -> dict[str, Any] | None:
    """Choose the rate on a validation seed with a part of the batches; then train the seeds.

    Every seed for so many batches (``first``), and those asked for to the end (``runs``).

    Where ``missing`` is false, nothing is trained: what there is, or None where nothing is.
    """
    stem = f"teachers/{kind.replace(' ', '_')}_{nu0}_{method}"

    def run(name: str, *how: Any) -> dict[str, Any] | None:
        name = f"{stem}_{name}"
        there = missing or (RESULTS / f"{name}.json").exists()
        return kept(name, lambda: train(kind, nu0, method, *how), COMMAND) if there else None

    tried = {}
    for power, start in choices(kind, nu0, method):
        name = f"choose_{power}" + ("" if start == nu0 else "_short")
        tried[power, start] = run(name, power, start, VALIDATION, batches_to_choose(nu0, method))
    if None in tried.values():
        return None
    errors = {c: r["error"] for c, r in tried.items()}  # None where a run diverged
    power, start = min(errors, key=lambda c: np.inf if errors[c] is None else errors[c])
    chosen = f"at_{power}" + ("" if start == nu0 else "_short")
    short = batches_to_choose(nu0, method)
    first = [run(f"{chosen}_first_{seed}", power, start, seed, short) for seed in SEEDS]
    runs = [run(f"{chosen}_seed_{seed}", power, start, seed, STEPS[method]) for seed in seeds]
    powers = [p for p, _ in tried]
    return {
        "power": power, "start": start, "edge": power in (powers[0], powers[-1]),
        "first": [r for r in first if r is not None],
        "runs": [r for r in runs if r is not None],
        "choice": {f"{p} {s}": e for (p, s), e in errors.items()},
    }  # fmt: skip


def train(
    kind: str, nu0: float, method: str, power: float, start: float, seed: int, steps: int
) -> dict[str, Any]:
    """Error over the variance of the target: late (the last tenth), and along the way."""
    key = jax.random.key(seed)
    teacher = linear("dense", N_TEACHER, nu0, jax.random.fold_in(key, 1))
    student = linear(kind, N_STUDENT, start, jax.random.fold_in(key, 2))
    chunk, learner = CHUNK[method], learner_of(kind == "dense", method, steps)
    state = learner.init(student, BATCH)
    state.opt_state[-1].hyperparams["step_size"] = jnp.float32(-(10.0**power))
    rng, errors = np.random.default_rng(seed), []
    resets = np.arange(CALL * LENGTH) % LENGTH == 0
    weights = np.full(CALL * LENGTH, 1 / LENGTH)
    for _ in range(max(steps // CALL, 1)):
        xs = jnp.asarray(rng.normal(size=(CALL * LENGTH, BATCH, 1)), jnp.float32)
        ys = predict(teacher, xs)
        state, out = learner.scan(state, xs, ys, chunk=chunk, weights=weights, resets=resets)
        errors.append(2 * float(out.loss.mean()) / float(ys.var()))
        if not errors[-1] < 1e6:
            break
    else:
        late = errors[-max(len(errors) // 10, 1) :]
        return {"error": float(np.mean(late)), "curve": errors[:: max(len(errors) // 40, 1)],
                "power": power, "start": start}  # fmt: skip
    return {"error": None, "curve": [], "power": power, "start": start}


@functools.cache
def learner_of(dense: bool, method: str, steps: int) -> rtrl.OnlineLearner:
    """Adam on a cosine, its rate held in its state: compiled once for all rates and seeds."""
    exact = rtrl.BPTT() if method == "BPTT" else rtrl.RTRL()
    rule = rtrl.SnAp1() if method == "online" and dense else exact
    cosine = optax.cosine_decay_schedule(1.0, steps * (LENGTH // CHUNK[method]))
    optimizer = optax.chain(
        optax.scale_by_adam(),
        optax.scale_by_schedule(cosine),
        optax.inject_hyperparams(optax.scale)(step_size=-1.0),
    )
    return rtrl.OnlineLearner(squared_error, optimizer, rule=rule)


@eqx.filter_jit
def predict(teacher, xs):
    """What the teacher says of the batches of one call, each from its initial state."""
    side = xs.reshape(CALL, LENGTH, BATCH, 1).swapaxes(0, 1).reshape(LENGTH, CALL * BATCH, 1)
    rule = rtrl.BPTT()
    ys = teacher(side, rtrl.init_carry(teacher, rule, CALL * BATCH), rule=rule)[0]
    return ys.reshape(LENGTH, CALL, BATCH, 1).swapaxes(0, 1).reshape(xs.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student", choices=CHANGES)
    parser.add_argument("nu0", type=float)
    parser.add_argument("method", choices=list(STEPS))
    parser.add_argument("seeds", type=int, nargs="*", help="to train to the end")
    asked = parser.parse_args()
    found = student_of(asked.student, asked.nu0, asked.method, tuple(asked.seeds))
    print(asked, found and found["choice"], flush=True)


if __name__ == "__main__":
    main()
