"""What each of the engine's tricks for XLA on a CPU buys, against the plain form.

Learns the same stream with the engine as it is and with one trick at a time put back to what one
would write without knowing XLA, all in one process, taking turns. Small figures are the time of a
timestep of the whole learner, optimizer and all; the ratio is what a timestep takes without the
trick over what it takes with it (the median of single rounds): above 1 the trick is worth it.
Copies of traces are counted in the compiled programs.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from _timing import RESULTS, alternate, digits, merge, pin, provenance, ratios, read, say, summary

FILE = "tricks.json"
LENGTH = 256
CALLS = 200  # of a sum by itself in a round
CELLS = ("LRU", "LeakyIntegrator")
SETTINGS = ((1, 1), (16, 1), (64, 1), (1, 64))  # samples, timesteps per chunk


def plain() -> dict[str, Callable[..., Any]]:
    """Every trick as one would write it for a compiler without habits."""
    import jax
    import jax.numpy as jnp

    def branch(predicate, take, leave, *operands):
        chosen = take(*operands), leave(*operands)
        return jax.tree.map(lambda a, b: jnp.where(predicate, a, b), *chosen)

    return {
        "branch": branch,
        "in_place": lambda change, value, *operands: change(value, *operands),
        "later": lambda function, *operands, run, when: run(function, *operands),
        "sum_over_time": lambda a: a.sum(0),
        "sum_over_samples": lambda term, *arrays, products=False: term(*arrays).sum(0),
        "global_norm": lambda tree: jnp.sqrt(
            sum(jnp.square(jnp.abs(a)).sum() for a in jax.tree.leaves(tree))
        ),
    }


def without(trick: str) -> ExitStack:
    """Put one trick back, wherever the library has imported it."""
    import sys

    stack = ExitStack()
    for name, module in list(sys.modules.items()):
        if name.startswith("rtrl.") and hasattr(module, trick):
            stack.enter_context(patch.object(module, trick, plain()[trick]))
    return stack


class Program:
    """A learner's scan over a stream, compiled as the engine is at that moment."""

    def __init__(self, cell: str, batch: int, chunk: int):
        import equinox as eqx
        import jax
        import optax
        from _networks import Online, noise, stack

        size = None if batch == 1 else batch
        xs, ys = noise(LENGTH, size)
        one = Online(stack(cell), xs, ys, optax.adam(1e-3), chunk=chunk, batch=size)
        self.state, static = eqx.partition(one.state, eqx.is_array)

        def run(arrays, xs, ys):
            state = eqx.combine(arrays, static)
            state, out = one.learner.scan(state, xs, ys, chunk=chunk)
            return eqx.filter(state, eqx.is_array), out.loss

        jax.clear_caches()  # or what was traced before would come back
        self.data = xs, ys
        self.compiled = jax.jit(run, donate_argnums=0).lower(self.state, xs, ys).compile()

    def __call__(self) -> Any:
        self.state, loss = self.compiled(self.state, *self.data)
        return loss

    def copies(self) -> float:
        """Copies of arrays of a trace's size, per chunk, in the loop of the compiled program."""
        from _hlo import Program as Hlo

        hlo = Hlo(str(self.compiled.as_text()))
        batch = self.data[0].shape[1] if self.data[0].ndim == 3 else 1
        shapes = {f"{kind}[{lead}64,128]" for kind in ("f32", "c64") for lead in _leads(batch)}
        return sum(hlo.passes(shape)["copied"] for shape in shapes)


def _leads(batch: int) -> tuple[str, ...]:
    return ("1,", "1,1,") if batch == 1 else (f"{batch},", f"{batch},1,")


def measure(cell: str, batch: int, chunk: int, rounds: int) -> dict[str, Any]:
    programs = {"all": Program(cell, batch, chunk)}
    for trick in plain():
        with without(trick):
            programs[trick] = Program(cell, batch, chunk)
    times = alternate(programs, rounds, seconds=40)
    row: dict[str, Any] = {"cell": cell, "samples": batch, "chunk": chunk}
    row["us"] = summary([t / LENGTH for t in times["all"]], 1e6)
    row["without"] = {
        trick: {
            "ratio": summary(ratios(times, trick, "all")),
            "us": digits(1e6 * sorted(times[trick])[len(times[trick]) // 2] / LENGTH),
            "copies": round(programs[trick].copies() / (LENGTH // chunk), 2),
        }
        for trick in plain()
    }
    row["copies"] = round(programs["all"].copies() / (LENGTH // chunk), 2)
    return row


def alone(rounds: int) -> list[dict[str, Any]]:
    """The sums by themselves, as programs of their own: microseconds a call, with and without.

    What is summed is computed on the way, as in the engine: that is what XLA trips over.
    """
    import jax
    from _networks import stack

    from rtrl.engine import _xla

    def normal(*shape: int):
        return jax.random.normal(jax.random.key(0), shape)

    gradient = [leaf for leaf in jax.tree.leaves(stack("LRU")) if hasattr(leaf, "dtype")]
    cases: dict[str, tuple[str, Callable, tuple]] = {
        "sum_over_time": (
            "64 timesteps of 64 modules, one sample, a product",
            lambda f: lambda a, b: f(a * b),
            (normal(64, 1, 1, 64), normal(64, 1, 1, 64)),
        ),
        "sum_over_samples": (
            "16 samples of 256 times 256 numbers, a product",
            lambda f: lambda a, b: f(jax.numpy.multiply, a, b),
            (normal(16, 256, 1), normal(16, 256, 256)),
        ),
        "global_norm": (
            f"a gradient of {len(gradient)} arrays, four LRU layers",
            lambda f: f,
            ([normal(*leaf.shape) for leaf in gradient],),
        ),
    }
    found = []
    for name, (what, around, data) in cases.items():
        kinds = {"with": around(getattr(_xla, name)), "without": around(plain()[name])}
        programs = {kind: _calls(function, data) for kind, function in kinds.items()}
        times = alternate(programs, rounds, seconds=10)
        row: dict[str, Any] = {"trick": name, "what": what}
        row |= {kind: summary([t / CALLS for t in times[kind]], 1e6) for kind in programs}
        row["ratio"] = summary(ratios(times, "without", "with"))
        found.append(row)
    return found


def _calls(function: Callable, data: tuple) -> Callable[[], Any]:
    import jax

    compiled = jax.jit(function).lower(*data).compile()

    def run():
        for _ in range(CALLS):
            result = compiled(*data)
        return result

    return run


def table(result: dict[str, Any]) -> str:
    names = tuple(plain())
    lines = [
        "Four layers, N = 64, H = 128, float32, Adam after every chunk. A timestep of the learner "
        "as it is, and how many times as long it takes with one trick put back to its plain form "
        "(median, least and most of single rounds): above 1 the trick is worth it. Below the "
        "ratios, where there are any: copies of traces per chunk without the trick, and with all.",
        "",
        "| cell | samples | chunk | us/timestep | " + " | ".join(f"`{n}`" for n in names) + " |",
        "|---|---:|---:|---:|" + "---:|" * len(names),
    ]
    for row in result["tricks"]["rows"]:
        cells = []
        for name in names:
            one = row["without"].get(name)
            if one is None:  # a trick that is newer than the row
                cells.append("")
                continue
            ratio = one["ratio"]
            text = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            if one["copies"] or row["copies"]:
                text += f"; {one['copies']:g} copies, {row['copies']:g} with"
            cells.append(text)
        lines.append(
            f"| {row['cell']} | {row['samples']} | {row['chunk']} | {row['us']['median']:.1f} | "
            + " | ".join(cells)
            + " |"
        )
    lines += [
        "",
        "The sums by themselves, as programs of their own; microseconds a call, a few of which are "
        "the call.",
        "",
        "| trick | of what | with | without | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    for row in (r for r in result["alone"]["rows"] if r["trick"] in plain()):
        ratio = row["ratio"]
        lines.append(
            f"| {row['trick']} | {row['what']} | {row['with']['median']:.1f} | "
            f"{row['without']['median']:.1f} | "
            f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) |"
        )
    made = result["tricks"]
    lines += ["", f"`{made['command']}` on {made['cores']} cores, load {made['load']}: "
              + ", ".join(f"{k} {v}" for k, v in made["versions"].items())]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="measure nothing, rewrite the table")
    parser.add_argument("--rounds", type=int, default=31, help="turns of every program")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="the sums by themselves, only")
    options = parser.parse_args()
    if not options.table:
        pin(options.cores)
        rows = alone(options.rounds)
        say(str(rows))
        merge(FILE, "alone", provenance() | {"rows": rows})
        if options.alone:
            return
        rows = []
        for cell in CELLS:
            for batch, chunk in SETTINGS:
                rows.append(measure(cell, batch, chunk, options.rounds))
                say(str(rows[-1]))
        merge(FILE, "tricks", provenance() | {"rows": rows})
    text = table(read(FILE))
    (RESULTS / "tricks.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
