"""Backpropagation through time, the baseline."""

from typing import ClassVar

from rtrl.rules._base import Rule


class BPTT(Rule):
    """Backpropagation through time: plain reverse-mode autodiff of the unrolled recurrence.

    Exact, but memory grows with the sequence, and nothing is learned before its end. Taken in
    chunks it is truncated to them: no error crosses a boundary, and `label` says so.

    Source: Werbos, "Backpropagation through time" (1990); Williams & Peng (1990) for TBPTT.
    """

    whole_sequence: ClassVar[bool] = True

    def label(self, chunk: int | None = None) -> str:
        return "BPTT" if chunk is None else f"TBPTT({chunk})"
