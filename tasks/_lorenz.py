import numpy as np

from rtrl.tasks._data import Stream, as_generator, check_count, forecast

STEP = 0.01  # of the integration, in units of time
STEPS = 2  # integration steps in one timestep
TRANSIENT = 1000  # timesteps thrown away


def lorenz(
    length: int = 10_000, *, horizon: int = 10, rng: int | np.random.Generator = 0
) -> Stream:
    """Forecast the first coordinate of the Lorenz system from itself alone.

        da/dt = 10 (b - a),    db/dt = a (28 - c) - b,    dc/dt = a b - 8/3 c,    z = a

    integrated with fourth-order Runge-Kutta and a step of 0.01, sampled every 0.02 units of time,
    from a random start and after 1,000 timesteps of transient. The other two coordinates stay
    hidden, so the state must be rebuilt from the past.

    Args:
        length: timesteps, at least 1.
        horizon: timesteps from an input to its target, at least 1.
        rng: a seed, or a generator, of the start.

    Shapes: xs, ys (length, 1) float32 with xs[t] = z[t], ys[t] = z[t + horizon]; z has no unit and
    stays near -20 .. 20.

    Floors, NRMSE of the second half with the default arguments: mean 1, persistence 0.918, online
    RLS on 10 lags 0.362 (0.001 at horizon 1), echo state network about 0.05.
    Another processor may round differently, which gives another trajectory of the same statistics.

    Raises:
        ValueError: an argument out of its range, named.

    Source: Lorenz, "Deterministic nonperiodic flow", Journal of the Atmospheric Sciences, 1963.
    """
    check_count("length", length)
    check_count("horizon", horizon)
    a, b, c = (float(v) for v in as_generator(rng).uniform((-10, -10, 15), (10, 10, 35)))
    z = []
    for _ in range(TRANSIENT + length + horizon):
        z.append(a)
        for _ in range(STEPS):
            a, b, c = _runge_kutta(a, b, c)
    return forecast(np.array(z[TRANSIENT:]), horizon)


def _flow(a: float, b: float, c: float) -> tuple[float, float, float]:
    return 10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c


def _runge_kutta(a: float, b: float, c: float) -> tuple[float, float, float]:
    half, sixth = STEP / 2, STEP / 6
    a1, b1, c1 = _flow(a, b, c)
    a2, b2, c2 = _flow(a + half * a1, b + half * b1, c + half * c1)
    a3, b3, c3 = _flow(a + half * a2, b + half * b2, c + half * c2)
    a4, b4, c4 = _flow(a + STEP * a3, b + STEP * b3, c + STEP * c3)
    return (
        a + sixth * (a1 + 2 * a2 + 2 * a3 + a4),
        b + sixth * (b1 + 2 * b2 + 2 * b3 + b4),
        c + sixth * (c1 + 2 * c2 + 2 * c3 + c4),
    )
