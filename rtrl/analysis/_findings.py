"""From what was measured to words: what is wrong with a learner, and what to try.

One function per complaint. The thresholds are beside them; each was set so that learners which
learn are not complained about, and is far from where the five learners broken on purpose are.
"""

from collections.abc import Iterator

import numpy as np

from rtrl.analysis._finding import Finding
from rtrl.analysis._measured import Layer, Measured
from rtrl.analysis._rate_findings import POOR, rate_findings
from rtrl.analysis._timescales import high_quantile


def findings(measured: Measured) -> list[Finding]:
    """Say what is wrong, the likeliest cause first."""
    if not measured.finite:  # nothing else can be told from it
        return list(_not_finite())
    broken = [*_inputs(measured), *_stale(measured), *_saturated(measured)]
    broken += [*_dead(measured, broken), *_growing(measured)]
    found = [*rate_findings(measured, broken), *broken, *_short(measured), *_misaligned(measured)]
    return sorted(found, key=lambda f: not f.problem)  # stable: the order above within each


def _not_finite() -> Iterator[Finding]:
    yield Finding(
        "not finite", "", "Parameters, states or traces hold infinities or NaN.",
        "Go back to a saved state; lower the rate, or use a cell that can't grow (LRU).",
    )  # fmt: skip


STALE = 0.8  # of their norm, the distance of a carried trace from one of today's parameters
STALE_COSINE = 0.6  # and their cosine, where they are of about the same size
EULER = 0.8  # of a state, how far its trace is from what it must be
EULER_ELSEWHERE = 0.25  # where nothing else can be told
AT_END = 0.05  # share of the window that may lie nearer to the carried state than its end
LONGER = 10.0  # times: a carried trace that is so much longer or shorter than one of the window


def _stale(m: Measured) -> Iterator[Finding]:
    for layer in m.layers:
        s = layer.staleness
        at_end = m.place <= AT_END
        wrong = at_end and s.judged > 0 and (s.relative > STALE or s.cosine < STALE_COSINE)
        if wrong:
            yield Finding(
                "stale trace", layer.name,
                f"The carried trace of a typical module is {s.relative:.0%} of its norm away from "
                f"one recomputed over the window with today's parameters (cosine {s.cosine:.2f}): "
                "its gradients are those of other parameters.",
                "Reset the carry (learner.reset) after changing parameters by hand or loading "
                "them; otherwise lower the rate of the module parameters (paper_optimizer's "
                "module_factor), or update less often (update_every, chunk).",
            )  # fmt: skip
        elif s.identity > (EULER if at_end else EULER_ELSEWHERE):
            yield Finding(
                "stale trace", layer.name,
                f"The carried trace does not fit the carried state: h differs from sum W dh/dW, "
                f"which it must equal for this cell, by {s.identity:.0%} of its norm.",
                "Reset the carry (learner.reset) after changing parameters by hand or loading "
                "them; otherwise lower the rate.",
            )  # fmt: skip
    if m.place > AT_END and any(x.trace_size for x in m.layers):
        yield Finding(
            "window elsewhere", "",
            "The window does not end where the state is: "
            f"{m.place:.0%} of its timesteps are nearer to the carried state than its end.",
            "Either it is not the last that was learned (give that, for traces to be compared), or "
            "the carried state is an old one (learner.reset).",
            problem=False,
        )  # fmt: skip


DEAD_SHARE = 1e-4  # of the network's gradient
STILL = 1e-6  # of its size, what a state moves
DEAD_MODULES = 0.5


def _dead(m: Measured, found: list[Finding]) -> Iterator[Finding]:
    shut = [f.where for f in found if f.kind == "saturated gates"]
    for layer in m.layers:
        if layer.name in shut:  # which says why it is dead
            continue
        still = layer.state_move <= STILL * np.maximum(layer.state_size, 1e-12)
        if still.all():
            yield Finding(
                "dead layer", layer.name,
                "No state of it moves on the window: it passes on nothing of its input.",
                "Look at the input weights and at what comes before; initialise the layer anew.",
            )  # fmt: skip
            continue
        if layer.share < DEAD_SHARE:
            yield Finding(
                "dead layer", layer.name,
                f"Its recurrent parameters get {layer.share:.1g} of the network's gradient: no "
                "error reaches them.",
                "Look at the readout and the gates after it (zero weights, an activation at its "
                "stop); initialise the layer anew, or lower the rate that brought it there.",
            )  # fmt: skip
            continue
        typical = np.median(layer.gradient_size[layer.gradient_size > 0])
        deaf = still | (layer.gradient_size <= 1e-5 * typical)
        if deaf.mean() >= DEAD_MODULES:
            yield Finding(
                "dead modules", layer.name,
                f"{deaf.sum()} of {deaf.size} modules do not move or get no gradient.",
                "Initialise them anew, or use fewer.",
            )  # fmt: skip


SATURATED = 0.3  # of the modules


def _saturated(m: Measured) -> Iterator[Finding]:
    for layer in m.layers:
        for gate in layer.gates:
            stuck = gate.saturated >= 0.8
            if stuck.mean() < SATURATED:
                continue
            where = f"mean value {gate.values[stuck].mean():.3g}"
            yield Finding(
                "saturated gates", layer.name,
                f"{gate.name} of the cell is at its stop in {stuck.sum()} of {stuck.size} modules "
                f"({where}) for most of the window: no gradient passes through it.",
                "Initialise its bias and weights smaller, standardise the inputs, and lower the "
                "rate if learning brought it there.",
            )  # fmt: skip


GROWING = 0.01  # of the modules


def _growing(m: Measured) -> Iterator[Finding]:
    for layer in m.layers:
        grows = layer.timescales < 0
        if grows.mean() <= GROWING or layer.retention[-1] < 10:
            continue
        fastest = -layer.timescales[grows].max()
        yield Finding(
            "growing states", layer.name,
            f"{grows.sum()} of {grows.size} modes grow, the fastest e-fold in {fastest:.3g} "
            "timesteps: states and gradients explode.",
            "Use a cell whose decay can't pass 1 (LRU, MinGRU, RGLRU), shrink the recurrent "
            "weights (rtrl.analysis.advise), or reset more often.",
        )  # fmt: skip


OWED = 0.15  # R^2 of today's errors by one old input
WEIGHS = 0.075  # of the loss of the best constant, what it costs
STANDS_OUT = 0.1  # by so much above what other lags explain
BEYOND = 3.0  # time scales: what a module holds has fallen to 5% there
SHORT = 3.0  # timesteps: less is hardly a memory


def reach(layers: list[Layer]) -> float:
    """The longest time scale of a network that more than a few modules have, timesteps."""
    return max(high_quantile(x.timescales) for x in layers)


def _short(m: Measured) -> Iterator[Finding]:
    longest = reach(m.layers)
    limit = int(np.ceil(BEYOND * longest)) if np.isfinite(longest) else len(m.owed)
    within, beyond = m.owed[:limit], m.owed[limit:]
    initial = [x.initial for x in m.layers if x.initial is not None]
    was = f" (at first {max(map(high_quantile, initial)):.3g})" if initial else ""
    most = beyond.max(initial=0.0)
    stands_out = beyond.size > 0 and most > np.median(beyond) + STANDS_OUT
    matters = most * m.loss > WEIGHS * m.constant_loss
    if stands_out and matters and most > max(OWED, 1.5 * max(within, default=0.0)):
        lag = limit + int(np.argmax(beyond))
        yield Finding(
            "time scales too short", "",
            f"The input of {lag} timesteps ago explains {most:.0%} of today's error, and "
            f"nine modules of ten forget within {longest:.3g} timesteps{was}.",
            f"Give the cells time scales of {lag} timesteps and more: for an LRU r_max above "
            f"{np.exp(-1 / max(lag, 1)):.4f}, for gated cells tau_max={2 * lag} "
            "(rtrl.analysis.advise).",
        )  # fmt: skip
    elif longest < SHORT and m.steps and m.loss > POOR * m.constant_loss:
        yield Finding(
            "time scales too short", "",
            f"Nine modules of ten forget within {longest:.3g} timesteps{was}, and the loss of "
            f"{m.loss:.3g} is not far from that of a constant, {m.constant_loss:.3g}.",
            "Give the cells longer time scales (r_max of an LRU, tau_max of gated cells), unless "
            "the task needs no memory.",
        )  # fmt: skip


MISALIGNED = 0.2  # cosine


def _misaligned(m: Measured) -> Iterator[Finding]:
    for layer in m.layers:
        if layer.cosine < MISALIGNED and layer.share > DEAD_SHARE:
            yield Finding(
                "misaligned gradient", layer.name,
                f"The gradient of {m.rule} has a cosine of {layer.cosine:.2f} with BPTT's on the "
                "window: it is of little use here.",
                "Use RTRL (or SnAp-1 where modules see each other) and larger chunks.",
                problem=False,
            )  # fmt: skip


def _inputs(m: Measured) -> Iterator[Finding]:
    scale = m.input_scale
    if scale.size and (scale.max() > 30 or 0 < scale.max() < 0.01):
        yield Finding(
            "inputs out of scale", "",
            f"The standard deviations of the inputs go up to {scale.max():.3g}.",
            "Standardise them: rtrl.Standardized does it online.",
        )  # fmt: skip
