"""What has no form in C: refused where an output needs it, and by name."""

from typing import Any, NamedTuple


class Refused(NamedTuple):
    """What has no form in C, and why."""

    reason: str


def accept(value: Any) -> Any:
    """A value that an output is made of.

    Raises:
        ValueError: it has no form in C; the message names the primitive and who used it.
    """
    if isinstance(value, Refused):
        raise ValueError(f"learner: expected operations that have a form in C, got {value.reason}.")
    return value
