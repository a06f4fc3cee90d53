"""Running moments: those of a plain loop, and what wild values and changes do to them."""

import jax
import numpy as np
import pytest

import rtrl
from rtrl.streams import Moments


def run(values, memory=1000.0):
    """Moments after every timestep."""
    moments, all_of_them = Moments.empty(values.shape[-1:]), []
    for value in values:
        moments = moments.update(value, memory)
        all_of_them.append(moments)
    return all_of_them


def sine(length=4000):
    return np.sin(0.3 * np.arange(length))[:, None]


def where(moments):
    return moments.mean[0], moments.deviation[0]


def test_they_forget_by_the_equations():
    rng = np.random.default_rng(0)
    values = 5 + 2 * rng.normal(size=(3000, 2))
    values[100:120, 1] = np.nan
    found, n, mean, variance = run(values, 50.0)[-1], np.zeros(2), np.zeros(2), np.zeros(2)
    for value in values:
        known = np.isfinite(value)
        n = np.where(known, np.minimum(n + 1, 50), n)
        d = np.where(known, value - mean, 0)
        rate = np.where(known, 1 / n, 0)
        variance = (1 - rate) * (variance + rate * d**2)
        mean = mean + rate * d
    assert np.allclose(found.mean, mean, rtol=1e-12)
    assert np.allclose(found.deviation, np.sqrt(variance), rtol=1e-10)
    late = np.array([m.mean for m in run(np.linspace(0, 3, 3000)[:, None], 50.0)])[-1]
    assert abs(late - 2.95) < 0.01  # 50 timesteps behind


@pytest.mark.parametrize("batch", [2, 5])
def test_a_batch_is_pooled_as_timesteps_are(batch):
    """One sample by itself takes another way through the code than samples side by side."""
    values = sine(200)
    values[[20, 150]] = 1e9
    values[60:] += 1e5
    alone = run(values, 30.0)
    together = run(np.repeat(values[:, None], batch, 1), 30.0)
    for a, b in zip(alone, together, strict=True):
        # Equal samples: the same moments; the reach of a wild value is that of a timestep, too.
        assert np.allclose(where(a), where(b), rtol=1e-6)


@pytest.mark.parametrize("at", [0, 1, 2, 3, 5, 9, 100, 3000])
def test_one_wild_value_hardly_moves_them(at):
    values = sine()
    values[at] = 1e38
    all_of_them = run(values)
    mean, deviation = where(all_of_them[at + 60])
    assert abs(mean) < 0.3 and 0.5 < deviation < 1.5
    if at > 3:  # at no time, then
        assert max(where(m)[1] for m in all_of_them) < 2


def test_nor_do_many_that_do_not_last():
    """One in ten, of any size: a window lets in one of them."""
    values = sine(1000)
    values[300:400][np.random.default_rng(0).random(100) < 0.1] = -1e38
    all_of_them = run(values)
    assert max(where(m)[1] for m in all_of_them) < 4
    assert abs(where(all_of_them[-1])[0]) < 0.2


def test_a_value_after_a_constant_is_wild_too():
    values = np.full((4000, 1), 5.0)
    values[1500] = 1e38
    values[2000:] += sine(2000)
    assert 0.5 < where(run(values)[2600])[1] < 1.2


def test_eight_in_a_row_are_a_new_level():
    values = sine()
    values[2000:] += 1e6
    all_of_them = run(values)
    assert abs(where(all_of_them[2006])[0]) < 1
    mean, deviation = where(all_of_them[2007])
    assert mean == values[2007, 0] and 1 < deviation < 1.3  # tripled variance, once
    assert abs(where(all_of_them[2300])[0] - 1e6) < 0.1


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_a_scale_rises_and_falls_with_the_data(size):
    rng = np.random.default_rng(0)
    values = sine()
    values[2000:3000] = size * rng.normal(size=(1000, 1))
    all_of_them = run(values)
    assert 0.8 < where(all_of_them[2900])[1] / size < 1.2
    mean, deviation = where(all_of_them[3300])
    assert abs(mean) < 0.1 and abs(deviation - 0.707) < 0.05


def test_slow_signals_and_rare_events_keep_their_scale():
    t = np.arange(30_000)
    slow = 100 * np.sin(2 * np.pi * t / 20_000) + np.sin(0.3 * t)
    deviations = np.array([where(m)[1] for m in run(slow[:, None])])[2000:]
    # 100 at once the signal itself, in 1,000 timesteps up to 31 of the slow one.
    assert deviations.min() > 0.7 and deviations.max() < 40
    rare = (np.random.default_rng(0).random(30_000) < 1e-3).astype(float)
    deviation = where(run(rare[:, None], 10_000.0)[-1])[1]
    assert np.isclose(deviation, rare[-10_000:].std(), rtol=0.5)


def test_numbers_too_large_to_be_squared_are_missing():
    values = sine(100)
    values[0] = values[50] = 1e200
    moments = run(values)[-1]
    assert abs(where(moments)[0]) < 0.2 and moments.count == 98
    assert np.isnan(moments.standardise(np.array([-1e200])))


def front_door(x, **options):
    """Forecasts of the next value by a layer of 8 modules, as `rtrl stream` has it but smaller."""
    model = rtrl.SequenceModel(
        1, 1, 8, 1, lambda size, key: rtrl.cells.LRU(size, 8, key=key), norm=None, glu="half1",
        key=jax.random.key(0),
    )  # fmt: skip
    loss = lambda prediction, y: 0.5 * ((prediction - y) ** 2).sum()  # noqa: E731
    one = rtrl.Standardized(rtrl.OnlineLearner(loss, rtrl.kalman()), warmup=100, **options)
    _, out = one.scan(one.init(model), x[:-1], x[1:], chunk=1)
    return np.asarray(out.prediction)


@pytest.mark.parametrize("size", [1e6, -3e9])
def test_forecasts_follow_a_level_that_shifts(size):
    x = sine()
    x[2000:] += size
    predictions = front_door(x)
    left = predictions[-500:] - x[-500:]
    assert np.sqrt(np.mean(left**2)) / sine()[-500:].std() < 0.05
    assert np.isfinite(predictions).all()
