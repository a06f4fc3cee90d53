"""Every fault of a stream and of a disk at random: learning goes on, and what was lost is said."""

import injected_faults as faults
import numpy as np
import optax
import pytest

SUBJECTS = {
    "guarded": lambda: faults.guarded(optax.adam(1e-2)),
    "standardised": lambda: faults.standardized(optax.adam(5e-3)),
    "forecaster": faults.forecaster,
}
DISK = ("a full disk", "a read-only folder", "a flipped byte")


@pytest.mark.parametrize("name", SUBJECTS)
def test_learning_survives_every_fault(name, tmp_path):
    rng = np.random.default_rng(0)
    # A process killed while it saves: `tests/learners/test_checkpoint.py`, and `bench/faults.py`.
    each = [*faults.OF_DATA, *DISK]
    rng.shuffle(each)
    recover = 400 if name == "forecaster" else 700
    outcomes = faults.soak(SUBJECTS[name](), tmp_path, rng, each, recover=recover)
    assert len(outcomes) == len(each)
    assert not [o for o in outcomes if o.failed], outcomes


def test_wild_values_among_the_first_rows_of_a_forecaster():
    rng = np.random.default_rng(0)
    for at in (0, 2, 9):
        subject = faults.forecaster()
        r = faults.rows(0, 800, rng)
        r.xs[at], r.ys[at] = 1e17, 1e17
        subject.advance(r)
        assert faults.loss(subject, faults.rows(800, 100, rng)) < 0.05


def test_the_harness_sees_a_learner_that_does_not_survive(tmp_path):
    """Without a guard one wild value is the end of it."""
    subject = faults.bare(optax.adam(1e-2))
    faults_ = ["1e6"]
    (outcome,) = faults.soak(subject, tmp_path, np.random.default_rng(0), faults_, recover=700)
    assert outcome.failed
