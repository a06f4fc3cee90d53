"""What it costs to look for numbers that are not finite: single steps with and without.

Two learners of the same stream take turns in one process, one as it is by default, one with
``on_nonfinite="ignore"``. By default every input, target, loss and gradient is looked at before it
is used, and an update before it is stored, for which the optimizer computes it twice.
"""

import argparse
from typing import Any

from _timing import RESULTS, alternate, merge, pin, provenance, ratios, read, say, summary

FILE = "looking.json"
LENGTH = 512
CELLS = ("LRU", "MinGRU", "LeakyIntegrator")
SETTINGS = (  # layers, modules and width, optimizer, samples
    (1, 16, "adam", 1), (1, 64, "adam", 1), (1, 64, "sgd", 1), (2, 64, "adam", 1),
    (1, 64, "adam", 16),
)  # fmt: skip


def measure(cell: str, depth: int, size: int, optimizer: str, batch: int, rounds: int) -> dict:
    import optax
    from _networks import noise, squared_error, stack

    import rtrl

    samples = None if batch == 1 else batch
    xs, ys = noise(LENGTH, samples)
    model = stack(cell, depth, size, size)
    states: dict[str, Any] = {}

    def learn(learner, name):
        states[name], out = learner.scan(states[name], xs, ys, chunk=1)
        return out.loss

    competitors = {}
    for name in ("skip", "ignore"):
        one = rtrl.OnlineLearner(
            squared_error, getattr(optax, optimizer)(1e-4), on_nonfinite=name
        )  # fmt: skip
        states[name] = one.init(model, samples)
        competitors[name] = lambda one=one, name=name: learn(one, name)
    times = alternate(competitors, rounds, seconds=20)
    row: dict[str, Any] = {"cell": cell, "layers": depth, "size": size, "optimizer": optimizer}
    row["samples"] = batch
    row |= {name: summary([t / LENGTH for t in times[name]], 1e6) for name in competitors}
    return row | {"ratio": summary(ratios(times, "skip", "ignore"))}


def table(result: dict[str, Any]) -> str:
    lines = [
        "Microseconds a single step inside a scan (median of rounds), float32; how many times as "
        "long it takes to look (median, least and most of single rounds).",
        "",
        "| cell | layers | N = H | optimizer | samples | looking | ignoring | ratio |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        ratio = row["ratio"]
        lines.append(
            f"| {row['cell']} | {row['layers']} | {row['size']} | {row['optimizer']} | "
            f"{row['samples']} | {row['skip']['median']:.1f} | {row['ignore']['median']:.1f} | "
            f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) |"
        )
    lines += ["", f"`{result['command']}` on {result['cores']} cores, load {result['load']}: "
              + ", ".join(f"{k} {v}" for k, v in result["versions"].items())]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    pin(arguments.cores)
    rows = []
    for cell in CELLS:
        for setting in SETTINGS:
            rows.append(measure(cell, *setting, arguments.rounds))
            say(f"{rows[-1]['cell']} {setting}: {rows[-1]['ratio']['median']}")
    merge(FILE, "looking", provenance() | {"rows": rows})
    (RESULTS / "looking.md").write_text(table(read(FILE)["looking"]))


if __name__ == "__main__":
    main()
