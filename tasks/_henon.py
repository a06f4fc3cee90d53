import numpy as np

from rtrl.tasks._data import Stream, as_generator, check_count, forecast

TRANSIENT = 1000  # timesteps thrown away


def henon(length: int = 10_000, *, horizon: int = 1, rng: int | np.random.Generator = 0) -> Stream:
    """Forecast the Henon map, a chaotic series whose next value needs the last two.

        z_{t+1} = 1 - 1.4 z_t^2 + 0.3 z_{t-1}

    from a random start near 0 and after 1,000 timesteps of transient. No noise: a perfect model
    has error 0, and errors grow by about 1.5 with every step of the horizon.

    Args:
        length: timesteps, at least 1.
        horizon: timesteps from an input to its target, at least 1.
        rng: a seed, or a generator, of the start.

    Shapes: xs, ys (length, 1) float32 with xs[t] = z[t], ys[t] = z[t + horizon]; z has no unit and
    stays in -1.3 .. 1.3.

    Floors, NRMSE of the second half with the default arguments: mean 1, persistence 1.625, online
    RLS on 10 lags 0.858, 1 - 1.4 z_t^2 with the best constant, which needs no memory, 0.300, echo
    state network about 0.01.
    Another processor may round differently, which gives another trajectory of the same statistics.

    Raises:
        ValueError: an argument out of its range, named.

    Source: Henon, "A two-dimensional mapping with a strange attractor", Communications in
    Mathematical Physics, 1976.
    """
    check_count("length", length)
    check_count("horizon", horizon)
    before, now = (float(v) for v in as_generator(rng).uniform(-0.1, 0.1, size=2))
    z = []
    for _ in range(TRANSIENT + length + horizon):
        z.append(now)
        before, now = now, 1 - 1.4 * now * now + 0.3 * before
    return forecast(np.array(z[TRANSIENT:]), horizon)
