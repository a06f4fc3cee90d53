"""Rows of `speed.py` that compare with backpropagation through time, one function each."""

from collections.abc import Iterator
from statistics import median

import jax
import jax.numpy as jnp
import optax
from _networks import CELLS, Gradient, Online, UpdateAlone, noise, plain_bptt, stack
from _row import Row
from _timing import alternate, digits, faster, ratios, summary

import rtrl


def _rate(rows: int) -> float:
    """Arithmetic of a product ``(rows, 128) (128, 128)``, in 1e9 operations a second."""
    a, b = jnp.ones((rows, 128)), jnp.ones((128, 128))
    repeats = 2**18 // rows

    @jax.jit
    def multiply(a, b):
        return jax.lax.scan(lambda a, _: (a @ b / 128, None), a, None, length=repeats)[0]

    seconds = median(alternate({"product": lambda: multiply(a, b)}, 9)["product"])
    return digits(2 * rows * 128 * 128 * repeats / seconds / 1e9, 3)


def products(quick: bool) -> Iterator[Row]:
    """The products of matrices that a chunk of 64 is made of, against those of 1,024 timesteps."""
    rates = {f"{rows} timesteps": _rate(rows) for rows in (64, 1024)}
    yield Row(
        "speed of a product (1024, 128) (128, 128) / of (64, 128) (128, 128), all cores",
        rates["1024 timesteps"] / rates["64 timesteps"], None, False, "x",
        {"1e9 operations a second": rates},
    )  # fmt: skip


def gradient(quick: bool) -> Iterator[Row]:
    """Chunks of 64 timesteps, parameters held fixed, against BPTT over the whole sequence."""
    length = 256 if quick else 1024
    for cell in ["LRU"] if quick else CELLS:
        for batch in (None, 16):
            model, (xs, ys) = stack(cell), noise(length, batch)
            programs = {
                "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
                "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
                "chunk errors": Gradient(model, xs, ys, rtrl.RTRL(errors="chunk"), 64),
                "timestep errors": Gradient(model, xs, ys, rtrl.RTRL(errors="timestep"), 64),
                "TBPTT(64), no trace": Gradient(model, xs, ys, rtrl.BPTT(), 64),
            }
            processor: dict[str, list[float]] = {}
            times = alternate(programs, 3 if quick else 40, 12, processor)
            baseline = faster(times, "BPTT", "BPTT by hand")
            detail = {
                "milliseconds": {name: summary(t, 1e3) for name, t in times.items()},
                "processor's milliseconds, all cores": {
                    name: summary(t, 1e3) for name, t in processor.items()
                },
                "processor's time, chunk errors / BPTT": summary(
                    ratios(processor, "chunk errors", baseline)
                ),
                "temporaries": {name: p.temporaries() for name, p in programs.items()},
                "baseline": baseline,
                "TBPTT(64) / BPTT": summary(ratios(times, "TBPTT(64), no trace", baseline)),
            }
            for errors in ("chunk errors", "timestep errors"):
                ratio = ratios(times, errors, baseline)
                yield Row(
                    f"gradient in chunks of 64 / BPTT: {cell}, batch {batch or 1}, {errors}",
                    median(ratio), 1.15, False, "x", detail | {"ratio": summary(ratio)},
                )  # fmt: skip


def online(quick: bool) -> Iterator[Row]:
    """An Adam update at every timestep, against BPTT of as many timesteps and as many updates."""
    length = 256 if quick else 1024
    optimizer = optax.adam(1e-3)
    for cell in ["LRU"] if quick else CELLS:
        model, (xs, ys) = stack(cell), noise(length, None)
        programs = {
            "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
            "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
            "Adam": UpdateAlone(model, optimizer, length),
            "K = 1, gradient only": Gradient(model, xs, ys, rtrl.RTRL()),
            "K = 1, Adam": Online(model, xs, ys, optimizer),
        }
        times = alternate(programs, 3 if quick else 20, 20)
        baseline = faster(times, "BPTT", "BPTT by hand")
        ratio = ratios(times, "K = 1, Adam", baseline, "Adam")
        per_step = {name: summary(t, 1e6 / length) for name, t in times.items()}
        yield Row(
            f"K = 1, Adam at every timestep / (BPTT + Adam): {cell}, batch 1", median(ratio), 2,
            False, "x", {"microseconds per timestep": per_step, "ratio": summary(ratio),
            "baseline": baseline},
        )  # fmt: skip


def wide(quick: bool) -> Iterator[Row]:
    """Single timesteps of one wide layer in a batch: traces that fill the cache."""
    length = 32 if quick else 256
    model, (xs, ys) = stack("LRU", 1, 256, 256), noise(length, 16)
    programs = {
        "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
        "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
        "K = 1": Gradient(model, xs, ys, rtrl.RTRL()),
    }
    times = alternate(programs, 3 if quick else 15, 20)
    baseline = faster(times, "BPTT", "BPTT by hand")
    ratio = ratios(times, "K = 1", baseline)
    per_step = {name: summary(t, 1e6 / length) for name, t in times.items()}
    yield Row(
        "K = 1, gradient only / BPTT: 1 layer, LRU, N = H = 256, batch 16", median(ratio), 4, False,
        "x", {"microseconds per timestep": per_step, "ratio": summary(ratio), "baseline": baseline},
    )  # fmt: skip
