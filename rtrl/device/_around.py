"""What stands around a learning step in C: running scales, and targets that come late."""

from typing import Any

from rtrl.learners import StreamState
from rtrl.streams import Standardized, StandardizedState

MOMENTS = """
/* Take a value into the running moments of its feature; a missing one moves nothing.
   Welford (1962). */
static void take(double *count, double *mean, double *m2, double value)
{
    if (isfinite(value)) {
        const double total = *count + 1.0, step = value - *mean;
        *mean += step / total;
        *m2 += step * step * *count / total;
        *count = total;
    }
}

/* The deviation of a feature; 1 of one that has been constant but for rounding. */
static double deviation(double count, double mean, double m2)
{
    const double found = sqrt(m2 / (count > 1.0 ? count : 1.0));
    return found > 1e-12 * fabs(mean) ? found : 1.0;
}
"""


def around(name: str, learner: Any, state: Any, hidden: list[tuple[str, str]]) -> str:
    """``name_step`` and ``name_predict`` by ``learn``, ``look`` and ``predict_now``.

    Args:
        hidden: of a stream, pairs of parts of the state: hidden states that have seen every input,
            and those of the learner.
    """
    stream = state.learner if isinstance(state, StandardizedState) else state
    streaming = isinstance(stream, StreamState)
    inner = _stream(name, stream, hidden) if streaming else ""
    advance = "advance" if streaming else "learn"
    if isinstance(learner, Standardized):
        return MOMENTS + inner + _standardized(name, learner, advance)
    return inner + _plain(name, advance)


def _plain(name: str, advance: str) -> str:
    return f"""
int {name}_step(const float *x, const float *y, float weight, int reset, float *prediction)
{{
    return {advance}(x, y, weight, reset != 0, prediction);
}}

void {name}_predict(const float *x, float *prediction)
{{
    predict_now(x, prediction);
}}
"""


def _stream(name: str, stream: StreamState, hidden: list[tuple[str, str]]) -> str:
    if stream.delay == 0:
        return _stream_at_once(name, hidden)
    n, size = name.upper(), stream.xs[0].size
    delay = stream.delay
    copies = "\n".join(f"    {_copy(a, b)}" for a, b in hidden)
    return f"""
/* Predict at once, with the newest parameters; learn from the input that came {n}_DELAY steps ago,
   whose target is y. The hidden states ahead of learning are then run again over what has come
   since, with the new parameters. */
static int advance(const float *x, const float *y, float weight, int reset, float *prediction)
{{
    float unused[{n}_PREDICTIONS];
    int skipped;

    look(x, reset, prediction);
    memcpy(state.stream_xs + {size} * scale.stream_held, x, {size} * sizeof *x);
    state.stream_resets[scale.stream_held] = reset;
    scale.stream_items += 1;
    if (scale.stream_held < {n}_DELAY) {{
        scale.stream_held += 1;
        return 0;
    }}
    if (y) {{
        state.stream_settled = 1;
    }}
    skipped = learn(state.stream_xs, y, weight, state.stream_resets[0], unused);
{copies}
    memmove(state.stream_xs, state.stream_xs + {size}, {size * delay} * sizeof *x);
    memset(state.stream_xs + {size * delay}, 0, {size} * sizeof *x);
    for (int i = 0; i < {n}_DELAY; i++) {{
        state.stream_resets[i] = state.stream_resets[i + 1];
    }}
    state.stream_resets[{n}_DELAY] = 0;
    for (int i = 0; i < {n}_DELAY; i++) {{
        look(state.stream_xs + {size} * i, state.stream_resets[i], unused);
    }}
    return skipped;
}}
"""


def _stream_at_once(name: str, hidden: list[tuple[str, str]]) -> str:
    copies = "\n".join(f"    {_copy(a, b)}" for a, b in hidden)
    return f"""
/* Predict and learn at once; the hidden states that predictions begin with are the learner's. */
static int advance(const float *x, const float *y, float weight, int reset, float *prediction)
{{
    const int skipped = learn(x, y, weight, reset, prediction);
    scale.stream_items += 1;
    if (y) {{
        state.stream_settled = 1;
    }}
{copies}
    return skipped;
}}
"""


def _copy(to: str, start: str) -> str:
    return f"memcpy(&state.{to}, &state.{start}, sizeof state.{to});"


def _standardized(name: str, learner: Standardized, advance: str) -> str:
    n = name.upper()
    items = "scale.items"
    moving = "1" if learner.freeze is None else f"{items} < {learner.freeze}"
    moves = f"    const int moving = {moving};\n" if learner.freeze is not None else ""
    before, after, out = "", "", ""
    x, y = "x", "y"
    if learner.inputs:
        x = "scaled"
        before += f"""
    for (int i = 0; i < {n}_INPUTS; i++) {{
        {_take("inputs", "x", learner)}
        scaled[i] = (float)(((double)x[i] - {_m("inputs_mean")})
            / deviation({_m("inputs_count")}, {_m("inputs_mean")}, {_m("inputs_m2")}));
    }}"""
    if learner.targets:
        y = "y ? wanted : NULL"
        before += f"""
    for (int i = 0; i < {n}_TARGETS; i++) {{
        middle[i] = {_m("targets_mean")};
        width[i] = deviation({_m("targets_count")}, {_m("targets_mean")}, {_m("targets_m2")});
        if (y) {{
            {_take("targets", "y", learner)}
            wanted[i] = (float)(((double)y[i] - {_m("targets_mean")})
                / deviation({_m("targets_count")}, {_m("targets_mean")}, {_m("targets_m2")}));
        }}
    }}"""
        after = f"""
    for (int i = 0; i < {n}_PREDICTIONS; i++) {{
        prediction[i] = (float)((double)prediction[i] * width[i] + middle[i]);
    }}"""
        out = f"""
    for (int i = 0; i < {n}_PREDICTIONS; i++) {{
        prediction[i] = (float)((double)prediction[i]
            * deviation({_m("targets_count")}, {_m("targets_mean")}, {_m("targets_m2")})
            + {_m("targets_mean")});
    }}"""
    scaled = f"    float scaled[{n}_INPUTS];\n" if learner.inputs else ""
    targets = (
        f"    float wanted[{n}_TARGETS];\n    double middle[{n}_TARGETS], width[{n}_TARGETS];\n"
        if learner.targets
        else ""
    )
    look = ""
    if learner.inputs:
        look = f"""
    for (int i = 0; i < {n}_INPUTS; i++) {{
        double count = {_m("inputs_count")}, mean = {_m("inputs_mean")}, m2 = {_m("inputs_m2")};
        {_when(learner)}take(&count, &mean, &m2, (double)x[i]);
        scaled[i] = (float)(((double)x[i] - mean) / deviation(count, mean, m2));
    }}"""
    return f"""
/* In the units of the data: what comes in is standardised by the moments of all that has come so
   far, a prediction is mapped back by those of the targets before it. Nothing is learned from the
   first {learner.warmup} steps. */
int {name}_step(const float *x, const float *y, float weight, int reset, float *prediction)
{{
{scaled}{targets}{moves}    int skipped;
{before}
    {items} += 1;
    if ({items} <= {learner.warmup}) {{
        weight = 0.0f;
    }}
    skipped = {advance}({x}, {y}, weight, reset != 0, prediction);{after}
    return skipped;
}}

void {name}_predict(const float *x, float *prediction)
{{
{scaled}{moves if look else ""}{look}
    predict_now({x}, prediction);{out}
}}
"""


def _when(learner: Standardized) -> str:
    return "" if learner.freeze is None else "if (moving) "


def _take(what: str, value: str, learner: Standardized) -> str:
    """Move the moments, unless they are frozen."""
    moments = ", ".join(f"&{_m(f'{what}_{part}')}" for part in ("count", "mean", "m2"))
    return f"{_when(learner)}take({moments}, (double){value}[i]);"


def _m(name: str) -> str:
    return f"scale.{name}[i]"
