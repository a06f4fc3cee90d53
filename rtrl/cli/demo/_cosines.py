"""Every rule's gradient beside that of BPTT."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import PRNGKeyArray

import rtrl
from rtrl.cli.demo._laser import squared_error

if TYPE_CHECKING:
    from rich.console import Console

RULES: dict[str, tuple[rtrl.rules.Rule, int]] = {  # rule, timesteps per chunk
    "RTRL, K=1 (the paper)": (rtrl.RTRL(), 1),
    "RTRL, chunk errors, K=16": (rtrl.RTRL(errors="chunk"), 16),
    "RTRL, chunk errors, K=64": (rtrl.RTRL(errors="chunk"), 64),
    "truncated to one step": (rtrl.Truncated(), 1),
    "spatial": (rtrl.Spatial(), 1),
    "TBPTT(16), no trace": (rtrl.BPTT(), 16),
}


def network(width: int, depth: int, key: PRNGKeyArray) -> rtrl.SequenceModel:
    return rtrl.SequenceModel(
        in_size=1,
        out_size=1,
        width=width,
        depth=depth,
        cell=lambda size, key: rtrl.cells.LRU(size, width, key=key),
        key=key,
    )


def gradient_cosines(
    model: rtrl.SequenceModel,
    xs: np.ndarray,
    ys: np.ndarray,
    rules: dict[str, tuple[rtrl.rules.Rule, int]],
    report: Callable[[int, str], None],
) -> dict[str, dict[str, float]]:
    """Cosine of every rule's gradient to that of BPTT, by layer; the stream standardised."""
    _, exact = rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rtrl.BPTT())
    cosines = {}
    for done, (name, (rule, chunk)) in enumerate(rules.items(), start=1):
        _, grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=min(chunk, len(xs))
        )
        layers = rtrl.analysis.cosine_by_layer(grads, exact)
        cosines[name] = {layer: float(cosine) for layer, cosine in layers.items()}
        report(done, name)
    return cosines


def print_cosines(console: "Console", cosines: dict[str, dict[str, float]]) -> None:
    from rich.table import Table

    table = Table(
        title="Cosine of each rule's gradient to that of BPTT",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("rule", no_wrap=True)
    for layer in next(iter(cosines.values())):
        index = layer.removeprefix("layers[").removesuffix("]")
        table.add_column(f"layer {int(index) + 1}" if index != layer else layer, justify="right")
    for name, row in cosines.items():
        table.add_row(name, *(f"{cosine:.3f}" for cosine in row.values()))
    console.print(table)
