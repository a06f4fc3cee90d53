"""The table of the curse's experiments, in Markdown."""

import itertools

import numpy as np
from _curse_deep import NU0 as DEEP_NU0
from _curse_deep import STACKS
from _curse_teachers import CHANGES, CHUNK, NU0, STEPS, batches_to_choose


def table(found: dict, verdict: str) -> str:
    parts = [
        ["# The curse of memory, from our own runs", ""],
        energies(found["energies"]), students(found["teachers"]), changes(found["teachers"]),
        hessians(found["hessian"]), stacks(found["deep"]), [verdict],
    ]  # fmt: skip
    return "\n".join(line for part in parts for line in part) + "\n"


def energies(rows: list) -> list[str]:
    lines = [
        "## Sensitivity through RTRL traces beside the closed form (figure 3.1.A)", "",
        "| λ | ρ | closed form | sampled | off by, standard errors |", "|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for r in rows:
        off = (r["sampled"] - r["closed form"]) / r["error"]
        lines.append(
            f"| {r['lambda']:g} | {r['rho']:g} | {r['closed form']:.4g} | {r['sampled']:.4g} | "
            f"{off:+.1f} |"
        )
    return [*lines, ""]


def span(errors: list) -> str:
    """Geometric mean, and the least and the greatest."""
    if not errors:
        return "not run"
    if None in errors:
        return f"{errors.count(None)} of {len(errors)} diverged"
    mean = np.exp(np.mean(np.log(errors)))
    if len(errors) == 1:
        return f"{mean:.2g} (one seed)"
    return f"{mean:.2g} ({min(errors):.2g} to {max(errors):.2g})"


def errors_of(setting: dict | None, which: str) -> list:
    """Errors of the seeds: ``which`` is "first", after a part of the batches, or "runs"."""
    return [] if setting is None else [r["error"] for r in setting[which]]


def budget(nu0: float, method: str, which: str) -> str:
    count = STEPS[method] if which == "runs" else batches_to_choose(nu0, method)
    return f"{count:,} batches"


def students(teachers: dict) -> list[str]:
    lines = [
        "## Students of teachers with ever longer memory (figure 3.3.A)", "",
        "Error over the variance of the target in the last tenth of training, whose rate falls to "
        "0: geometric mean of the seeds (least to greatest). 1 is a student that says nothing. "
        f"Online: in chunks of {CHUNK['online']}, RTRL; SnAp-1 where dense.", "",
        "| student | trained | batches | " + " | ".join(f"ν0 = {v}" for v in NU0) + " |",
        "|---|---|---|" + "---:|" * len(NU0),
    ]  # fmt: skip
    for kind, method, which in itertools.product(("LRU", "dense"), STEPS, ("first", "runs")):
        cells = [span(errors_of(teachers.get((kind, v, method)), which)) for v in NU0]
        counts = [budget(v, method, which).split()[0] for v in NU0]
        shown = " or ".join(dict.fromkeys(counts))
        lines.append(f"| {kind} | {method} | {shown} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def changes(teachers: dict) -> list[str]:
    nu0 = NU0[-1]
    columns = list(itertools.product(STEPS, ("first", "runs")))
    lines = [
        f"## From dense to LRU, a change at a time (figure 3.3.B, ν0 = {nu0})", "",
        "The power of ten of the rate was chosen on another seed with the smaller number of "
        "batches; * where it is the first or the last that was tried. Dense students began with "
        "the teacher's moduli or with ν0 = 0, whichever was better: ν0 = 0.", "",
        "| student | " + " | ".join(
            f"{m}, {budget(nu0, m, which)}" + (" | 10^" if which == "first" else "")
            for m, which in columns
        ) + " |",
        "|---|" + "---:|" * (len(columns) + len(STEPS)),
    ]  # fmt: skip
    for kind in CHANGES:
        cells = []
        for method, which in columns:
            setting = teachers.get((kind, nu0, method))
            cells.append(span(errors_of(setting, which)))
            if which == "first":
                edge = setting and "*" * setting["edge"]
                cells.append("" if setting is None else f"{setting['power']:g}{edge}")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def hessians(found: dict) -> list[str]:
    lines = [
        "## Hessian at the optimum (figures 3.4 and A.4)", "",
        "Four networks that compute the same, 4 neurons, ν0 = 0.99. Spread: on how many "
        "parameters a top eigenvector lies (mean over at most ten whose eigenvalue is above a "
        "millionth of the largest). Trace: where the curvature is. Rate: of Adam as it acts after "
        "400 steps at 0.001, geometric mean.", "",
        "| student | parameters | largest eigenvalue | fifth | spread | rate | trace |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for name, h in found.items():
        rate = np.exp(np.log(h["rates"]).mean())
        groups = sorted(h["groups"].items(), key=lambda g: -g[1])
        trace = ", ".join(f"{k} {v:.1%}" for k, v in groups if v > 5e-4)
        lines.append(
            f"| {name} | {h['parameters']} | {h['eigenvalues'][0]:.3g} | "
            f"{h['eigenvalues'][4]:.3g} | {np.mean(h['spread']):.2g} | {rate:.2g} | {trace} |"
        )
    return [*lines, ""]


def stacks(found: dict) -> list[str]:
    lines = [
        "## Deep stacks as initialised (figure 3.5)", "",
        f"Growth of mean squares from ν0 = {DEEP_NU0[0]} to {DEEP_NU0[-1]}.", "",
        "| cell | the first layer's state | the fourth's | gradients by group |",
        "|---|---:|---:|---|",
    ]  # fmt: skip
    for stack in STACKS:
        a, b = found[stack][0], found[stack][-1]
        groups = ", ".join(
            f"{k} {b['gradients'][k] / a['gradients'][k]:.2g}"
            for k in a["gradients"] if a["gradients"][k] > 0
        )  # fmt: skip
        lines.append(
            f"| {stack} | {b['first'] / a['first']:.2g} | {b['fourth'] / a['fourth']:.2g} | "
            f"{groups} |"
        )
    return [*lines, ""]
