import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rtrl.tasks._data import Sequences, as_generator, check_count, scored, time_and_batch


def copying(
    batch_size: int | None,
    *,
    rng: int | np.random.Generator,
    pattern: int = 20,
    padding: int = 7,
    bits: int = 7,
) -> Sequences:
    """Remember a pattern of random bits and repeat it after a cue.

    A sequence shows `pattern` timesteps of Bernoulli(1/2) bits, is silent for `padding` timesteps,
    gives the cue (a one on the last channel, for one timestep), and is silent while the pattern is
    to be repeated:

        timestep   0 .. 19    20 .. 26    27     28 .. 47        (with the default sizes)
        xs         pattern    zeros       cue    zeros
        ys         zeros      zeros       zero   the pattern

    Args:
        batch_size: sequences side by side; `None` for no batch axis.
        rng: a seed, or a generator, which the call advances.
        pattern: timesteps of the pattern, at least 1.
        padding: silent timesteps between the pattern and the cue, at least 0.
        bits: random bits in a timestep of the pattern, at least 1.

    Shapes, with T = 2 pattern + padding + 1 (48):
        xs: (T, [batch,] bits + 1) float32, zeros and ones.
        ys: (T, [batch,] bits) int32, the class of each bit.
        weights: (T, [batch]) float32, 1 / pattern where the pattern is to be repeated, else 0.

    A network has 2 bits (14) outputs and learns with `copying_loss`. With these weights the
    objective is the mean loss over the timesteps of recall, which is the loss the paper reports.

    Floors: nothing that a memoryless predictor sees at recall tells the bits: cross entropy
    ln 2 = 0.693, bit accuracy 0.5.

    Raises:
        ValueError: an argument out of its range, named.

    Source: Zucchet et al., "Online learning of long-range dependencies", NeurIPS 2023,
    and its released code.
    """
    check_count("pattern", pattern)
    check_count("padding", padding, least=0)
    check_count("bits", bits)
    generator = as_generator(rng)
    recall = slice(pattern + padding + 1, None)
    shape = time_and_batch(2 * pattern + padding + 1, batch_size)

    shown = generator.integers(0, 2, size=(pattern, *shape[1:], bits), dtype=np.int32)
    xs = np.zeros((*shape, bits + 1), np.float32)
    xs[:pattern, ..., :bits] = shown
    xs[pattern + padding, ..., bits] = 1
    ys = np.zeros((*shape, bits), np.int32)
    ys[recall] = shown
    return Sequences(xs, ys, scored(shape, recall))


def copying_loss(prediction: Float[Array, " outputs"], target: Int[Array, " bits"]) -> Array:
    """Give the two-class cross entropy of one sample at one timestep, mean over the bits.

        -1 / bits * sum over bits b of log softmax(prediction_b)[target_b]

    Args:
        prediction: two logits a bit, those of a bit beside each other, (2 bits,): (bit 0 is 0, bit
            0 is 1, bit 1 is 0, ...), so `prediction.reshape(bits, 2).argmax(-1)` is the decision.
        target: the bits, 0 or 1, (bits,) int32.

    Returns:
        The loss in nats, a scalar.
    """
    log_p = jax.nn.log_softmax(prediction.reshape(-1, 2))
    return -jnp.take_along_axis(log_p, target[:, None], axis=1).mean()
