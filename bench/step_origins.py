"""Instructions of a single timestep by what they are there for, from the optimized HLO.

    python bench/step_origins.py            compile (two minutes) and write the table
    python bench/step_origins.py --table    only write the table of the last run

The learners of `single_steps.py`: one layer, H features and modules, batch 1, an update at every
timestep inside a compiled loop. Every instruction of the loop that does something counts once, a
fusion being one and of a branch the longer side; it belongs to the innermost function of its Python
stack that `ORIGINS` names. "Before" is a learner that judges every update, "after" one that judges
only those that it can't prove to be finite: there the judge's instructions run at one timestep of
seventeen.
"""

import re
from collections import Counter

from _hlo import FREE, Program
from _timing import provenance, read
from single_steps import ALL_JUDGED, SETTINGS, Scan, command

FILE = "step_origins.json"
#: What instructions are there for, and the functions of the library that make them.
ORIGINS = {
    "inputs": ("remove_nonfinite", "bound_data"),
    "norm": ("global_norm",),
    "gradient": ("computed",),
    "judging": ("all_finite", "judged", "_judged_or_proven"),
    "optimizer": ("update.<locals>.optimize", "update_fn", "update"),
    "looking at traces": ("renew", "_renewed"),
    "trace": ("with_trace", "advance_once", "_advance", "_run_local"),
    "one kernel": ("_marked", "_behind", "_first", "_unknown"),
    "forward, errors": ("chunk_gradient", "differentiate"),
    "outputs": ("_learn", "advance_many", "over_chunks"),
}


class Origins:
    """Where the instructions of a program come from."""

    def __init__(self, program: Program):
        self.program = program
        text = program.text
        self.names = dict(re.findall(r'^(\d+) "([^"]*)"$', _section(text, "FunctionNames"), re.M))
        places = re.findall(
            r"^(\d+) \{.*?function_name_id=(\d+)", _section(text, "FileLocations"), re.M
        )
        self.places = dict(places)
        frames = re.findall(
            r"^(\d+) \{file_location_id=(\d+) parent_frame_id=(\d+)",
            _section(text, "StackFrames"), re.M,
        )  # fmt: skip
        self.frames = {int(n): (place, int(parent) - 1) for n, place, parent in frames}

    def of(self, text: str) -> str:
        found = re.search(r"stack_frame_id=(\d+)", text)
        frame = int(found[1]) if found else 0
        while frame in self.frames:
            place, parent = self.frames[frame]
            name = self.names[self.places[place]]
            for origin, functions in ORIGINS.items():
                if any(name == f or name.startswith(f + ".") for f in functions):
                    return self._errors(origin, text)
            frame = parent
        return "unknown"

    @staticmethod
    def _errors(origin: str, text: str) -> str:
        if origin in ("forward, errors", "trace") and "transpose(" in text:
            return "spatial errors" if origin != "trace" else "gradient"
        return "forward" if origin == "forward, errors" else origin

    def count(self, computation: str) -> Counter:
        """The instructions of a computation that runs once."""
        counted = Counter()
        for i in self.program.computations.get(computation, []):
            called = re.findall(r"(?:to_apply|body)=%?([\w.\-]+)", i.text)
            if i.opcode == "conditional":
                found = re.search(r"branch_computations=\{(.*?)\}", i.text)
                branches = re.findall(r"%?([\w.\-]+)", found[1] if found else "")
                counted += max(map(self.count, branches), key=lambda c: c.total())
            elif i.opcode in ("while", "call"):
                counted += self.count(called[0])
            elif i.opcode not in FREE:
                counted[self.of(i.text)] += 1
        return counted

    def loop(self, length: int) -> Counter:
        """Those of the loop over the timesteps."""
        trips = f'"known_trip_count":{{"n":"{length}"'
        loops = [
            re.findall(r"body=%?([\w.\-]+)", i.text)[0]
            for instructions in self.program.computations.values()
            for i in instructions
            if i.opcode == "while" and trips in i.text
        ]
        (body,) = loops
        return self.count(body)


def _section(text: str, name: str) -> str:
    return text.split(f"\n{name}\n", 1)[1].split("\n\n", 1)[0]


def measure(setting) -> dict:
    def counted(replaced: dict, separate: bool) -> dict[str, int]:
        scan = Scan(setting, replaced, separate)
        return dict(Origins(Program(str(scan.compiled.as_text()))).loop(setting.length))

    before, after = counted(ALL_JUDGED, True), counted({}, False)
    return {**setting._asdict(), "before": before, "after": after, **provenance()}


def table() -> str:
    runs = list(read(FILE).values())
    known = [*dict.fromkeys(o for run in runs for o in (*run["before"], *run["after"]))]
    order = ["inputs", "forward", "spatial errors", "trace", "gradient", "norm", "judging",
             "optimizer", "looking at traces", "one kernel", "outputs", "unknown"]  # fmt: skip
    names = sorted(known, key=order.index)
    lines = [
        "Instructions of one timestep by what they are there for: before (separate kernels, every "
        "update judged) / after (one kernel, one update of seventeen judged).",
        "",
        f"| cell | H | optimizer | {' | '.join(names)} | all |",
        "|" + "---|" * (len(names) + 4),
    ]
    for run in runs:
        both = [f"{run['before'].get(name, 0)} / {run['after'].get(name, 0)}" for name in names] + [
            f"{sum(run['before'].values())} / {sum(run['after'].values())}"
        ]
        cells = [run["cell"], run["size"], run["optimizer"], *both]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    # Of another size it is the same program.
    command(__doc__, FILE, [s for s in SETTINGS if s[1] == 64], measure, table)
