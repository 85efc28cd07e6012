"""The beat of a worker: its leases are renewed from a thread of its own, whatever the event loop is kept busy by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from clew.errors import ClewError
from clew.server.errors import log

Renewed = dict[str, tuple[int, str | None]]


class Heartbeat:
    """Renews while there is something to hold.

    `held` gives the ids of the runs that the worker has; `renew` renews them all and gives those that it still has;
    `on_renewed` is told both and when it was asked, on the beat's thread. Times in seconds.
    """

    def __init__(
        self,
        every: float,
        held: Callable[[], list[str]],
        renew: Callable[[], Renewed],
        on_renewed: Callable[[list[str], Renewed, float], None],
    ) -> None:
        self._every = every
        self._held = held
        self._renew = renew
        self._on_renewed = on_renewed
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_stopped = False

    def beat(self) -> None:
        """Beat from now on."""
        if self._thread is None and not self._is_stopped:
            self._thread = threading.Thread(target=self._beat, name="clew-heartbeat", daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """Beat now, if it is beating."""
        self._wake.set()

    def stop(self) -> None:
        """Beat no more."""
        self._is_stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5)

    def _beat(self) -> None:
        while not self._is_stopped:
            self._wake.wait(self._every)
            self._wake.clear()
            held = self._held()
            if not held or self._is_stopped:
                continue
            asked = time.monotonic()
            try:
                renewed = self._renew()
            except ClewError as error:
                log.warning("leases could not be renewed: %s", error)
                continue
            except Exception:
                log.exception("leases could not be renewed")
                continue
            self._on_renewed(held, renewed, asked)
