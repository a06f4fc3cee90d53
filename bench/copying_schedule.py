"""Table 4.1: the copy task under the paper's whole schedule, members side by side in one program.

    python bench/copying_schedule.py --rule "RTRL, 16 + 16"     go on with one run until it is done
    python bench/copying_schedule.py --rule BPTT --rates 1e-3 2e-3 4e-3 --seeds 0 1 2
    python bench/copying_schedule.py --cell linear --rule SnAp-1 --updates 5000 --minutes 5
    python bench/copying_schedule.py --table                    only write the table

20,000 sequences, 25 epochs in a new order each, batch 20: 25,000 updates, one a sequence; dropout
.1, AdamW without decay of weights, the same rate for all parameters, cosine to zero. Four layers,
N = 64; H = 128 with LRUs (268,430 parameters), H = 146 with dense linear recurrences (267,956);
GRUs of N = H = 91 in four layers (270,011), of 134 in one (269,488), which has no GLU and no
dropout but a hidden layer of 1,072 in its readout. "RTRL" is the paper's rule, for dense
recurrences SnAp-1. The paper scans rates over 1e-3 times 1 to 32; here each is a member, beside one
another as the seeds are, which costs a GPU little more than one. ``--updates``: a shorter schedule
with a cosine of its own.

Every 500 updates all there is (networks, optimizers, losses so far) goes to ``--checkpoints``, and
the means of the training loss of 500 updates each to one JSON file a member in
bench/results/copying_schedule/. Members that were stopped go on from there as if nothing had
happened, bit for bit. A loss that is not finite is kept as null, and so are those after it.

Source: Zucchet et al. (2023), table 4.1 and table B.2; layer norm before the recurrence, as in the
released code.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _copying_networks import CELLS, network
from _copying_table import draw, table
from _timing import provenance

import rtrl
from rtrl.tasks import copying, copying_loss

RESULTS = Path(__file__).parent / "results" / "copying_schedule"
SAMPLES, BATCH, UPDATES, BLOCK = 20_000, 20, 25_000, 500
#: Rule, timesteps per chunk, overlap.
RULES: dict[str, tuple[rtrl.rules.Rule, int, int]] = {
    "spatial": (rtrl.Spatial(), 48, 0),
    "truncated": (rtrl.Truncated(), 48, 0),
    "RTRL": (rtrl.RTRL(errors="timestep"), 48, 0),
    "SnAp-1": (rtrl.SnAp1("timestep"), 48, 0),
    "RTRL, 16 + 16": (rtrl.RTRL(), 16, 16),
    "BPTT": (rtrl.BPTT(), 48, 0),
}


class Members:
    """Runs of all rates and seeds: how they begin, go on by a block of updates, what is kept."""

    def __init__(self, cell: str, rule: str, rates, seeds, updates: int, folder: Path):
        self.cell, self.rule, self.updates = cell, rule, updates
        self.members = list(itertools.product(rates, seeds))
        self.rates = jnp.array([rate for rate, _ in self.members])
        self.seeds = np.array([seed for _, seed in self.members])
        self.distinct, self.which = np.unique(self.seeds, return_inverse=True)
        everything = [copying(SAMPLES, rng=int(seed)) for seed in self.distinct]
        self.xs, self.ys = (jnp.concatenate([d[i] for d in everything], 1) for i in (0, 1))
        self.weights = jnp.asarray(everything[0].weights[:, :BATCH])
        keys = jnp.stack([jax.random.key(seed) for seed in self.seeds])
        self.keys = jnp.stack([jax.random.key(1000 + seed) for seed in self.seeds])
        models = eqx.filter_vmap(lambda key: network(cell, key))(keys)
        params, self.static = eqx.partition(models, eqx.is_inexact_array)
        self.optimizer = rtrl.paper_optimizer(
            network(cell, keys[0]), 1.0, module_factor=1.0, decay_steps=updates
        )
        state = params, jax.vmap(self.optimizer.init)(params)
        self.kept = (state, np.zeros((len(keys), updates // BLOCK)))  # and the losses of all blocks
        self.command = (
            f'python bench/copying_schedule.py --cell "{cell}" --rule "{rule}" --updates {updates} '
            f"--rates {' '.join(f'{r:g}' for r in rates)} --seeds {' '.join(map(str, seeds))}"
        )
        self.done = 0
        name = f"{slug(cell)}-{slug(rule)}-{updates}-{slug(str(self.members))}"
        self.checkpoint = folder / f"{name}.rtrl"
        self.go_on: Callable = jax.jit(self.program, donate_argnums=0)
        if self.checkpoint.exists():
            self.kept = rtrl.load(self.checkpoint, self.kept)
            self.done = BLOCK * int(np.count_nonzero(self.kept[1][0]))

    def program(self, state, xs, ys, chosen, begin):
        """A block of updates of all members; the mean of their losses, ``(members,)``."""
        rule, chunk, overlap = RULES[self.rule]

        def update(state, now, key, rate):
            params, opt = state
            chosen, count = now
            loss, grads = rtrl.sequence_gradient(
                eqx.combine(params, self.static), copying_loss, xs[:, chosen], ys[:, chosen],
                rule=rule, chunk=chunk, overlap=overlap, weights=self.weights,
                key=jax.random.fold_in(key, count),
            )  # fmt: skip
            updates, opt = self.optimizer.update(grads, opt, params)
            return (eqx.apply_updates(params, jax.tree.map(lambda u: rate * u, updates)), opt), loss

        def body(state, now):
            return jax.vmap(update, (0, (0, None), 0, 0))(state, now, self.keys, self.rates)

        counts = begin + jnp.arange(BLOCK)
        state, losses = jax.lax.scan(body, state, (chosen, counts))
        return state, losses.mean(0)

    def sequences(self) -> np.ndarray:
        """Which sequences come next, ``(BLOCK, members, BATCH)``."""
        counts = self.done + np.arange(BLOCK)
        rows = []
        for i, seed in enumerate(self.distinct):
            epochs, batches = np.divmod(counts, SAMPLES // BATCH)
            orders = {
                epoch: np.random.default_rng((seed, epoch)).permutation(SAMPLES).reshape(-1, BATCH)
                for epoch in np.unique(epochs)
            }
            rows.append([i * SAMPLES + orders[e][b] for e, b in zip(epochs, batches, strict=True)])
        return np.stack(rows, 1)[:, self.which].astype(np.int32)

    def block(self) -> None:
        """Go on by one block and keep it."""
        start, (state, means) = time.perf_counter(), self.kept
        state, losses = self.go_on(state, self.xs, self.ys, self.sequences(), self.done)
        means[:, self.done // BLOCK] = losses
        seconds = time.perf_counter() - start
        self.kept, self.done = (state, means), self.done + BLOCK
        rtrl.save(self.checkpoint, self.kept)
        for (rate, seed), losses in zip(self.members, means[:, : self.done // BLOCK], strict=True):
            found = {
                "cell": self.cell, "rule": self.rule, "rate": rate, "seed": seed,
                "schedule": self.updates, "updates": self.done, "members": len(self.members),
                "loss": [float(f"{m:.4g}") if math.isfinite(m) else None for m in losses],
                "ms_per_update": round(1000 * seconds / BLOCK, 2),
            } | provenance() | {"command": self.command}  # fmt: skip
            file = file_of(self.cell, self.rule, rate, seed, self.updates)
            file.write_text(json.dumps(found) + "\n")
        print(f"{self.cell}, {self.rule}: update {self.done}, {seconds:.1f} s, losses",
              means[:, self.done // BLOCK - 1].round(5), flush=True)  # fmt: skip


def unroll() -> None:
    """Have the engine's loops over up to 48 timesteps compiled without a loop.

    On a GPU such a loop is some hundred kernels that do next to nothing, one after the other.
    """
    scan = jax.lax.scan

    def without_a_loop(f, init, xs=None, length=None, **options):
        count = len(jax.tree.leaves(xs)[0]) if length is None else length
        options = options | ({"unroll": True} if 8 <= count <= 48 else {})
        return scan(f, init, xs, length, **options)

    jax.lax.scan = without_a_loop


def slug(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def file_of(cell: str, rule: str, rate: float, seed: int, updates: int) -> Path:
    return RESULTS / f"{slug(cell)}-{slug(rule)}-{rate:g}-{updates}-{seed}.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=list(CELLS), default="LRU")
    parser.add_argument("--rule", choices=list(RULES), default="RTRL, 16 + 16")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--updates", type=int, default=UPDATES, help="a multiple of 500")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no block after these")
    parser.add_argument("--checkpoints", type=Path, default=Path("build") / "copying_schedule")
    parser.add_argument("--unroll", action="store_true", help="quicker on a GPU, slow to compile")
    parser.add_argument("--table", action="store_true", help="only write the table")
    chosen = parser.parse_args()
    start = time.perf_counter()
    jax.config.update("jax_default_matmul_precision", "highest")  # a GPU takes fewer digits else
    if chosen.unroll:
        unroll()
    for folder in (RESULTS, chosen.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    if not chosen.table:
        runs = Members(
            chosen.cell, chosen.rule, chosen.rates, chosen.seeds, chosen.updates, chosen.checkpoints
        )
        while runs.done < runs.updates and time.perf_counter() - start < 60 * chosen.minutes:
            runs.block()
    results = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    (RESULTS.parent / "copying_schedule.md").write_text(table(results, BLOCK) + "\n")
    draw(results, BLOCK, RESULTS.parent / "copying_schedule.png")
    print(table(results, BLOCK))


if __name__ == "__main__":
    main()
