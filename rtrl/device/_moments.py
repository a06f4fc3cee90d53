"""Running moments in C: the scales of a standardised stream."""

import dataclasses

from rtrl.streams import Moments, Standardized

PARTS = tuple(field.name for field in dataclasses.fields(Moments))


def moments(learner: Standardized) -> str:
    """Running moments of one feature, as `rtrl.streams` has them for all at once."""
    memory = "INFINITY" if learner.memory is None else repr(learner.memory)
    longest = (
        "INFINITY"
        if learner.memory is None
        else repr(max(learner.memory / 10, Moments.FIRST_WINDOW))
    )
    return f"""
/* Running moments of a feature: of late, and of the present window. */
struct moments {{
    double {", ".join(PARTS)};
}};

/* 0 of what has been constant but for rounding. */
static double spread(double count, double mean, double m2)
{{
    const double found = sqrt(m2 / (count > 1.0 ? count : 1.0));
    return found > 1e-12 * fabs(mean) ? found : 0.0;
}}

/* The deviation of a feature; 1 of one that has been constant so far. */
static double deviation(const struct moments *m)
{{
    const double found = spread(m->count, m->mean, m->m2);
    return found > 0.0 ? found : 1.0;
}}

static void join(double *count, double *mean, double *m2, double value)
{{
    const double total = *count + 1.0, step = value - *mean;
    *mean += step / total;
    *m2 += step * step * *count / total;
    *count = total;
}}

/* Take a value in; a missing one moves nothing. Welford (1962), with a memory. The first wild
   value of a window counts for a few deviations, others for nothing, and many in a row are a new
   level. A window that varies far less than all before is a new scale. */
static void take(struct moments *m, double value)
{{
    const double width = deviation(m);
    int away, anew;

    if (!isfinite(value)) {{
        return;
    }}
    away = m->count >= {Moments.SETTLED:.1f} && fabs(value - m->mean) > {Moments.OUTLIER} * width;
    m->wild = away ? m->wild + 1.0 : 0.0;
    anew = m->wild >= {Moments.PATIENCE:.1f};
    if (anew) {{
        m->m2 /= m->count > 1.0 ? m->count : 1.0;
        m->count = 1.0;
        m->mean = value;
        m->wild = m->entered = m->window_count = m->window_m2 = 0.0;
        m->window = {Moments.FIRST_WINDOW:.1f};
    }} else {{
        const double kept = fmin(m->count, {memory} - 1.0);
        const double reach = fmax({Moments.OUTLIER}, sqrt(2.0 * (kept + 1.0))) * width;
        const double step = fmin(fmax(value - m->mean, -reach), reach);

        m->m2 *= kept / (m->count > 1.0 ? m->count : 1.0);
        m->count = kept;
        if (!away || m->entered == 0.0) {{
            join(&m->count, &m->mean, &m->m2, away ? m->mean + step : value);
        }}
        if (away) {{
            m->entered = 1.0;
        }}
    }}
    join(&m->window_count, &m->window_mean, &m->window_m2, value);
    if (m->window_count >= m->window) {{
        const double now = spread(m->window_count, m->window_mean, m->window_m2);
        if (now > 0.0 && {Moments.COLLAPSE} * now < spread(m->count, m->mean, m->m2)) {{
            m->count = m->window_count;
            m->mean = m->window_mean;
            m->m2 = m->window_m2;
            m->wild = 0.0;
        }}
        m->window = fmin(2.0 * m->window, {longest});
        m->entered = m->window_count = m->window_mean = m->window_m2 = 0.0;
    }}
}}
{_access("inputs") if learner.inputs else ""}{_access("targets") if learner.targets else ""}"""


def _access(what: str) -> str:
    """Read and keep the moments of a feature of the inputs, or of the targets."""
    values = ",\n        ".join(f"scale.{what}_{part}[i]" for part in PARTS)
    kept = "\n".join(f"    scale.{what}_{part}[i] = m->{part};" for part in PARTS)
    return f"""
static struct moments {what}_moments(int i)
{{
    const struct moments m = {{
        {values}
    }};
    return m;
}}

static void keep_{what}(int i, const struct moments *m)
{{
{kept}
}}
"""
