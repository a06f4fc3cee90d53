import warnings

from rtrl.tasks._data import Stream, forecast


def santafe(horizon: int = 1) -> Stream:
    """Forecast the intensity of a real far-infrared laser in a chaotic state.

    10,093 measurements: pulsations that grow slowly and collapse at moments that are hard to tell
    beforehand. Needs reservoirpy, which ships the file: `pip install "rtrl[tasks]"`.

    Args:
        horizon: timesteps from an input to its target, at least 1.

    Shapes: xs, ys (10093 - horizon, 1) float32 with xs[t] = z[t], ys[t] = z[t + horizon], whole
    numbers from 0 to 255 (the units of the 8-bit converter).

    Floors, NRMSE of the second half at horizon 1 / 5: mean 1 / 1, persistence 0.963 / 1.674, online
    RLS on 10 lags 0.453 / 0.560, echo state network of 200 units with an online RLS readout
    0.058 / 0.254 (all in `rtrl.tasks.baselines`, one pass, targets revealed `horizon` steps later).

    Raises:
        ValueError: the horizon is below 1, or as long as the recording.
        ImportError: reservoirpy is not installed.

    Source: data set A of the Santa Fe competition, Huebner, Abraham and Weiss, Physical Review A,
    1989; the long recording, by way of `reservoirpy.datasets.santafe_laser`.
    """
    try:
        from reservoirpy.datasets import santafe_laser
    except ImportError as error:
        message = "santafe: the data come with reservoirpy, which is not installed: "
        raise ImportError(message + 'pip install "rtrl[tasks]".') from error
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        series = santafe_laser()  # reservoirpy 0.4 leaves the file open
    return forecast(series, horizon)
