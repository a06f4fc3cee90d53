"""Mistakes of the user: one line that names the argument, and no traceback."""

from typing import NoReturn


class UsageError(Exception):
    """What the user gave can't be used; the message names the argument."""


def refuse(argument: str, expected: str, got: object) -> NoReturn:
    raise UsageError(f"{argument}: expected {expected}, got {got}.")
