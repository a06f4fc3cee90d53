import numpy as np

from rtrl.tasks._data import (
    Sequences,
    as_generator,
    check_count,
    one_hot,
    scored,
    time_and_batch,
)


def delayed_match(
    batch_size: int | None,
    *,
    rng: int | np.random.Generator,
    symbols: int = 4,
    delay: int = 20,
) -> Sequences:
    """Say whether a symbol is the one shown `delay` silent timesteps earlier.

    The sample is uniform. With probability 1/2 the probe is the same symbol, otherwise it is one
    of the others, all equally likely.

    Args:
        batch_size: sequences side by side; `None` for no batch axis.
        rng: a seed, or a generator, which the call advances.
        symbols: how many there are, at least 2.
        delay: silent timesteps between sample and probe, at least 0.

    Shapes, with T = delay + 2:
        xs: (T, [batch,] symbols) float32, one-hot sample at timestep 0 and probe at T - 1, zeros
            between them.
        ys: (T, [batch]) int32, at the last timestep 1 for a match and 0 for none; zero before.
        weights: (T, [batch]) float32, 1 at the last timestep, else 0.

    Loss: cross entropy with two logits (`optax.softmax_cross_entropy_with_integer_labels`).
    Floors: the probe alone tells nothing: cross entropy ln 2 = 0.693, accuracy 0.5.

    Raises:
        ValueError: an argument out of its range, named.

    Source: the delayed match-to-sample task of working-memory experiments, e.g. Miller, Erickson
    and Desimone, Journal of Neuroscience, 1996.
    """
    check_count("symbols", symbols, least=2)
    check_count("delay", delay, least=0)
    generator = as_generator(rng)
    shape = time_and_batch(delay + 2, batch_size)
    sample = generator.integers(0, symbols, size=shape[1:])
    match = generator.integers(0, 2, size=shape[1:], dtype=np.int32)
    shift = generator.integers(1, symbols, size=shape[1:])

    xs = np.zeros((*shape, symbols), np.float32)
    xs[0] = one_hot(sample, symbols)
    xs[-1] = one_hot((sample + (1 - match) * shift) % symbols, symbols)
    ys = np.zeros(shape, np.int32)
    ys[-1] = match
    return Sequences(xs, ys, scored(shape, slice(-1, None)))
