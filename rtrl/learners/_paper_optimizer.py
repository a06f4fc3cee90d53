"""The optimizer of the paper."""

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

from rtrl.cells import is_cell
from rtrl.engine import Modules, structure
from rtrl.validate import require


def paper_optimizer(
    model: PyTree,
    learning_rate: float,
    *,
    module_factor: float = 0.5,
    slow_projections: bool = False,
    weight_decay: float = 0.0,
    warmup: int = 0,
    decay_steps: int | None = None,
) -> optax.GradientTransformation:
    """AdamW with a slower rate and no weight decay for the parameters of recurrent modules.

    ::

        rate(n) = base * n / warmup                              n < warmup
        rate(n) = base * (1 + cos(pi (n - warmup) / (decay_steps - warmup))) / 2      then

    where n counts updates and ``base`` is ``learning_rate``, times ``module_factor`` for module
    parameters (lambda and gamma of an LRU, the time constant of a leaky integrator).

    Args:
        model: the network; its cells tell which parameters are module parameters.
        learning_rate: base rate, positive.
        module_factor: rate of module parameters relative to the others, at least 0.
        slow_projections: give the input projections of the cells (B of an LRU) the slower rate
            and no weight decay too, as the paper's released code does.
        weight_decay: decoupled weight decay of all other parameters, at least 0.
        warmup: updates over which the rate rises linearly from zero.
        decay_steps: updates, warmup included, after which the cosine has reached zero; ``None``
            for a constant rate.

    Returns:
        An optax gradient transformation for gradients of this network.

    Raises:
        ValueError: an argument out of its range.

    Source: Zucchet et al. (2023), appendix B.2 and released code; Loshchilov & Hutter (2019).
    """
    require(learning_rate > 0, "learning_rate", "a positive number", learning_rate)
    require(module_factor >= 0, "module_factor", "at least 0", module_factor)
    require(weight_decay >= 0, "weight_decay", "at least 0", weight_decay)
    require(warmup >= 0, "warmup", "at least 0 updates", warmup)
    require(
        decay_steps is None or decay_steps > warmup,
        "decay_steps",
        f"None or more updates than warmup = {warmup}",
        decay_steps,
    )

    def rate(base: float) -> optax.Schedule:
        rise = optax.linear_schedule(0.0, base, warmup)
        if decay_steps is None:
            fall = optax.constant_schedule(base)
        else:
            fall = optax.cosine_decay_schedule(base, decay_steps - warmup)
        return fall if warmup == 0 else optax.join_schedules([rise, fall], [warmup])

    slow = ("module", "projection") if slow_projections else ("module",)
    labels = jax.tree.map(lambda kind: "slow" if kind in slow else "fast", parameter_kinds(model))
    return optax.partition(
        {
            "slow": optax.adam(rate(learning_rate * module_factor)),
            "fast": optax.adamw(rate(learning_rate), weight_decay=weight_decay),
        },
        lambda _: labels,  # optax takes a callable, which a labelled network would pass for
    )


def parameter_kinds(model: PyTree) -> PyTree[str]:
    """Say of every floating-point leaf what it is: ``"module"``, ``"projection"`` or ``"other"``.

    A leaf that a cell uses in both ``update`` and ``project`` counts as a module parameter.
    """

    def kinds(node):
        params = eqx.filter(node, eqx.is_inexact_array)
        if not is_cell(node):
            return jax.tree.map(lambda _: "other", params)
        modules = Modules(node)
        leaves = [
            "module" if i in structure(modules).module_leaves else
            "projection" if i in structure(modules).projection_leaves else "other"
            for i in range(len(modules.leaves))
        ]  # fmt: skip
        return jax.tree.unflatten(modules.treedef, leaves)

    return jax.tree.map(kinds, model, is_leaf=is_cell)
