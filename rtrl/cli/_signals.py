"""Ending well: SIGINT and SIGTERM ask a run to stop, which it does between two timesteps."""

import signal
import threading
from collections.abc import Iterator
from typing import Any, Self


class _Interrupted(BaseException):
    pass


class Stop:
    """In a ``with``, signals set ``requested`` instead of ending the process.

    Only while it waits for data (`items`) is the waiting broken off: never in the middle of a
    learning step. Outside the main thread, where Python allows no handlers, it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = False
        self._waiting = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self.requested = True
        if self._waiting:
            self._waiting = False
            raise _Interrupted

    def items(self, source: Iterator) -> Iterator:
        """Hand on the items of a source until it ends or a stop is requested."""
        while not self.requested:
            try:
                self._waiting = True
                if self.requested:  # the signal came just before
                    return
                item = next(source, self)
                self._waiting = False
            except _Interrupted:
                return
            finally:
                self._waiting = False
            if item is self:
                return
            yield item
