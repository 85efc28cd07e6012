"""The thread that deletes expired items from time to time.

Invariant: it holds no reference to its store while it waits, so a store that is dropped takes its sweeper with it.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from clew.store.base._config import TTLConfig

_logger = logging.getLogger("clew.store")
_DEFAULT_MINUTES: Final = 5


class Sweeper:
    """Runs `sweep` of one store at an interval, until it is stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._future: Future[None] | None = None
        self._stop = threading.Event()

    def start(self, sweep: Callable[[], Any], interval: float | None) -> Future[None]:
        """Begin to sweep every `interval` seconds (None: never); `sweep` is a bound method.

        The future ends with the sweeper; cancelling it stops the sweeper. A sweeper that runs already goes on.
        """
        if interval is None:
            finished: Future[None] = Future()
            finished.set_result(None)
            return finished
        with self._lock:
            if self._future is not None and self._thread is not None and self._thread.is_alive():
                return self._future
            stop = self._stop = threading.Event()
            future: Future[None] = Future()
            future.add_done_callback(lambda _: stop.set())
            arguments = (weakref.WeakMethod(sweep), interval, stop, future)
            self._thread = threading.Thread(target=_run, args=arguments, daemon=True, name="clew-store-sweeper")
            self._future = future
            weakref.finalize(sweep.__self__, stop.set)  # type: ignore[attr-defined] - a bound method has it
            self._thread.start()
            return future

    def stop(self, timeout: float | None = None) -> bool:
        """Stop sweeping; whether it ended within `timeout` seconds (None: wait for the end)."""
        with self._lock:
            thread = self._thread
            self._stop.set()
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()


def _run(
    sweep: weakref.WeakMethod[Callable[[], Any]], interval: float, stop: threading.Event, future: Future[None]
) -> None:
    while not stop.wait(interval):
        method = sweep()
        if method is None:
            break
        try:
            method()
        except Exception:  # the next sweep may succeed; a sweeper that dies silently would fill the disk
            _logger.exception("sweeping expired items failed; trying again in %s seconds", interval)
        del method
    if future.set_running_or_notify_cancel():
        future.set_result(None)


def sweep_interval(config: TTLConfig | None, minutes: float | None) -> float | None:
    """Seconds between sweeps; None where a store without a configuration is not asked to sweep."""
    if minutes is None:
        if config is None:
            return None
        minutes = config.get("sweep_interval_minutes") or _DEFAULT_MINUTES
    return minutes * 60.0
