"""One lazy daemon thread that empties something when woken, and goes away when there is nothing to do.

It holds no reference to its owner while it is idle for long, so a saver that nobody closes can still be collected.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_IDLE_SECONDS = 5.0


class Worker:
    """Runs `drain` on a thread of its own after each `wake`."""

    def __init__(self, name: str, drain: Callable[[], None], *, delay: float = 0.0) -> None:
        """`delay` (seconds) is how long it lets work pile up before it begins, unless somebody is in a hurry."""
        self._name = name
        self._drain = drain
        self._delay = delay
        self._signal = threading.Event()
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self, *, hurry: bool = False) -> None:
        """Have `drain` run soon, at least once from now on; with `hurry` at once."""
        if hurry:
            self._hurry.set()
        if self._signal.is_set():
            return
        self._signal.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down, or there are too many threads: do it here
            self._signal.clear()
            self._drain()
        else:
            self._thread = thread

    def _run(self) -> None:
        while True:
            if self._signal.wait(_IDLE_SECONDS):
                if self._delay:
                    self._hurry.wait(self._delay)
                    self._hurry.clear()
                self._signal.clear()
                self._drain()
                continue
            with self._lock:
                # First leave, then look: whoever wakes this thread sets the signal first and then looks for a thread.
                self._thread = None
                if not self._signal.is_set():
                    return
                self._thread = threading.current_thread()
