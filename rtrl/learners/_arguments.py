"""What an `OnlineLearner` can be made of."""

from typing import Any

from rtrl.engine import check_rule, check_trace_dtype
from rtrl.learners._filter_check import require_every_update
from rtrl.learners._guard import Guard
from rtrl.learners._overlap import check_overlap
from rtrl.validate import require


def check_arguments(
    loss: Any,
    optimizer: Any,
    rule: Any,
    update_every: Any,
    overlap: Any,
    on_nonfinite: Any,
    guard: Any,
    trace_dtype: Any,
) -> None:
    """Raise a `ValueError` that names the first argument that is of the wrong kind."""
    require(callable(loss), "loss", "a function (prediction, target) -> scalar", loss)
    require(
        callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None)),
        "optimizer",
        "an optax gradient transformation such as optax.adam(1e-3)",
        optimizer,
    )
    check_rule(rule)
    require(
        isinstance(update_every, int) and update_every >= 1,
        "update_every",
        "an integer of at least 1 (chunks)",
        update_every,
    )
    require_every_update(optimizer, update_every)
    check_overlap(overlap, rule)
    known = on_nonfinite in ("skip", "raise", "ignore")
    require(known, "on_nonfinite", "'skip', 'raise' or 'ignore'", on_nonfinite)
    require(isinstance(guard, Guard | None), "guard", "an rtrl.Guard or None", guard)
    alone = guard is None or on_nonfinite != "ignore"
    require(alone, "guard", "None where on_nonfinite is 'ignore'", guard)
    check_trace_dtype(trace_dtype, rule)
