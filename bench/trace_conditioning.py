"""Trace conditioning: predicting a reward long after its cue by TD(lambda) with RTRL's traces.

    python bench/trace_conditioning.py                run what is missing
    python bench/trace_conditioning.py --minutes 5    start no run after five minutes
    python bench/trace_conditioning.py --table        only the table and the picture

A run is one JSON file in bench/results/trace_conditioning/. A cue is on for four timesteps; the
reward comes ``delay`` timesteps after its onset and lasts for two; 80 to 120 timesteps later the
next trial begins. Ten distractors, on for four timesteps each, come and go at random. Observed are
cue, reward and distractors; to be predicted is the discounted sum of future rewards,

    G_t = sum over k >= 0 of gamma^k r_{t+1+k},   gamma = 1 - 1 / delay

of which nobody tells the learner: its target is formed online by semi-gradient TD(lambda),

    delta_t = r_{t+1} + gamma v_{t+1} - v_t,   z_t = gamma lambda z_{t-1} + dv_t/dtheta
    theta <- theta + Adam(delta_t z_t),        lambda = 0.9

where the rule gives dv_t/dtheta: the whole memory by RTRL, one timestep by truncation, ten by TBPTT
on a sliding window. (v_t is of the parameters before the last update, v_{t+1} of those after it.)
One layer of 16 modules on the observations, a gated readout: with RTRL the derivative is exact, but
for the parameters having changed meanwhile.

Figures: mean squared error of v_t over the last fifth of the stream, over the variance of G. The
rate of every cell, rule and delay is the best of three with a seed of its own (100); seeds 0 to 7
are reported. "What can be known": the error of the mean of G given the timesteps since the cue or,
between trials, since the reward. "Without a memory": that given the cue and the reward of now.

After Rafiee et al., "From eye-blinks to state construction" (2023). Shortened: 60,000 timesteps
(about 500 trials) in place of millions.
"""

import argparse
import itertools
import json
import time
from functools import lru_cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import provenance

import rtrl

RESULTS = Path(__file__).parent / "results" / "trace_conditioning"
TIMESTEPS, DISTRACTORS, MODULES, TRACE_DECAY = 60_000, 10, 16, 0.9
DELAYS = (5, 10, 20, 40)
RATES = (1e-3, 3e-3, 1e-2)
TUNING, SEEDS = 100, tuple(range(8))
CELLS = {
    "LRU": rtrl.cells.LRU,
    "RTU": rtrl.cells.RTU,
    "ElementwiseLSTM": rtrl.cells.ElementwiseLSTM,
}
RULES: dict[str, rtrl.rules.Rule] = {
    "RTRL": rtrl.RTRL(),
    "TBPTT(10)": rtrl.TBPTT(10),
    "truncated": rtrl.Truncated(),
}


def stream(delay: int, seed: int) -> np.ndarray:
    """Reward, cue, distractors, ``(time, 2 + distractors)``."""
    rng = np.random.default_rng(seed)
    seen = np.zeros((TIMESTEPS, 2 + DISTRACTORS), np.float32)
    onset = 0
    while (onset := onset + int(rng.integers(80, 121))) + delay + 2 < TIMESTEPS:
        seen[onset : onset + 4, 1] = 1
        onset += delay
        seen[onset : onset + 2, 0] = 1
    for i in range(DISTRACTORS):  # from one in 20 timesteps to one in 110
        for begin in np.flatnonzero(rng.random(TIMESTEPS) < 1 / (20 + 10 * i)):
            seen[begin : begin + 4, 2 + i] = 1
    return seen


def returns(seen: np.ndarray, gamma: float) -> np.ndarray:
    """G_t for every timestep: what is to be predicted; the learner does not see it."""
    result, later = np.zeros(len(seen)), 0.0
    for t in range(len(seen) - 2, -1, -1):
        result[t] = later = seen[t + 1, 0] + gamma * later
    return result


def last_fifth(values: np.ndarray) -> np.ndarray:
    """The timesteps that are scored; the end is left out, whose returns are cut short."""
    return values[4 * TIMESTEPS // 5 : -500]


def floors(seen: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """What can be known, and what without a memory: errors over the variance."""
    time_since, since, phase = np.zeros(len(seen), int), 0, 0
    for t, (reward, cue) in enumerate(seen[:, :2]):
        if cue and phase != 1:
            since, phase = 0, 1
        elif reward and phase != 2:
            since, phase = 0, 2
        time_since[t] = 1000 * phase + since
        since += 1
    here, found = last_fifth(target), []
    for labels in (time_since, 2 * seen[:, 0] + seen[:, 1]):
        _, index = np.unique(last_fifth(labels), return_inverse=True)
        mean = np.bincount(index, here) / np.bincount(index)
        found.append(float(((here - mean[index]) ** 2).mean() / here.var()))
    return found[0], found[1]


@lru_cache
def learn(cell: str, rule_name: str):
    """A program: streams, keys, rates and discounts side by side to predictions, (runs, time)."""
    rule, size = RULES[rule_name], 2 + DISTRACTORS
    optimizer = optax.scale_by_adam()

    @jax.jit
    @jax.vmap
    def run(seen, key, rate, gamma):
        model = rtrl.SequenceModel(
            size, 1, size, 1, lambda size, key: CELLS[cell](size, MODULES, key=key),
            norm=None, encoder=eqx.nn.Identity(), key=key,
        )  # fmt: skip
        params, static = eqx.partition(model, eqx.is_inexact_array)

        def value(params, x, carry):
            prediction, carry = eqx.combine(params, static)(x[None], carry, rule=rule)
            return prediction[0, 0], carry

        def update(state, x):
            params, carry, eligibility, last, opt = state
            (v, carry), gradient = jax.value_and_grad(value, has_aux=True)(params, x, carry)
            delta = x[0] + gamma * v - last
            # Adam descends: minus what TD adds.
            step, opt = optimizer.update(jax.tree.map(lambda z: -delta * z, eligibility), opt)
            params = jax.tree.map(lambda p, s: p - rate * s, params, step)
            eligibility = jax.tree.map(
                lambda z, g: gamma * TRACE_DECAY * z + g, eligibility, gradient
            )
            return (params, carry, eligibility, v, opt), v

        zeros = jax.tree.map(jnp.zeros_like, params)
        carry = rtrl.init_carry(model, rule)
        return jax.lax.scan(update, (params, carry, zeros, 0.0, optimizer.init(params)), seen)[1]

    return run


def errors(cell: str, rule: str, delay: int, seeds, rates) -> list[float]:
    """The figure of every run, side by side."""
    gamma = 1 - 1 / delay
    streams = {seed: stream(delay, seed) for seed in set(seeds)}
    predictions = learn(cell, rule)(
        np.stack([streams[seed] for seed in seeds]),
        jnp.stack([jax.random.key(seed) for seed in seeds]),
        jnp.array(rates),
        jnp.full(len(rates), gamma),
    )
    found = []
    for seed, predicted in zip(seeds, np.asarray(predictions, float), strict=True):
        here = last_fifth(returns(streams[seed], gamma))
        found.append(float(((last_fifth(predicted) - here) ** 2).mean() / here.var()))
    return found


def run(cell: str, rule: str, delay: int) -> dict:
    start = time.perf_counter()
    tuning = errors(cell, rule, delay, (TUNING,) * len(RATES), RATES)
    best = RATES[int(np.nanargmin(tuning))]
    found = errors(cell, rule, delay, SEEDS, (best,) * len(SEEDS))
    gamma = 1 - 1 / delay
    known = [floors(s, returns(s, gamma)) for s in (stream(delay, seed) for seed in SEEDS)]
    seconds = round(time.perf_counter() - start, 1)
    print(f"{cell}, {rule}, delay {delay}: {np.round(found, 4)}, rate {best}, {seconds} s")
    return {
        "cell": cell, "rule": rule, "delay": delay, "timesteps": TIMESTEPS, "seeds": SEEDS,
        "tuning": dict(zip(map(str, RATES), tuning, strict=True)), "rate": best, "error": found,
        "known": float(np.mean([k[0] for k in known])),
        "without_memory": float(np.mean([k[1] for k in known])),
        "seconds": seconds,
    } | provenance()  # fmt: skip


def file_of(cell: str, rule: str, delay: int) -> Path:
    name = "".join(c for c in rule.lower() if c.isalnum())
    return RESULTS / f"{cell.lower()}-{name}-{delay}.json"


def results() -> dict[tuple[str, str, int], dict]:
    runs = itertools.product(CELLS, RULES, DELAYS)
    return {run: json.loads(file_of(*run).read_text()) for run in runs if file_of(*run).exists()}


def table(found: dict) -> str:
    lines = [
        "Mean squared error of the predicted return over its variance, mean of the seeds (lowest "
        f"to highest), last fifth of {TIMESTEPS:,} timesteps; -: not run.",
        "",
        "| cell | rule | seeds | " + " | ".join(f"delay {d}" for d in DELAYS) + " |",
        "|---|---|---|" + "---:|" * len(DELAYS),
    ]
    for cell, rule in itertools.product(CELLS, RULES):
        cells, counts = [], set()
        for delay in DELAYS:
            error = found[cell, rule, delay]["error"] if (cell, rule, delay) in found else None
            spread = f" ({min(error):.3f}-{max(error):.3f})" if error else ""
            cells.append(f"{np.mean(error):.3f}{spread}" if error else "-")
            counts |= {len(error)} if error else set()
        seeds = " or ".join(map(str, sorted(counts)))
        lines.append(f"| {cell} | {rule} | {seeds} | {' | '.join(cells)} |")
    for key, name in (("without_memory", "without a memory"), ("known", "what can be known")):
        floor = {delay: r[key] for (_, _, delay), r in found.items()}
        cells = [f"{floor[d]:.3f}" if d in floor else "-" for d in DELAYS]
        lines.append(f"| | *{name}* | | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(found: dict, path: Path) -> None:
    """A panel a cell: error against delay, a line a rule."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    panels = figure.subplots(1, len(CELLS), sharey=True)
    for cell, axes in zip(CELLS, panels, strict=True):
        for rule, colour, marker in zip(RULES, ("C3", "C0", "C7"), "os^", strict=True):
            delays = [d for d in DELAYS if (cell, rule, d) in found]
            if not delays:
                continue
            errors = [found[cell, rule, d]["error"] for d in delays]
            mean, least, most = ([f(e) for e in errors] for f in (np.mean, min, max))
            axes.plot(delays, mean, color=colour, marker=marker, lw=2, label=rule)
            axes.fill_between(delays, least, most, color=colour, alpha=0.2)
        for key, name, style in (
            ("without_memory", "without a memory", ":"), ("known", "what can be known", "--"),
        ):  # fmt: skip
            floor = {delay: r[key] for (_, _, delay), r in sorted(found.items())}
            axes.plot(list(floor), list(floor.values()), color="0.4", ls=style, label=name)
        axes.set(title=cell, xscale="log", ylim=(0, None), xlabel="delay, timesteps")
        axes.set_xticks(DELAYS, [str(d) for d in DELAYS])
        axes.minorticks_off()
        axes.grid(color="0.9")
    panels[0].set_ylabel("error of the return / its variance")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="compute nothing")
    parser.add_argument("--only", default="", help="run only files whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    runs = itertools.product(CELLS, RULES, DELAYS)
    for case in () if arguments.table else runs:
        late, file = time.perf_counter() - start > 60 * arguments.minutes, file_of(*case)
        if not file.exists() and arguments.only in file.stem and not late:
            file.write_text(json.dumps(run(*case)) + "\n")
    found = results()
    (RESULTS.parent / "trace_conditioning.md").write_text(table(found) + "\n")
    draw(found, RESULTS.parent / "trace_conditioning.png")
    print(table(found))


if __name__ == "__main__":
    main()
