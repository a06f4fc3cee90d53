"""Learning in several processes: saying so when one of them has stopped."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax


class LostProcessError(RuntimeError):
    """Another process of the job has stopped, and what was being computed together is lost.

    Start all processes again, as many as there are now, and `load` the last save.
    """


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Say what an error of the runtime means, where processes compute or save together."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):  # this process has too little memory
            raise
        raise LostProcessError(
            f"process {jax.process_index()} of {jax.process_count()}: another process of the job "
            "has stopped, so this one can't go on. Start all of them again and load the last save. "
            f"The runtime says: {error}"
        ) from error


def waited_for(results: Any) -> Any:
    """Results of a computation together, once they are there: what fails, fails here."""
    with together():
        return jax.block_until_ready(results)
