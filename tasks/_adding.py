import numpy as np

from rtrl.tasks._data import Sequences, as_generator, check_count, scored, time_and_batch


def adding(
    batch_size: int | None, *, rng: int | np.random.Generator, length: int = 100
) -> Sequences:
    """Add the two numbers that were marked, at the end of a long sequence.

        y = a_i + a_j,    a_t ~ U(0, 1),    i uniform in the first half, j in the second

    Args:
        batch_size: sequences side by side; `None` for no batch axis.
        rng: a seed, or a generator, which the call advances.
        length: T, timesteps, at least 2.

    Shapes, with T = length (at least 2):
        xs: (T, [batch,] 2) float32; channel 0 is a_t, channel 1 is one at i and j, else zero.
        ys: (T, [batch,] 1) float32, the sum at the last timestep, zero before.
        weights: (T, [batch]) float32, 1 at the last timestep, else 0.

    Loss: squared error. Floors: always answering 1 has mean squared error 1/6 = 0.167.

    Raises:
        ValueError: an argument out of its range, named.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, section 5.4, in the form of
    Le, Jaitly and Hinton, arXiv:1504.00941 (fixed length, one mark in each half).
    """
    check_count("length", length, least=2)
    generator = as_generator(rng)
    shape = time_and_batch(length, batch_size)
    step = np.arange(length).reshape(-1, *(1,) * (len(shape) - 1))
    first = generator.integers(0, length // 2, size=shape[1:])
    second = generator.integers(length // 2, length, size=shape[1:])

    values = generator.random(shape, dtype=np.float32)
    marks = ((step == first) | (step == second)).astype(np.float32)
    ys = np.zeros((*shape, 1), np.float32)
    ys[-1, ..., 0] = (values * marks).sum(0)
    return Sequences(np.stack([values, marks], axis=-1), ys, scored(shape, slice(-1, None)))
