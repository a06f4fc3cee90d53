"""Copy task after 200 updates: how close K = 1 and K = 16 come to BPTT, along the run of each.

    python bench/copying_cosine.py     three minutes on 2 cores

Writes the cosine of both gradients to that of BPTT, by layer, over six batches, to
bench/results/copying_cosine.json.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from copying import RULES, paper_network  # type: ignore[import-not-found]

import rtrl
from rtrl.tasks import copying, copying_loss

UPDATES, BATCHES = 200, 6


def mean_gradient(model, rule, chunk):
    rng = np.random.default_rng(9)
    total = None
    for _ in range(BATCHES):
        xs, ys, weights = copying(50, rng=rng)
        _, grads = rtrl.sequence_gradient(
            model, copying_loss, xs, ys, rule=rule, chunk=chunk, weights=weights
        )
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    return total


def trained(name):
    rule, chunk = RULES[name]
    model = paper_network(jax.random.key(0))
    optimizer = rtrl.paper_optimizer(model, 1e-3, slow_projections=True, decay_steps=1500)
    learner = rtrl.OnlineLearner(copying_loss, optimizer, rule=rule, update_every=48 // chunk)
    state, rng = learner.init(model, 50), np.random.default_rng(0)
    for _ in range(UPDATES):
        xs, ys, weights = copying(50, rng=rng)
        state, _ = learner.scan(learner.reset(state), xs, ys, weights=weights, chunk=chunk)
    return state.model


def main() -> None:
    result: dict = {"command": "python bench/copying_cosine.py", "jax": jax.__version__}
    for name in ("rtrl", "rtrl-chunk16"):
        model = trained(name)
        exact = mean_gradient(model, rtrl.BPTT(), None)
        for chunk in (1, 16):
            grads = mean_gradient(model, rtrl.RTRL(), chunk)
            cosines = rtrl.analysis.cosine_by_layer(grads, exact)
            row = {layer: round(float(cosine), 4) for layer, cosine in cosines.items()}
            result[f"{name} after {UPDATES} updates, K = {chunk}"] = row
            print(name, f"K = {chunk}", row, flush=True)
    file = Path(__file__).parent / "results" / "copying_cosine.json"
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
