"""Is the rate too high, or too low? In words, from the window learned again with other rates."""

from collections.abc import Iterator

import numpy as np

from rtrl.analysis._finding import Finding
from rtrl.analysis._measured import Measured

POOR = 0.5  # of the loss of the best constant
TOO_MUCH = 1.3  # times the loss that a smaller rate would have had
#: Of the loss of the best constant, the difference that it makes; the smaller one where the learner
#: is not much better than a constant itself.
MATTERS, MATTERS_HERE, NOT_MUCH = 0.25, 0.12, 0.6
USELESS = 1.15  # times the loss of the best constant: worse than it, and better if it learned less
TOO_LITTLE = 0.5  # of the loss, what ten times the rate would have left
TOO_LARGE = 4.0  # times their size as initialised, weights
TOO_LARGE_LOSS = 0.8  # times the loss of the best constant, that of a learner with such weights
MOVES = 1e-4  # of a layer's parameters, by which a window's learning moves them at least
WORSE = 1.5  # times the loss of the best constant


def rate_findings(m: Measured, found: list[Finding]) -> Iterator[Finding]:
    """Say whether the rate is too high, too low, or nothing at all; ``found`` is what else is."""
    factors, losses = m.replay.factors, m.replay.losses
    now = losses[factors == 1][0]
    smaller, larger = losses[factors < 1], losses[factors > 1]
    best = int(np.argmin(smaller))
    if not np.isfinite(smaller[best]):
        yield Finding(
            "rate too high", "",
            "The loss on the window is not finite, with a smaller rate and without learning "
            "neither: learning has gone off.",
            "Begin again from an earlier state with a tenth of the rate.",
        )  # fmt: skip
        return
    share = factors[factors < 1][best]
    excess = now - smaller[best]
    with_it = "without learning" if share == 0 else f"with {share:g} times its updates"
    moved = max((u for u in m.replay.updates.values() if np.isfinite(u)), default=0.0)
    if not np.isfinite(now) or (
        excess > (MATTERS_HERE if now > NOT_MUCH * m.constant_loss else MATTERS) * m.constant_loss
        and (now > TOO_MUCH * smaller[best] or (m.steps and now > USELESS * m.constant_loss))
    ):
        tenth = "0.1" if share == 0 else f"{share:g}"
        yield Finding(
            "rate too high", "",
            f"Learning the window again gives a loss of {now:.3g} (the best constant: "
            f"{m.constant_loss:.3g}); {with_it} it would be {smaller[best]:.3g}. Its updates "
            f"moved a layer by {moved:.0%} of its parameters' size.",
            f"Multiply the rate by {tenth}.",
        )  # fmt: skip
        return
    out_of_scale = any(f.kind == "inputs out of scale" for f in found)
    useless = m.loss > TOO_LARGE_LOSS * m.constant_loss
    if m.steps and m.weight_scale > TOO_LARGE and useless and not out_of_scale:
        yield Finding(
            "rate too high", "",
            f"The weights of a typical layer have grown to {m.weight_scale:.2g} times what they "
            f"are initialised at, and the loss of {m.loss:.3g} is no better than a constant's, "
            f"{m.constant_loss:.3g}: learning has gone off.",
            "Begin again from an earlier state with a tenth of the rate.",
        )  # fmt: skip
        return
    yield from _stopped(m)
    stopped = moved < MOVES
    if (
        m.steps
        and not stopped
        and m.loss > WORSE * m.constant_loss
        and now > WORSE * m.constant_loss
    ):
        if not any(f.problem for f in found):
            yield Finding(
                "rate too high", "",
                f"The loss on the window is {m.loss:.3g}, that of the best constant prediction "
                f"{m.constant_loss:.3g}, and no other rate repairs it now: learning has gone off.",
                "Begin again from an earlier state with a tenth of the rate.",
            )  # fmt: skip
        return
    frozen = losses[factors == 0][0]
    most = larger.min()
    if (
        not stopped
        and not any(f.problem for f in found)
        and now > 0.98 * frozen
        and most < TOO_LITTLE * now
    ):
        factor = factors[factors > 1][int(np.argmin(larger))]
        yield Finding(
            "rate too low", "",
            f"The window's loss is {now:.3g} and would be {frozen:.3g} without learning, "
            f"but {most:.3g} with {factor:g} times the updates.",
            f"Multiply the rate by {factor:g}.",
        )  # fmt: skip


def _stopped(m: Measured) -> Iterator[Finding]:
    moved = max((u for u in m.replay.updates.values() if np.isfinite(u)), default=0.0)
    if moved == 0:
        yield Finding(
            "nothing is learned", "", "The updates are zero.",
            "Look at the rate and its schedule, at the weights of the losses, and at out.skipped.",
        )  # fmt: skip
    elif moved < MOVES and m.loss > POOR * m.constant_loss:
        yield Finding(
            "rate too low", "",
            f"Learning the whole window moved no layer by more than {moved:.1g} of its "
            f"parameters' size, and the loss of {m.loss:.3g} is not far below that of a constant, "
            f"{m.constant_loss:.3g}.",
            "Multiply the rate by 100, or look at its schedule.",
        )  # fmt: skip
