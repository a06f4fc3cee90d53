"""Exported C does what JAX does: every cell, rule, optimizer, stream; and refuses what it can't."""

import functools
import re
import shutil
import subprocess

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from c_learner import CLearner, Step, arrays, distance

import rtrl
from rtrl.device._source import source

#: Single precision, other order of sums and other exp, tanh: 1e-6 a number; Adam divides by the
#: root of its second moment, in the first steps a gradient that may be mostly rounding.
STEP = 3e-5
FAST = ("LRU", "RTU", "AdaptiveLIF-dense")
EVERY = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in cases.ALL_CELLS]


def build(cell="LRU", optimizer=None, rule=None, depth=1, loss=cases.squared_error, **options):
    rule = rule or (rtrl.SnAp1() if cell in cases.DENSE else rtrl.RTRL())
    model = cases.network(cell, depth=depth)
    optimizer = optimizer or optax.adam(1e-3)
    learner = rtrl.OnlineLearner(loss, optimizer, rule=rule, donate=False, **options)
    return learner, learner.init(model)


def steps_of(length, seed=0, out=cases.OUT):
    """Data with all that can happen: resets, weights, targets and inputs that are missing."""
    xs, ys, weights, resets = (np.asarray(a).copy() for a in cases.data(length, None, seed))
    ys[length // 3, 0], xs[length // 2, 1], ys[2, :] = np.nan, np.inf, np.nan
    return [
        Step(xs[t], None if t == 4 else ys[t, :out], float(weights[t]), bool(resets[t]))
        for t in range(length)
    ]


def each_step(learner, state, c, steps):
    """Every step from the state that JAX has reached: the largest difference of one step.

    No target is weight 0 in JAX, NULL in C; a prediction without a step is that of a step without
    a reset. So there is one program to compile.
    """
    expected = []
    for s in steps:
        c.load(rtrl.device.pack(state))
        c.predict(s.x)
        c.step(s)
        c.dump()
        y, weight = (np.zeros(c.y), 0.0) if s.y is None else (s.y, s.weight)
        state, out = learner.step(state, s.x, y, weight, np.bool_(s.reset))
        expected.append((out, state))
    answers = c.do()
    worst = (0.0, "")
    for i, (s, (out, after)) in enumerate(zip(steps, expected, strict=True)):
        loaded, predicted, (skipped, prediction), saved = answers[4 * i : 4 * i + 4]
        assert loaded == 0 and skipped == int(np.sum(out.skipped))
        scale = np.abs(out.prediction).max() + 1e-3
        worst = max(worst, (float(np.abs(prediction - out.prediction).max() / scale), "prediction"))
        if not s.reset:
            error = float(np.abs(predicted - out.prediction).max() / scale)
            worst = max(worst, (error, "predict"))
        worst = max(worst, distance(rtrl.device.unpack(saved, like=after), after))
    return worst


@pytest.mark.parametrize("cell", EVERY)
def test_every_cell_learns_as_in_jax(cell, tmp_path):
    learner, state = build(cell, depth=2 if cell == "LRU" else 1)
    worst = each_step(learner, state, CLearner(learner, state, tmp_path), steps_of(20))
    assert worst[0] < STEP, worst


OPTIMIZERS = {
    "momentum": optax.sgd(1e-3, momentum=0.9, nesterov=True),
    "adamw": optax.adamw(1e-3),
    "lion": optax.lion(1e-3),
    "schedule": optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adam(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, 15)),
    ),
    "rmsprop": optax.rmsprop(1e-3),
}


def some(table, *fast):
    """The rows that always run; the others are slow."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in table]


@pytest.mark.parametrize("name", some(OPTIMIZERS, "schedule"))
def test_every_optimizer_learns_as_in_jax(name, tmp_path):
    learner, state = build("LeakyIntegrator", OPTIMIZERS[name])
    worst = each_step(learner, state, CLearner(learner, state, tmp_path), steps_of(16))
    assert worst[0] < STEP, worst


def test_one_that_does_not_look_learns_as_in_jax(tmp_path):
    learner, state = build(on_nonfinite="ignore")
    steps = [s for s in steps_of(14) if np.isfinite(s.x).all()]
    steps = [s if s.y is None or np.isfinite(s.y).all() else s._replace(y=None) for s in steps]
    worst = each_step(learner, state, CLearner(learner, state, tmp_path), steps)
    assert worst[0] < STEP, worst


def test_a_gradient_need_not_be_whole_before_it_is_used_where_nothing_is_looked_for():
    """Beside the state, a seventh of it at most."""
    cell = functools.partial(rtrl.cells.LRU, hidden_size=16)
    model = rtrl.SequenceModel(2, 1, 16, 1, lambda n, key: cell(n, key=key), norm=None, key=KEY)
    ignoring, looking = (
        rtrl.OnlineLearner(cases.squared_error, optax.sgd(1e-3), on_nonfinite=name)
        for name in ("ignore", "skip")
    )
    c, other = (source(one, one.init(model), "learner") for one in (ignoring, looking))
    assert c.scratch_bytes < 0.15 * c.state_bytes < other.scratch_bytes


def test_updates_every_few_steps(tmp_path):
    learner, state = build(update_every=3)
    worst = each_step(learner, state, CLearner(learner, state, tmp_path), steps_of(14))
    assert worst[0] < STEP, worst


RULES = {
    "timestep": ("LRU", rtrl.RTRL(errors="timestep")),
    "Truncated": ("LRU", rtrl.Truncated()),
    "Spatial": ("VanillaRNN", rtrl.Spatial()),
    "EProp": ("VanillaRNN", rtrl.EProp()),
}


@pytest.mark.parametrize("name", some(RULES, "EProp"))
def test_every_rule_learns_as_in_jax(name, tmp_path):
    cell, rule = RULES[name]
    learner, state = build(cell, optax.sgd(1e-2), rule)
    worst = each_step(learner, state, CLearner(learner, state, tmp_path), steps_of(12))
    assert worst[0] < STEP, worst


def kalman():
    cell = cases.ALL_CELLS["LRU"]
    model = rtrl.SequenceModel(cases.IN, 1, cases.WIDTH, 1, cell, norm=None, glu=None, key=KEY)
    optimizer = rtrl.kalman()
    return rtrl.OnlineLearner(half_squared, optimizer, donate=False), model


KEY = jax.random.key(3)


def half_squared(prediction, target):
    return 0.5 * ((prediction - target) ** 2).sum()


STREAMS = {
    "late": (lambda learner: learner, 3),
    "at once": (lambda learner: learner, 0),
    "standardised": (lambda learner: rtrl.Standardized(learner, warmup=4), None),
    "standardised, late": (lambda learner: rtrl.Standardized(learner, warmup=4), 2),
    "inputs, frozen": (lambda learner: rtrl.Standardized(learner, targets=False, freeze=9), 1),
    "targets": (lambda learner: rtrl.Standardized(learner, inputs=False, freeze=9), None),
}


@pytest.mark.parametrize("name", some(STREAMS, "standardised, late", "targets"))
def test_streams_learn_as_in_jax(name, tmp_path):
    wrap, delay = STREAMS[name]
    inner, model = kalman()
    learner = wrap(inner)
    state = learner.init(model)
    if delay is not None:
        state = rtrl.open_stream(state, chunk=1, delay=delay)
    c = CLearner(learner, state, tmp_path)
    predictions, outs = [], []
    scaled = isinstance(learner, rtrl.Standardized)
    a, b = (5, 3) if scaled and learner.inputs else (0, 1)
    mean, width = (100, 20) if scaled and learner.targets else (0, 1)
    for s in steps_of(30, out=1):
        x, y = a + b * s.x, None if s.y is None else mean + width * s.y
        s = Step(x.astype("f4"), y, 1.0 if s.weight else 0.0, s.reset)
        if not s.reset:
            c.predict(s.x)
            predictions.append(learner.predict(state, s.x)[0])
        c.step(s)
        if delay is None:
            state, out = learner.step(state, *s)
        else:
            ((state, out),) = learner.stream(state, [tuple(s)], chunk=1, delay=delay)
        outs.append(out.prediction)
    c.dump()
    *answers, saved = c.do()
    looked = [a for a in answers if isinstance(a, np.ndarray)]
    stepped = [a.prediction for a in answers if not isinstance(a, np.ndarray)]
    # Rounding grows over 30 steps.
    np.testing.assert_allclose(np.array(stepped), np.array(outs), rtol=0, atol=5e-5 * width)
    np.testing.assert_allclose(np.array(looked), np.array(predictions), rtol=0, atol=5e-5 * width)
    worst = distance(rtrl.device.unpack(saved, like=state), state)
    assert worst[0] < 1e-4, worst
    c.load(rtrl.device.pack(state))
    c.dump()
    loaded, again = c.do()
    assert loaded == 0 and again == rtrl.device.pack(state)


@pytest.mark.parametrize("memory", [20.0, None])
def test_moments_follow_changes_as_in_python(memory, tmp_path):
    """A level that shifts, wild values among the first and alone, a scale that falls; a flag."""
    inner, model = kalman()
    learner = rtrl.Standardized(inner, warmup=4, memory=memory, inputs=[True, False, True])
    state = learner.init(model)
    c = CLearner(learner, state, tmp_path)
    rng = np.random.default_rng(0)
    xs = np.sin(0.3 * np.arange(150))[:, None] + 0.1 * rng.normal(size=(150, cases.IN))
    xs[60:, 0] += 1e4
    xs[[1, 100], 2] = 1e9
    ys = 50 + xs[:, 1:2]
    ys[:70] *= 1e4
    ys[80:90] = np.nan
    outs = []
    for x, y in zip(xs.astype("f4"), ys.astype("f4"), strict=True):
        c.step(Step(x, y, 1.0, False))
        state, out = learner.step(state, x, y)
        outs.append(out.prediction)
    c.dump()
    *answers, saved = c.do()
    # Rounding of the network grows over 150 steps; that of the moments does not.
    stepped = np.array([a.prediction for a in answers])
    scale = np.where(np.arange(150)[:, None] < 70, 1e4, 1)
    assert np.abs((stepped - np.array(outs)) / scale)[:70].max() < 1e-2
    found = rtrl.device.unpack(saved, like=state)
    for ours, theirs in ((found.inputs, state.inputs), (found.targets, state.targets)):
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)
    assert state.inputs and state.targets
    assert abs(state.inputs.mean[0] - 1e4) < 1 and state.targets.deviation[0] < 1.5


def two_outputs(**options):
    cell = cases.ALL_CELLS["LRU"]
    model = rtrl.SequenceModel(cases.IN, 2, cases.WIDTH, 1, cell, norm=None, glu=None, key=KEY)
    learner = rtrl.OnlineLearner(half_squared, rtrl.kalman(**options), donate=False)
    return learner, learner.init(model)


def test_a_filter_of_several_outputs_learns_as_in_jax(tmp_path):
    """One of two targets missing at times, errors beyond the gate, and forgetting."""
    learner, state = two_outputs(forgetting=0.95, gate=2.0, groups="mixed")
    worst = each_step(learner, state, CLearner(learner, state, tmp_path), steps_of(20))
    assert worst[0] < STEP, worst


def test_process_noise_is_refused_by_name(tmp_path):
    learner, state = two_outputs(drift=1e-3)
    with pytest.raises(ValueError, match="primitive qr, used by diffused"):
        rtrl.device.export(learner, state, tmp_path)


def test_a_wrong_sign_is_seen(tmp_path):
    """The comparison can tell: one sign changed in the C, and it fails."""
    learner, state = build("LeakyIntegrator", optax.sgd(1e-3))
    c = CLearner(learner, state, tmp_path)
    assert c.source.count(" -= 0.001f") > 1
    (tmp_path / "learner.c").write_text(c.source.replace(" -= 0.001f", " += 0.001f", 1))
    c.compile()
    assert each_step(learner, state, c, steps_of(8))[0] > 10 * STEP


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    learner, state = build("LeakyIntegrator", optax.sgd(1e-2))
    return learner, state, CLearner(learner, state, tmp_path_factory.mktemp("c"))


def test_a_state_travels_both_ways(small):
    learner, state, c = small
    for s in steps_of(10):
        state, _ = learner.step(state, s.x, s.y, s.weight, s.reset)
    data = rtrl.device.pack(state)
    back = rtrl.device.unpack(data, like=small[1])
    for path, value in arrays(state).items():
        np.testing.assert_array_equal(arrays(back)[path], value)
    c.dump()
    c.load(data)
    c.dump()
    c.init()
    c.dump()
    first, loaded, second, third = c.do()
    assert loaded == 0 and second == rtrl.device.pack(state)
    assert first == third == rtrl.device.pack(small[1])


def test_what_is_no_state_of_this_learner_is_refused_on_both_sides(small):
    _, state, c = small
    data = rtrl.device.pack(state)
    other = rtrl.device.pack(build("LRU")[1])
    damaged = data[:50] + bytes([data[50] ^ 1]) + data[51:]
    newer = data[:4] + b"\x09\0\0\0" + data[8:]
    resized = data[:12] + b"\0\0\0\0" + data[16:]
    wrong = [b"", data[:-1], b"x" + data[1:], newer, other, resized, damaged]
    for one in wrong:
        c.load(one)
        with pytest.raises(ValueError, match="^data: expected"):
            rtrl.device.unpack(one, like=state)
    c.dump()
    *codes, after = c.do()
    assert codes == [-1, -1, -1, -2, -3, -3, -4] and after == data


def test_a_power_cut_at_any_byte_leaves_a_whole_slot(small):
    """States A, B, C: while C is written over A, B stays; a whole C is what comes back."""
    learner, state, c = small
    states = [state]
    for s in steps_of(3):
        states.append(learner.step(states[-1], s.x, s.y, 1.0, False)[0])
    a, b, third = (rtrl.device.pack(s) for s in states[:3])
    slot = c.bytes + 4
    for cut in range(slot + 1):
        for data in (a, b):
            c.load(data)
            c.keep()
        c.load(third)
        c.keep(cut)
        c.init()
        c.recall()
        c.dump()
    answers = c.do()
    for cut in range(slot + 1):
        *_, kept, recalled, found = answers[8 * cut : 8 * cut + 8][-3:]
        assert recalled == 0 and kept == (0 if cut == slot else -5)
        assert found == (third if cut == slot else b), cut


def test_nothing_kept_is_nothing_recalled(small):
    small[2].recall()
    assert small[2].do() == [-1]


class Sorting(rtrl.Cell):
    """A cell whose update has no form in C."""

    weight: jax.Array

    def project(self):
        return self.weight

    def update(self, h, u):
        return jax.lax.erf_inv(0.1 * jnp.tanh(u)) + 0.5 * h


def test_what_has_no_form_in_c_is_refused_by_name(tmp_path):
    def model(**options):
        return rtrl.SequenceModel(
            3, 2, 4, 1, lambda n, k: Sorting(jnp.ones((4, n))), key=KEY, **options
        )

    learner = rtrl.OnlineLearner(cases.squared_error, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"primitive erf_inv, used by Sorting\.update"):
        rtrl.device.export(learner, learner.init(model()), tmp_path)
    with pytest.raises(ValueError, match=r"random_\w+ \(random numbers\), used by dropout \("):
        rtrl.device.export(*build_with(cases.network("LRU", dropout=0.1)), tmp_path)
    assert not any(tmp_path.iterdir())


def build_with(model, **options):
    learner = rtrl.OnlineLearner(cases.squared_error, optax.sgd(0.1), **options)
    return learner, learner.init(model)


def test_what_a_device_has_no_place_for_is_refused(tmp_path):
    learner, state = build()
    model = cases.network("LRU")

    def refused(match, learner, state, name="learner"):
        with pytest.raises(ValueError, match=match):
            rtrl.device.export(learner, state, tmp_path, name)

    refused("^state: .*batch", learner, learner.init(model, batch_size=2))
    refused("^state: .*chunks of 4", learner, rtrl.open_stream(state, chunk=4))
    refused("^learner: .* single timesteps", *build_with(model, rule=rtrl.BPTT()))
    refused("^learner: expected", "a learner", state)
    refused("^state: expected", rtrl.Standardized(learner), state)
    for name in ("two words", "9", "while", ""):
        refused("^name: expected", learner, state, name)
    with jax.enable_x64(True):
        refused("^state: .*float32", *build_with(cases.network("LeakyIntegrator")))


def test_the_program_reads_rows_and_prints_predictions(small, tmp_path):
    learner, state, _ = small
    rtrl.device.export(learner, state, tmp_path, "motor_1")
    subprocess.run(["make", "-s", "-C", tmp_path], check=True)
    rows = [(s.x, s.y) for s in steps_of(8)]
    text = "".join(_row(x) + "," + ("," if y is None else _row(y)) + "\n" for x, y in rows)
    text += "1,2,3\r\n0.5,,,7\n"  # no targets; missing inputs
    done = subprocess.run([tmp_path / "motor_1"], input=text, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    ours = np.array([[float(n) for n in line.split(",")] for line in done.stdout.splitlines()])
    rows += [(np.array([1.0, 2, 3]), None), (np.array([0.5, np.nan, np.nan]), [7.0, np.nan])]
    for t, (x, y) in enumerate(rows):
        y = None if y is None else np.asarray(y, "f4")
        state, out = learner.step(state, np.asarray(x, "f4"), y)
        np.testing.assert_allclose(ours[t], out.prediction, rtol=1e-4, atol=1e-5)


def _row(numbers):
    return ",".join("" if np.isnan(n) else repr(float(n)) for n in numbers)


def test_the_c_needs_nothing_and_takes_no_memory(small):
    c = small[2]
    assert re.findall(r"#include (.*)", c.source) == ['"learner.h"', "<math.h>", "<string.h>"]
    header = (c.folder / "learner.h").read_text()
    assert re.findall(r"#include (.*)", header) == ["<stddef.h>"]
    assert not re.search(r"\b(malloc|calloc|complex|double)\b", c.source)
    assert "rtrl" in c.source and "\t" not in c.source
    for fast in ("-ffast-math",):
        done = subprocess.run(
            ["gcc", fast, "-fsyntax-only", c.folder / "learner.c"], capture_output=True, text=True
        )
        assert done.returncode != 0 and "not finite" in done.stderr


def test_the_sketch_and_the_header_are_cpp(small, tmp_path):
    """A board's own header is stood in for by what the sketch uses of it."""
    c = small[2]
    (tmp_path / "sketch.cpp").write_text(
        "struct { void begin(long); void print(float); void print(char); void println(float); }"
        " Serial;\nenum { A0 };\nint analogRead(int);\nvoid delay(int);\n"
        + (c.folder / "learner.ino").read_text()
    )
    subprocess.run(
        ["g++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", c.folder,
         tmp_path / "sketch.cpp"],
        check=True,
    )  # fmt: skip


def test_the_state_is_changed_in_place(tmp_path):
    """Beside its state a learner needs less memory than two of its matrices and a few rows."""
    size = 16
    model = rtrl.SequenceModel(
        1, 1, size, 1, lambda n, k: rtrl.cells.LRU(n, size, key=k), key=KEY, norm=None
    )
    rtrl.device.export(*build_with(model), tmp_path)
    subprocess.run(["gcc", "-c", "-O0", "learner.c"], cwd=tmp_path, check=True)
    done = subprocess.run(["size", "learner.o"], cwd=tmp_path, capture_output=True, text=True)
    text, data, bss, *_ = map(int, done.stdout.splitlines()[1].split()[:4])
    header = (tmp_path / "learner.h").read_text()
    state = int(re.findall(r"STATE_BYTES (\d+)u", header)[0]) - 36
    assert data == 0 and bss - state <= 2 * 4 * size**2 + 20 * 4 * size
    assert bss <= 1.6 * state + 2048


LOOSE = "-O3 -march=native -fassociative-math -fno-signed-zeros -fno-trapping-math"


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-O0", LOOSE])
def test_clang_agrees(flags, tmp_path):
    """With sanitizers at -O0. Needs clang: apt-get install clang libclang-rt-14-dev."""
    assert shutil.which("clang"), "apt-get install clang libclang-rt-14-dev"
    learner, state = build("LRU", depth=2)
    c = CLearner(learner, state, tmp_path, "clang", flags.split())
    worst = each_step(learner, state, c, steps_of(20))
    assert worst[0] < STEP, worst
