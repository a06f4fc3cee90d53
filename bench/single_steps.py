"""Where the time of a single timestep goes: every part taken away by itself, and kernels joined.

    python bench/single_steps.py            measure (fifteen minutes) and write the table
    python bench/single_steps.py --table    only write the table of the last run

One layer, H features and modules, a linear readout, batch 1, an update at every timestep inside a
compiled loop: the network of `braintrace_peer.py`. Times are the least of many rounds in which all
variants take turns in one process, as others work on the machine; a part's time is what a timestep
takes less without it, separate kernels and every update judged all along, and need not add up.
What the instructions are is told by `step_origins.py`.
"""

import argparse
import itertools
import os
import re
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from _timing import RESULTS, alternate, digits, merge, provenance, read, say

FILE = "single_steps.json"
SETTINGS = list(itertools.product(("LRU", "MinGRU", "LIF"), (16, 64, 256), ("sgd", "adam")))
ROUNDS = 25


#: What makes a learner judge every update: no proof is found.
ALL_JUDGED = {"_update.prove": lambda *_: None}


#: What makes a learner write the gradients of matrices to memory, and read them again.
STORED = {"_step.later": lambda function, *operands, run, when: run(function, *operands)}


def parts() -> dict[str, dict[str, Any]]:
    """What `rtrl.learners` is given in the place of one of its parts, by module and name."""
    import jax.numpy as jnp

    return {
        "judging the update": {"_update.all_finite": lambda *_, **__: jnp.ones((), bool)},
        "the norm of the gradient": {"_step.global_norm": lambda *_, **__: jnp.ones(())},
        "looking at inputs": {
            "_step.remove_nonfinite": lambda data: (data, jnp.ones(data.weights.shape, bool))
        },
        "looking at traces": {"_step.renew": lambda model, carry, *_: (carry, jnp.zeros((), bool))},
    }


class Scan:
    """A learner's scan, compiled with the parts and in the kernels of that moment."""

    def __init__(self, setting: Any, replaced: dict[str, Any], separate: bool, **chosen: Any):
        import jax
        from _braintrace_sides import noise_of, optimizer_of, our_network, squared_error
        from _hlo import Program

        import rtrl
        from rtrl.learners import _step, prepare
        from rtrl.learners._jit import split

        learner = rtrl.OnlineLearner(squared_error, optimizer_of(setting.optimizer), **chosen)
        state = learner.init(our_network(setting))
        xs, ys = noise_of(setting, setting.length, setting.size)
        data = prepare(state.model, xs, ys, None, None, None)
        fresh = _step._Advance(_step.advance_many.keeping.function).donating
        jax.clear_caches()  # or what was traced before would come back
        with ExitStack() as stack:
            for name, function in replaced.items():
                stack.enter_context(patch(f"rtrl.learners.{name}", function))
            stack.enter_context(separate_kernels(separate))
            self.compiled = fresh.compile(learner, data, 1, state)
        program = Program(str(self.compiled.as_text()))
        self.kernels = len(re.findall(r" call\(.*xla_cpu_small_call", program.text))
        (self.rest, _), (self.state, _) = split([learner, data, 1]), split(state)

    def __call__(self) -> Any:
        found = self.compiled(self.rest, self.state)
        self.state = found[: len(self.state)]
        return found[-1]


def separate_kernels(separate: bool) -> Any:
    return patch.dict(os.environ, {"RTRL_SEPARATE_KERNELS": "1" if separate else "0"})


def measure(setting: Any) -> dict[str, Any]:
    from _braintrace_sides import no_trace

    import rtrl

    variants: dict[str, Any] = {
        "all": Scan(setting, {}, False),
        "gradients stored": Scan(setting, STORED, False),
        "every update judged": Scan(setting, ALL_JUDGED, False),
        "separate kernels": Scan(setting, ALL_JUDGED, True),
        "nothing tested": Scan(setting, {}, False, on_nonfinite="ignore"),
        "nothing tested, separate kernels": Scan(setting, {}, True, on_nonfinite="ignore"),
        "no trace, separate kernels": Scan(setting, ALL_JUDGED, True, rule=rtrl.Truncated()),
        "no trace, plain JAX": no_trace(setting),
    }
    for name, replaced in parts().items():
        variants[f"without {name}, separate kernels"] = Scan(setting, ALL_JUDGED | replaced, True)
    times = alternate(variants, ROUNDS)
    scans = {name: v for name, v in variants.items() if isinstance(v, Scan)}
    return {
        **setting._asdict(),
        "microseconds a timestep": {
            name: digits(1e6 * min(t) / setting.length) for name, t in times.items()
        },
        "joined kernels": {name: scan.kernels for name, scan in scans.items()},
        **provenance(),
    }


def table() -> str:
    runs = list(read(FILE).values())
    names = ["judging the update", "the norm of the gradient", "looking at inputs",
             "looking at traces"]  # fmt: skip
    lines = [
        "Microseconds of a timestep inside a loop, the least of many rounds; behind them what "
        "single parts of it take in separate kernels.",
        "",
        "| cell | H | optimizer | now | gradients stored | every update judged | and in separate "
        "kernels | nothing tested | no trace, plain JAX | now / no trace | "
        f"{' | '.join(names)} | the trace |",
        "|" + "---|" * (11 + len(names)),
    ]
    runs.sort(key=lambda run: SETTINGS.index((run["cell"], run["size"], run["optimizer"])))
    kinds = ("all", "gradients stored", "every update judged", "separate kernels",
             "nothing tested", "no trace, plain JAX")  # fmt: skip
    for run in runs:
        t = run["microseconds a timestep"]
        separate = t["separate kernels"]
        taken = [f"{separate - t[f'without {name}, separate kernels']:.1f}" for name in names]
        trace = separate - t["no trace, separate kernels"]
        cells = [
            run["cell"], run["size"], run["optimizer"], *(f"{t[kind]:.1f}" for kind in kinds),
            f"{t['all'] / t['no trace, plain JAX']:.2f}", *taken, f"{trace:.1f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def command(description: str | None, file: str, settings: list, measure: Any, table: Any) -> None:
    """Measure and keep all settings, unless only the table is asked for; write and print it."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="compute nothing")
    if not parser.parse_args().table:
        from _braintrace_sides import Setting

        for cell, size, optimizer in settings:
            setting = Setting(cell, size, 1, 1, optimizer)
            result = measure(setting)
            merge(file, setting.name, result)
            say(setting.name)
    (RESULTS / file).with_suffix(".md").write_text(table())
    print(table())


if __name__ == "__main__":
    command(__doc__, FILE, SETTINGS, measure, table)
