import numpy as np

from rtrl.tasks._data import Stream, as_generator, check_count, forecast
from rtrl.validate import require

STEPS = 10  # integration steps in one timestep
TRANSIENT = 1000  # timesteps thrown away


def mackey_glass(
    length: int = 10_000,
    *,
    tau: float = 17.0,
    horizon: int = 6,
    rng: int | np.random.Generator = 0,
) -> Stream:
    """Forecast the Mackey-Glass delay equation, a smooth chaotic series.

        dz/dt = 0.2 z(t - tau) / (1 + z(t - tau)^10) - 0.1 z(t)

    integrated with fourth-order Runge-Kutta and a step of 0.1, sampled once per unit of time, from
    a random constant history in [0.8, 1.2] and after 1,000 timesteps of transient. tau = 17 is
    mildly chaotic, tau = 30 more so.

    Args:
        length: timesteps, at least 1.
        tau: the delay, in units of time (one timestep each), at least 0.1.
        horizon: timesteps from an input to its target, at least 1.
        rng: a seed, or a generator, of the start.

    Shapes: xs, ys (length, 1) float32 with xs[t] = z[t], ys[t] = z[t + horizon]; z has no unit and
    stays in about 0.4 .. 1.3 for tau = 17.

    Floors, NRMSE of the second half with the default arguments: mean 1, persistence 0.820, online
    RLS on 10 lags 0.145, echo state network about 0.008. At horizon 1 the RLS reaches 0.001: that
    is no test of anything.
    Another processor may round differently, which gives another trajectory of the same statistics.

    Raises:
        ValueError: an argument out of its range, named.

    Source: Mackey and Glass, "Oscillation and chaos in physiological control systems", Science,
    1977.
    """
    check_count("length", length)
    check_count("horizon", horizon)
    delay = round(tau * STEPS)
    require(delay > 0, "tau", f"a delay of at least {1 / STEPS}", tau)
    start = float(as_generator(rng).uniform(0.8, 1.2))
    z = [start] * (delay + 1)
    dt = 1 / STEPS
    drive = _production(start)
    for _ in range(STEPS * (TRANSIENT + length + horizon)):
        # The delayed value is known already; halfway through a step it is interpolated.
        drive_half = _production((z[-delay - 1] + z[-delay]) / 2)
        drive_next = _production(z[-delay])
        now = z[-1]
        k1 = drive - 0.1 * now
        k2 = drive_half - 0.1 * (now + dt / 2 * k1)
        k3 = drive_half - 0.1 * (now + dt / 2 * k2)
        k4 = drive_next - 0.1 * (now + dt * k3)
        z.append(now + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        drive = drive_next
    return forecast(np.array(z[-STEPS * (length + horizon) :: STEPS]), horizon)


def _production(delayed: float) -> float:
    return 0.2 * delayed / (1 + delayed**10)
