"""Ctrl-C in a call that uses up its state: it waits until the new state is there."""

import _signal  # type: ignore  # signal without its enums, which take ten times as long
import threading
from collections.abc import Callable
from typing import Any


def uninterrupted(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function whole: Ctrl-C is raised before it or after it, then with its new state.

    ``KeyboardInterrupt.state`` is what the function gave, the first of it if it is a tuple. A
    second Ctrl-C is raised at once, so that what never ends can be stopped. Outside of the main
    thread, where no interrupt arrives, and where a program handles SIGINT in its own way, this is
    but a call.
    """
    ours = threading.current_thread() is threading.main_thread() and (
        _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    )
    if not ours:
        return function(*arguments)
    arrived = False
    result = None

    def wait(number, frame):
        nonlocal arrived
        if arrived:
            raise KeyboardInterrupt
        arrived = True

    try:
        try:
            _signal.signal(_signal.SIGINT, wait)
            result = function(*arguments)
        finally:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
            if arrived:
                raise KeyboardInterrupt
        return result
    except KeyboardInterrupt as error:
        if result is not None:
            error.state = result[0] if isinstance(result, tuple) else result  # type: ignore
        raise
