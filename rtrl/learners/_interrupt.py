"""Ctrl-C in a call that uses up its state: it waits until the new state is there."""

import signal
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
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
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
            signal.signal(signal.SIGINT, wait)
            result = function(*arguments)
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if arrived:
                raise KeyboardInterrupt
        return result
    except KeyboardInterrupt as error:
        if result is not None:
            error.state = result[0] if isinstance(result, tuple) else result  # type: ignore
        raise
