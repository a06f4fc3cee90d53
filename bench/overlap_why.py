"""Why chunks of 8 with an overlap of 8 learn the copy task more slowly than single timesteps.

    python bench/overlap_why.py FILE UPDATES ...   networks saved by rtrl.save, and when that was

The gradient of a rule against that of BPTT over the same six batches, spliced two ways:

- by layer and kind of parameter: the cosine, and the share ``<g, BPTT> / |BPTT|^2`` of BPTT's
  gradient that is there (1: all of it);
- by where credit comes from. A window's gradient is that of rolling TBPTT, credit inside the
  window, and what the errors that cross its beginning read off the trace; the second is multiplied
  by a weight w, and w is chosen for the best cosine.

Adds to bench/results/overlap/why.json and writes bench/results/overlap_why.md.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from copying import paper_network  # type: ignore[import-not-found]

import rtrl
from rtrl.tasks import copying, copying_loss

RESULTS = Path(__file__).parent / "results"
BATCHES = 6
RULES = {
    "BPTT": (rtrl.BPTT(), 48, 0),
    "K=1": (rtrl.RTRL("timestep"), 48, 0),
    "K=16": (rtrl.RTRL(), 16, 0),
    "K=8 overlap 8": (rtrl.RTRL(), 8, 8),
    "K=16 overlap 16": (rtrl.RTRL(), 16, 16),
    "rolling TBPTT K=8 overlap 8": (rtrl.BPTT(), 8, 8),
}
KINDS = {
    "decay": ("nu_log", "theta_log", "gamma_log"),
    "input B": ("B_re", "B_im"),
    "readout C, D": ("C_re", "C_im", ".D"),
    "mixer": ("mixer",),
    "norm": ("norm",),
}


def mean_gradient(model, rule, chunk, overlap):
    rng, total = np.random.default_rng(9), None
    for _ in range(BATCHES):
        xs, ys, weights = map(jnp.asarray, copying(50, rng=rng))
        _, grads = rtrl.sequence_gradient(
            model, copying_loss, xs, ys, rule=rule, chunk=chunk, overlap=overlap, weights=weights
        )
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    return total


def groups(grads) -> dict[str, np.ndarray]:
    """Flat gradients by layer, and by layer and kind of parameter."""
    found: dict[str, list] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        layer = name.split("layers[")[1][0] if "layers[" in name else None
        around = next(n for n in ("encoder", "decoder", "") if n in name)
        keys = ["everything", around if layer is None else f"layer {int(layer) + 1}"]
        kind = next((k for k, parts in KINDS.items() if any(p in name for p in parts)), None)
        if layer is not None and kind is not None:
            keys.append(f"layer {int(layer) + 1}, {kind}")
        for key in keys:
            found.setdefault(key, []).append(np.asarray(leaf, np.float64).ravel())
    return {key: np.concatenate(parts) for key, parts in found.items()}


def compare(g: np.ndarray, exact: np.ndarray) -> list[float]:
    product = float(g @ exact)
    cosine = product / float(np.linalg.norm(g) * np.linalg.norm(exact))
    return [round(cosine, 4), round(product / float(exact @ exact), 3)]


def best_weight(inside: np.ndarray, crossing: np.ndarray, exact: np.ndarray) -> list[float]:
    """The weight of what crosses for the best cosine, and that cosine."""
    weights = np.linspace(0, 3, 61)
    cosines = [compare(inside + w * crossing, exact)[0] for w in weights]
    best = int(np.argmax(cosines))
    return [round(float(weights[best]), 2), cosines[best]]


def measure(file: str) -> dict:
    model = rtrl.load(file, like=paper_network(jax.random.key(0)))
    grads = {}
    for name, rule in RULES.items():
        grads[name] = groups(mean_gradient(model, *rule))
        print(name, flush=True)
    exact = grads["BPTT"]
    inside = grads["rolling TBPTT K=8 overlap 8"]
    rows = {name: {key: compare(g[key], exact[key]) for key in exact}
            for name, g in grads.items() if name != "BPTT"}  # fmt: skip
    weighed = {key: best_weight(inside[key], grads["K=8 overlap 8"][key] - inside[key], exact[key])
               for key in exact}  # fmt: skip
    return {"cosine and share": rows, "weight of what crosses, best, and its cosine": weighed}


def table(results: dict) -> str:
    lines = ["Cosine to BPTT's gradient (and the share of BPTT's gradient that is there), six "
             "batches of the copy task."]  # fmt: skip
    for when, result in results.items():
        rows, weighed = result.values()
        lines += ["", f"## {when}", "",
                  "| part | " + " | ".join(rows) + " | weight of crossing errors, best |",
                  "|---|" + "---:|" * (len(rows) + 1)]  # fmt: skip
        for key in next(iter(rows.values())):
            cells = [f"{row[key][0]:.3f} ({row[key][1]:.2f})" for row in rows.values()]
            w, cosine = weighed[key]
            lines.append(f"| {key} | {' | '.join(cells)} | {w:g}: {cosine:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    path = RESULTS / "overlap" / "why.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for file, updates in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        results[f"after {updates} updates of K=8 overlap 8"] = measure(file)
        path.write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "overlap_why.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
