import numpy as np

from rtrl.tasks._data import (
    Sequences,
    as_generator,
    check_count,
    one_hot,
    scored,
    time_and_batch,
)


def modular_sum(
    batch_size: int | None,
    *,
    rng: int | np.random.Generator,
    modulus: int = 5,
    length: int = 32,
) -> Sequences:
    """Say at every timestep the sum of the digits so far, modulo a number.

        y_t = (d_0 + ... + d_t) mod m,    d_t uniform in 0 .. m - 1

    Args:
        batch_size: sequences side by side; `None` for no batch axis.
        rng: a seed, or a generator, which the call advances.
        modulus: m, at least 2.
        length: T, timesteps, at least 1.

    Shapes, with T = length and m = modulus (at least 2):
        xs: (T, [batch,] m) float32, the digit d_t one-hot.
        ys: (T, [batch]) int32, a class in 0 .. m - 1.
        weights: (T, [batch]) float32, 1 / T.

    Loss: cross entropy with m logits (`optax.softmax_cross_entropy_with_integer_labels`).
    Floors: ln m (1.609 for m = 5), accuracy 1 / m for a uniform answer. From the second timestep on
    a memoryless predictor can do no better; one that knows the first timestep reaches
    (T - 1) / T ln m (1.559 for m = 5, T = 32).

    Raises:
        ValueError: an argument out of its range, named.

    Source: the cyclic groups among the word problems of Merrill, Petty and Sabharwal, "The illusion
    of state in state-space models", ICML 2024.
    """
    check_count("modulus", modulus, least=2)
    check_count("length", length)
    shape = time_and_batch(length, batch_size)
    digits = as_generator(rng).integers(0, modulus, size=shape, dtype=np.int32)
    ys = (np.cumsum(digits, axis=0) % modulus).astype(np.int32)
    return Sequences(one_hot(digits, modulus), ys, scored(shape, slice(None)))
