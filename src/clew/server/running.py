"""An application on a port, until a signal ends it.

The first SIGTERM or SIGINT ends it gently: no connection is taken any more, runs are handed back and streams end, the
requests that go on are waited for. The second one ends the process at once, which loses nothing: what a run had stored
is there, and another process goes on with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Any, cast

import uvicorn

log = logging.getLogger("clew.server")

_KEEP_ALIVE = 75  # seconds; longer than what load balancers keep a connection for, which is 60 as a rule
_AFTERWARDS = 10.0  # seconds after the grace, for what does not end by itself to be stopped
_LAST = 3.0  # seconds for the process to end when the application has


@dataclass(frozen=True, slots=True)
class Limits:
    """How an application ends: `grace` is how many seconds its runs and requests have to come to an end."""

    grace: float = 20.0


class Running(uvicorn.Server):
    """An application that runs on sockets that are bound already.

    `ready` is called when requests are answered. `drain` is awaited with the grace, before connections are waited for.
    """

    def __init__(
        self,
        app: Any,
        *,
        limits: Limits,
        drain: Callable[[float], Awaitable[None]] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )
        self._limits = limits
        self._drain = drain
        self._ready = ready
        self._deadline = monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: what runs is handed back first, since streams that wait for it would keep their connections."""
        for server in self.servers:
            server.close()
        if self._drain is not None:
            try:
                await self._drain(max(self._deadline - monotonic(), 0.0))
            except Exception:
                log.exception("what runs could not be handed back; another process takes it over")
        self.config.timeout_graceful_shutdown = max(int(self._deadline - monotonic()), 1)
        await super().shutdown(sockets)
        _later(_LAST, lambda: end_at_once(0))  # a thread may run a node that nobody waits for any more

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle signals while the application runs; other than with uvicorn, the process goes on after them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gently; the second time at once."""
        if self.should_exit:
            end_at_once(128 + sig)
        self.should_exit = True
        self._deadline = monotonic() + self._limits.grace
        _later(self._limits.grace + _AFTERWARDS, self._too_late)

    def _too_late(self) -> None:
        log.error("ended at once: something did not end within %.0f seconds", self._limits.grace + _AFTERWARDS)
        end_at_once(1)


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def end_at_once(status: int) -> None:
    """End the process without waiting for anything, threads that run nodes included."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def bind(host: str, port: int) -> socket.socket:
    """A socket on that address, nobody listening yet; raises OSError where it is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def url_of(bound: socket.socket) -> str:
    """Where a socket is reached from this machine."""
    host, port = cast("tuple[str, int]", bound.getsockname()[:2])
    named = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"
