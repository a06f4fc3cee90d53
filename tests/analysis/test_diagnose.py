"""A diagnosis names what a learner was broken by, and says nothing of one that learns."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analysis.learners import (
    CHUNK,
    LEARNER,
    WINDOW,
    data,
    kinds,
    learned,
    loss,
    lru,
    min_gru,
    network,
)

import rtrl
from rtrl.analysis._findings import findings
from rtrl.analysis._page import draw_page


def diagnose(state, xs, ys, **more):
    return rtrl.analysis.diagnose(LEARNER, state, xs, ys, chunk=CHUNK, **more)


@pytest.fixture(scope="module")
def healthy():
    model = network()
    return model, *learned(model)


@pytest.fixture(scope="module")
def well(healthy):
    model, state, xs, ys = healthy
    return diagnose(state, xs, ys, initial=model)


def test_a_learner_that_learns_gets_no_complaint(well):
    assert well.problems == [] and "Nothing is wrong" in str(well)
    assert well.measured.loss < 0.5 * well.measured.constant_loss


def test_a_rate_too_high(healthy):
    found = kinds(diagnose(*learned(network(), rate=0.3)))
    assert "rate too high" in found


def test_rates_at_which_all_is_lost(well):
    """Losses are infinite where they are not finite: one that no rate repairs, and one that is."""
    losses = np.array([0.2, np.inf, 0.25, 0.3, np.inf, np.inf, np.inf])
    for replayed, says, advice in (
        (losses, "without learning it would be 0.2", "by 0.1."),
        (np.full(7, np.inf), "not finite", "Begin again"),
    ):
        lost = well.measured._replace(replay=well.measured.replay._replace(losses=replayed))
        (finding,) = [f for f in findings(lost) if f.kind == "rate too high"]
        assert says in finding.says and advice in finding.advice


def test_time_scales_too_short():
    diagnosis = diagnose(*learned(network(lru(0.0, 0.1))))
    assert kinds(diagnosis) == {"time scales too short": ""}
    (finding,) = diagnosis.problems
    assert "8 timesteps ago" in finding.says  # the lag that was put into the data


def test_saturated_gates():
    model = network(min_gru())
    assert kinds(diagnose(*learned(model))) == {}  # the control: gates that move
    shut = eqx.tree_at(lambda m: m.layers[1].cell.b_z, model, jnp.full(12, -20.0))
    assert kinds(diagnose(*learned(shut))) == {"saturated gates": "layers[1]"}


def test_a_dead_layer(healthy):
    model = healthy[0]
    dead = eqx.tree_at(
        lambda m: (m.layers[1].readout.C_re, m.layers[1].readout.C_im),
        model,
        replace_fn=lambda a: 0 * a,
    )
    dead = eqx.tree_at(lambda m: m.layers[1].mixer.gate.bias, dead, jnp.full(12, -80.0))
    assert kinds(diagnose(*learned(dead))) == {"dead layer": "layers[1]"}


def test_a_stale_trace(healthy):
    model, state, xs, ys = healthy
    before, _, _ = learned(model, steps=800)
    old = eqx.tree_at(lambda s: [c.trace for c in s.carry], state, [c.trace for c in before.carry])
    found = diagnose(old, xs, ys).problems
    assert [f.kind for f in found] == ["stale trace"] * 2
    assert [f.where for f in found] == ["layers[0]", "layers[1]"]
    # Other parameters under a carry that stays, and a window that is not the last: by the identity.
    others = [layer.cell for layer in network(seed=5).layers]
    swapped = eqx.tree_at(lambda s: [x.cell for x in s.model.layers], state, others)
    fresh = [a[1600:1792] for a in data(1792)]
    assert set(kinds(diagnose(swapped, *fresh))) >= {"stale trace"}
    assert "stale trace" not in kinds(diagnose(state, *fresh))


def test_breakages_that_no_threshold_was_set_on(healthy):
    model, state, xs, ys = healthy
    still, _, _ = learned(model, rate=0.0)
    found = diagnose(still, xs, ys)
    assert "nothing is learned" in kinds(found)
    for layer in found.measured.layers:  # parameters that never moved: the trace is theirs
        assert layer.staleness.judged == 1 and layer.staleness.relative < 1e-3
        assert layer.staleness.identity < 1e-3
    slow, _, _ = learned(model, rate=1e-8)
    assert "rate too low" in kinds(diagnose(slow, xs, ys))
    broken = eqx.tree_at(
        lambda s: s.model.layers[0].cell.B_re, state, replace_fn=lambda a: a.at[0, 0].set(jnp.nan)
    )
    assert kinds(diagnose(broken, xs, ys)) == {"not finite": ""}
    assert "inputs out of scale" in kinds(diagnose(state, 1000 * xs, ys))
    deaf = eqx.tree_at(
        lambda s: (s.model.layers[0].cell.B_re, s.model.layers[0].cell.B_im), state,
        replace_fn=lambda a: a.at[:8].set(0),
    )  # fmt: skip
    assert kinds(diagnose(deaf, xs, ys))["dead modules"] == "layers[0]"


def test_overlapping_chunks_are_judged_where_their_traces_are():
    """Nothing is learned, so a carried trace is that of the parameters, if of another timestep."""
    learner = dataclasses.replace(LEARNER, overlap=3)
    model, (xs, ys) = network(), data(WINDOW)  # as the other tests, which share programs
    still = learner.init(model)
    still.opt_state.hyperparams["learning_rate"] = jnp.float32(0)
    state, _ = learner.scan(still, xs, ys, chunk=CHUNK)
    found = rtrl.analysis.diagnose(learner, state, xs, ys, chunk=CHUNK).measured
    assert found.place == 0
    near = rtrl.analysis.choose_window(model, loss, xs, ys, windows=[(CHUNK, 3)])
    for layer in found.layers:
        assert layer.staleness.judged > 0.5
        assert layer.staleness.relative < 1e-5  # float32, in chunks and all at once
        expected = near.cosines[CHUNK, 3][layer.name]
        assert layer.cosine == pytest.approx(expected, rel=1e-5)


def test_nothing_is_touched_and_the_page_is_drawn(healthy, well, tmp_path):
    _, state, xs, ys = healthy
    again = diagnose(state, xs, ys)
    np.testing.assert_array_equal(again.measured.replay.losses, well.measured.replay.losses)
    page = tmp_path / "page.png"
    figure = well.figure()
    figure.savefig(page, dpi=40)
    (panel,) = [ax for ax in figure.axes if "Effective" in ax.get_title()]
    drawn, layer = panel.lines[1].get_ydata(), well.measured.layers[1]
    np.testing.assert_allclose(drawn, layer.rate * layer.retention[1:])  # the optimizer's times f
    without = [layer._replace(rate=np.nan)]  # as of a filter
    filtered = well.measured._replace(layers=without)
    (panel,) = [a for a in draw_page(filtered, ["Nothing"]).axes if "Effective" in a.get_title()]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), layer.retention[1:])
    assert "what modules keep" in panel.get_legend_handles_labels()[1][0]
    assert page.stat().st_size > 10_000
    assert "layers[0]" in well.table() and "LRU" in well.table()


def test_the_measures_against_other_ways_to_them(healthy, well):
    """Time scales by the parameters, lags by truncation, memory by counting, losses by hand."""
    _, state, xs, ys = healthy
    layer, cell = well.measured.layers[1], state.model.layers[1].cell
    np.testing.assert_allclose(layer.timescales, 1 / np.exp(np.asarray(cell.nu_log)), rtol=1e-4)
    kept = np.exp(-np.exp(np.asarray(cell.nu_log))[:, None] * np.arange(50)).mean(0)
    np.testing.assert_allclose(layer.retention[:50], kept, rtol=1e-4)
    leaves = jax.tree.leaves(eqx.filter(state.model, eqx.is_array))
    assert well.measured.memory["parameters"] == 4 * sum(a.size for a in leaves)
    predictions, _ = state.model(
        jnp.asarray(xs), rtrl.init_carry(state.model, rtrl.BPTT()), rule=rtrl.BPTT()
    )
    np.testing.assert_allclose(
        well.measured.loss, 0.5 * np.mean((np.asarray(predictions) - ys) ** 2), rtol=1e-5
    )
    np.testing.assert_allclose(well.measured.constant_loss, 0.5 * ys.var(), rtol=1e-3)
    frozen = 0.5 * np.mean((np.asarray(predictions) - ys)[len(ys) // 2 :] ** 2)
    np.testing.assert_allclose(well.measured.replay.losses[0], frozen, rtol=1e-5)


def test_what_is_refused(healthy):
    _, state, xs, ys = healthy
    for arguments, name in [
        ((LEARNER, state, xs[:8], ys[:8]), "xs"),
        ((LEARNER, state, xs, np.full_like(ys, np.nan)), "ys"),
        ((LEARNER.optimizer, state, xs, ys), "learner"),
        ((LEARNER, state.model, xs, ys), "state"),
    ]:
        with pytest.raises(ValueError, match=rf"^{name}: "):
            rtrl.analysis.diagnose(*arguments)
