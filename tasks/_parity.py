import numpy as np

from rtrl.tasks._data import Sequences, as_generator, check_count, scored, time_and_batch


def parity(
    batch_size: int | None, *, rng: int | np.random.Generator, length: int = 32
) -> Sequences:
    """Say at every timestep whether the number of ones so far is odd.

        y_t = (x_0 + ... + x_t) mod 2,    x_t ~ Bernoulli(1/2)

    Args:
        batch_size: sequences side by side; `None` for no batch axis.
        rng: a seed, or a generator, which the call advances.
        length: T, timesteps, at least 1.

    Shapes, with T = length:
        xs: (T, [batch,] 1) float32, zeros and ones.
        ys: (T, [batch]) int32, 1 for odd.
        weights: (T, [batch]) float32, 1 / T.

    A recurrence with real positive eigenvalues cannot keep the state; it takes -1 or a complex one.

    Loss: cross entropy with two logits (`optax.softmax_cross_entropy_with_integer_labels`).
    Floors: ln 2 = 0.693, accuracy 0.5 for a uniform answer. From the second timestep on a
    memoryless predictor can do no better; one that knows the first timestep (y_0 = x_0) reaches
    (T - 1) / T ln 2 (0.671 for T = 32).

    Raises:
        ValueError: an argument out of its range, named.

    Source: Grazzi et al., "Unlocking state-tracking in linear RNNs through negative eigenvalues",
    ICLR 2025.
    """
    check_count("length", length)
    shape = time_and_batch(length, batch_size)
    bits = as_generator(rng).integers(0, 2, size=shape, dtype=np.int32)
    ys = np.cumsum(bits, axis=0, dtype=np.int32) % 2
    return Sequences(bits[..., None].astype(np.float32), ys, scored(shape, slice(None)))
