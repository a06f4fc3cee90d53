"""What stands around a learning step in C: running scales, and targets that come late."""

from typing import Any

from rtrl.device._moments import moments
from rtrl.learners import StreamState
from rtrl.streams import Standardized, StandardizedState


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
        return moments(learner) + inner + _standardized(name, learner, advance)
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
        struct moments m = inputs_moments(i);
        {_when(learner)}take(&m, (double)x[i]);
        keep_inputs(i, &m);
        scaled[i] = {_scaled(learner)};
    }}"""
    if learner.targets:
        y = "y ? wanted : NULL"
        before += f"""
    for (int i = 0; i < {n}_TARGETS; i++) {{
        struct moments m = targets_moments(i);
        middle[i] = m.mean;
        width[i] = deviation(&m);
        if (y) {{
            {_when(learner)}take(&m, (double)y[i]);
            keep_targets(i, &m);
            wanted[i] = (float)(((double)y[i] - m.mean) / deviation(&m));
        }}
    }}"""
        after = f"""
    for (int i = 0; i < {n}_PREDICTIONS; i++) {{
        prediction[i] = (float)((double)prediction[i] * width[i] + middle[i]);
    }}"""
        out = f"""
    for (int i = 0; i < {n}_PREDICTIONS; i++) {{
        const struct moments m = targets_moments(i);
        prediction[i] = (float)((double)prediction[i] * deviation(&m) + m.mean);
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
        struct moments m = inputs_moments(i);
        {_when(learner)}take(&m, (double)x[i]);
        scaled[i] = {_scaled(learner)};
    }}"""
    return f"""
/* In the units of the data: what comes in is standardised by the moments of all that has come of
   late, a prediction is mapped back by those of the targets before it. Nothing is learned from the
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


def _scaled(learner: Standardized) -> str:
    """An input, standardised where it is to be."""
    scaled = "(float)(((double)x[i] - m.mean) / deviation(&m))"
    if not isinstance(learner.inputs, tuple):
        return scaled
    flags = "".join(str(int(flag)) for flag in learner.inputs)
    return f"\"{flags}\"[i] == '1' ? {scaled} : x[i]"
