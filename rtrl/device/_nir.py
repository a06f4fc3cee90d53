"""Networks of leaky and spiking neurons as graphs of the neuromorphic intermediate representation.

NIR's neurons are differential equations; over a timestep ``dt`` with a constant current they are,
exactly, our cells: ``tau v' = (v_leak - v) + R I`` is ``v_t = a v_{t-1} + (1 - a) (v_leak + R I)``
with ``a = exp(-dt / tau)``.
"""

import importlib
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from rtrl.cells import LIF, CubaLIF, LeakyIntegrator, is_cell
from rtrl.networks import Sequential
from rtrl.validate import require

NEURONS = ("LIF", "CubaLIF", "LI")


def to_nir(network: Any, dt: float = 1e-3) -> Any:
    """Give a network of leaky and spiking neurons as a graph of NIR.

    ::

        LeakyIntegrator   Affine(weight, bias), LI(tau dt, r = 1, v_leak = 0)
        LIF               Affine(W, b), LIF(tau dt, r = 1 / (1 - a), v_leak = 0, v_reset = 0)
        CubaLIF           Affine(W, bias), CubaLIF(tau_syn dt, tau dt, r = w_in = 1, v_reset = 0)
        equinox.nn.Linear Affine, or Linear without a bias

    Args:
        network: a cell, or a `rtrl.Sequential` of cells and `equinox.nn.Linear`.
        dt: seconds of a timestep.

    Returns:
        An ``nir.NIRGraph``; ``nir.write("network.nir", graph)`` stores it.

    Raises:
        ValueError: what NIR can't say, by name: another cell, recurrent weights (``dense=True``), a
            reset by subtraction, complex states, norms, gates and skips.
        ImportError: the package nir is not installed (``pip install 'rtrl[nir]'``).

    Source: Pedersen et al., "Neuromorphic intermediate representation" (2024), table 1.
    """
    nir = _nir()
    _check_dt(dt)
    layers = (network,) if is_cell(network) else getattr(network, "layers", None)
    known = is_cell(network) or isinstance(network, Sequential)
    require(known, "network", "a cell or a rtrl.Sequential (NIR has no norm, gate or skip around "
            "a cell)", type(network).__name__)  # fmt: skip
    nodes: list[Any] = []
    for place, layer in enumerate(layers or ()):
        nodes += _nodes(nir, layer, f"layers[{place}]", dt)
    return nir.NIRGraph.from_list(*nodes)


def from_nir(graph: Any, dt: float = 1e-3) -> Sequential:
    """Make a network that learns of a graph of NIR, which computes the same.

    A neuron takes the weights of the node before it, scaled so that its resistance is 1 and every
    threshold is that of the first neuron; ``v_leak`` goes into the bias.

    Args:
        graph: an ``nir.NIRGraph``, a chain of ``Linear``, ``Affine``, ``LIF``, ``CubaLIF``, ``LI``.
        dt: seconds of a timestep.

    Returns:
        A `rtrl.Sequential` for `OnlineLearner`, its parameters in timesteps.

    Raises:
        ValueError: a graph that is no chain, another node, a reset to something other than zero, or
            a leak of a current-based neuron: by name.
        ImportError: the package nir is not installed (``pip install 'rtrl[nir]'``).

    Source: as for `to_nir`.
    """
    nir = _nir()
    _check_dt(dt)
    require(isinstance(graph, nir.NIRGraph), "graph", "an nir.NIRGraph", type(graph).__name__)
    chain = _chain(nir, graph)
    layers: list[Any] = []
    weight = bias = None  # of an affine map that waits for its neuron
    for name, node in chain:
        kind = type(node).__name__
        if kind in NEURONS:
            size = node.v_leak.size
            W = np.eye(size) if weight is None else weight
            layers.append(_cell(node, f"graph.nodes[{name!r}]", W,
                                np.zeros(size) if bias is None else bias, dt))  # fmt: skip
            weight = bias = None
            continue
        known = kind in ("Linear", "Affine")
        require(known, f"graph.nodes[{name!r}]", "Linear, Affine, LIF, CubaLIF or LI", kind)
        if weight is not None:
            layers.append(_linear(weight, bias))
        weight, bias = np.asarray(node.weight), getattr(node, "bias", None)
        require(weight.ndim == 2, f"graph.nodes[{name!r}]", "a matrix", weight.shape)
    if weight is not None:
        layers.append(_linear(weight, bias))
    require(any(map(is_cell, layers)), "graph", "one with a neuron", [n for n, _ in chain])
    first = layers[0]
    matrix = first.project() if is_cell(first) else first.weight
    return Sequential(matrix.shape[1], layers)


def _nir() -> Any:
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ImportError("NIR needs the package nir: pip install 'rtrl[nir]'.") from error


def _check_dt(dt: float) -> None:
    require(isinstance(dt, int | float) and 0 < dt < math.inf, "dt", "seconds of a timestep", dt)


def _nodes(nir: Any, layer: Any, name: str, dt: float) -> list[Any]:
    if isinstance(layer, eqx.nn.Linear):
        weight = np.asarray(layer.weight)
        if layer.bias is None:
            return [nir.Linear(weight)]
        return [nir.Affine(weight, np.asarray(layer.bias))]
    require(type(layer) in (LIF, CubaLIF, LeakyIntegrator), name,
            "LIF, CubaLIF, LeakyIntegrator or equinox.nn.Linear", type(layer).__name__)  # fmt: skip
    tau = _float64(jnp.exp(layer.tau_log)) * dt
    ones, zeros = np.ones_like(tau), np.zeros_like(tau)
    if isinstance(layer, LeakyIntegrator):
        affine = nir.Affine(_float64(layer.weight), _float64(layer.bias))
        return [affine, nir.LI(tau=tau, r=ones, v_leak=zeros)]
    require(layer.reset == "zero", f"{name}.reset", "'zero' (NIR's neurons are reset to a value)",
            layer.reset)  # fmt: skip
    threshold = {"v_leak": zeros, "v_threshold": ones * layer.threshold, "v_reset": zeros}
    if isinstance(layer, CubaLIF):
        tau_syn = _float64(jnp.exp(layer.tau_syn_log)) * dt
        neuron = nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, r=ones, w_in=ones, **threshold)
        return [nir.Affine(_float64(layer.W), _float64(layer.bias)), neuron]
    require(layer.U is None, f"{name}.U", "no recurrent weights (dense=False)", layer.U.shape
            if layer.U is not None else None)  # fmt: skip
    r = -1 / np.expm1(-dt / tau)
    return [nir.Affine(_float64(layer.W), _float64(layer.b)), nir.LIF(tau=tau, r=r, **threshold)]


def _chain(nir: Any, graph: Any) -> list[tuple[str, Any]]:
    """The nodes between input and output, in their order."""
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    before = dict.fromkeys(graph.nodes, 0)
    for source, target in graph.edges:
        after[source].append(target)
        before[target] += 1
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.ir.Input)]
    branched = [n for n in graph.nodes if len(after[n]) > 1 or before[n] > 1]
    require(len(inputs) == 1 and not branched, "graph", "a chain of nodes from one input, without "
            "branches, sums or loops", branched or inputs)  # fmt: skip
    (name,), chain = inputs, []
    while after[name]:
        (name,) = after[name]
        chain.append((name, graph.nodes[name]))
    require(bool(chain) and isinstance(chain[-1][1], nir.ir.Output) and
            len(chain) + 1 == len(graph.nodes), "graph", "a chain of all nodes, from the input to "
            "the output", [n for n, _ in chain])  # fmt: skip
    return chain[:-1]


def _cell(node: Any, name: str, W: np.ndarray, b: np.ndarray, dt: float) -> Any:
    """The cell of a neuron and of the affine map before it."""
    kind = type(node).__name__
    leak, r = _float64(node.v_leak).ravel(), _float64(node.r).ravel()
    size, key = len(r), jax.random.key(0)
    if kind == "LI":
        cell = LeakyIntegrator(W.shape[1], size, key=key)
        return _with(cell, tau_log=np.log(_float64(node.tau) / dt), weight=r[:, None] * W,
                     bias=r * b + leak)  # fmt: skip
    require(not np.any(node.v_reset), f"{name}.v_reset", "zero", node.v_reset)
    thresholds = _float64(node.v_threshold).ravel()
    require(bool((thresholds > 0).all()), f"{name}.v_threshold", "positive ones", thresholds)
    scale = thresholds[0] / thresholds
    options = {"threshold": float(thresholds[0]), "reset": "zero", "key": key}
    if kind == "CubaLIF":
        require(not np.any(leak), f"{name}.v_leak", "zero (a leak past the synapse)", leak)
        gain = scale * r * _float64(node.w_in).ravel()
        return _with(CubaLIF(W.shape[1], size, **options), W=gain[:, None] * W, bias=gain * b,
                     tau_log=np.log(_float64(node.tau_mem) / dt),
                     tau_syn_log=np.log(_float64(node.tau_syn) / dt))  # fmt: skip
    tau = _float64(node.tau).ravel()
    gain = -np.expm1(-dt / tau) * scale
    return _with(LIF(W.shape[1], size, **options), tau_log=np.log(tau / dt),
                 W=(gain * r)[:, None] * W, b=gain * (r * b + leak))  # fmt: skip


def _with(cell: Any, **values: np.ndarray) -> Any:
    names = tuple(values)
    arrays = [jnp.asarray(v.reshape(getattr(cell, n).shape), getattr(cell, n).dtype)
              for n, v in values.items()]  # fmt: skip
    return eqx.tree_at(lambda c: [getattr(c, n) for n in names], cell, arrays)


def _linear(weight: np.ndarray, bias: Any) -> eqx.nn.Linear:
    out, size = weight.shape
    layer = eqx.nn.Linear(size, out, use_bias=bias is not None, key=jax.random.key(0))
    layer = eqx.tree_at(lambda m: m.weight, layer, jnp.asarray(weight, layer.weight.dtype))
    if bias is None:
        return layer
    return eqx.tree_at(lambda m: m.bias, layer, jnp.asarray(bias, layer.weight.dtype))


def _float64(array: Any) -> np.ndarray:
    return np.asarray(array, np.float64)
