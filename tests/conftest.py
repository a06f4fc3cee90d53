"""Test configuration: CPU, and both precisions in one process."""

import functools
import gc
import os
import signal

import jax
import optax
import pytest
from hypothesis import settings

jax.config.update("jax_platforms", "cpu")

# Tracing makes millions of small objects that live: looking for garbage among them took a seventh.
gc.set_threshold(200_000, 20, 50)


def _shared(make):
    """The same optimizer for the same settings: it is functions, which are a part of a compiled
    learner, and every test would compile its own."""
    cached = functools.cache(make)

    @functools.wraps(make)
    def once(*arguments, **options):
        try:
            return cached(*arguments, **options)
        except TypeError:  # settings that are arrays
            return make(*arguments, **options)

    return once


for _name in ("sgd", "adam", "adamw", "lion"):
    setattr(optax, _name, _shared(getattr(optax, _name)))

# The default run draws the same examples every time; `make test-full` draws new ones.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Hundreds of compiled programs would take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Run a test in the precision that users run, and in the one that oracles need."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def float64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def pythons_own_handler():
    """Of SIGINT, also where the tests run in the background of a shell, which ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
