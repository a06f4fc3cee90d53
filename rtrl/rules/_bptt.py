"""Backpropagation through time, the baseline."""

from typing import ClassVar

from rtrl.engine import Rule


class BPTT(Rule):
    """Backpropagation through time: plain reverse-mode autodiff of the unrolled recurrence.

    ::

        e_t = delta_t + (dh_{t+1}/dh_t)^T e_{t+1},   dl/dtheta = sum_t e_t^T dh_t/dtheta

    Bias: none. Nothing is learned before the end of the sequence. Taken in chunks it is truncated
    to them: no error crosses a boundary, and `label` says so.

    Memory per sample: the activations of the sequence or chunk, O(T (N + H)). Time per timestep:
    one forward and one backward pass.

    Source: Werbos, "Backpropagation through time" (1990); Williams & Peng (1990) for TBPTT.
    """

    whole_sequence: ClassVar[bool] = True

    def label(self, chunk: int | None = None) -> str:
        return "BPTT" if chunk is None else f"TBPTT({chunk})"
