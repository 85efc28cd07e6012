"""Wake-ups: in this process at once; between replicas on PostgreSQL by LISTEN and NOTIFY. All works without them, too,
at the pace of polling: a signal is a hint to look, and may be lost or come twice.

What is sent together within some milliseconds is one statement, on a connection of its own: a NOTIFY makes commits wait
for each other, so none is part of a run's transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

from clew.checkpoint._face import CheckpointSaver
from clew.server.errors import log
from clew.storage.runs import Action

_GATHER = 0.005  # seconds in which signals wait for others to travel with
_WANT_EVERY = 2.0  # seconds after which a reader says again that it reads
_RETRY = 2.0  # seconds before a lost connection is made anew
_PAYLOAD = 7000  # bytes; PostgreSQL takes 8,000


def thread_key(tenant: str, thread: str) -> str:
    """What a thread is called in signals, where a run is called by its id: somebody waits for its next run."""
    return "thread-" + hashlib.sha256(repr((tenant, thread)).encode()).hexdigest()[:32]


class Signals:
    """The wake-ups of one process. `on_work`, `on_cancel` and `on_wanted` are called on the event loop."""

    def __init__(self, storage: CheckpointSaver) -> None:
        self._address = _address(storage)
        self._channel = "clew_" + hashlib.sha256(repr((storage.tenant, _schema(storage))).encode()).hexdigest()[:16]
        self._shown: dict[str, asyncio.Event] = {}
        self._readers: dict[str, int] = {}
        self._wanted_at: dict[str, float] = {}
        self._outbox: dict[str, None] = {}
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._connection: Any = None
        self.on_work: Callable[[], None] = _nothing
        self.on_cancel: Callable[[str, Action], None] = _ignore_both
        self.on_wanted: Callable[[str], None] = _ignore

    def start(self) -> None:
        """Listen to other replicas, where there can be any to hear."""
        if self._address is not None and self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def stop(self) -> None:
        """Send what waits, and listen no more."""
        if self._sending is not None:
            with contextlib.suppress(Exception):
                await self._sending
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
            self._listening = None
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close()

    # What this process has to say

    def work(self) -> None:
        """There is a run that can start."""
        self.on_work()
        self._send("work")

    def cancel(self, run_id: str, action: Action) -> None:
        """A run is to end."""
        self.on_cancel(run_id, action)
        self._send(f"{action} {run_id}")

    def show(self, run_id: str) -> None:
        """A run has shown something that another replica reads."""
        self.wake(run_id)
        self._send(f"shown {run_id}")

    def next(self, run_id: str) -> asyncio.Event:
        """What is set when a run shows something from now on."""
        return self._shown.setdefault(run_id, asyncio.Event())

    async def shown(self, run_id: str, event: asyncio.Event | None = None) -> None:
        """Wait until a run of another replica may have shown something (since `event` was given by `next`)."""
        now = asyncio.get_running_loop().time()
        if now - self._wanted_at.get(run_id, -_WANT_EVERY) >= _WANT_EVERY:
            if len(self._wanted_at) > 10_000:
                self._wanted_at.clear()
            self._wanted_at[run_id] = now
            self._send(f"want {run_id}")
        if event is None or not event.is_set():
            event = self._shown.setdefault(run_id, event or asyncio.Event())
        self._readers[run_id] = self._readers.get(run_id, 0) + 1
        try:
            await event.wait()
        finally:
            self._readers[run_id] -= 1
            if not self._readers[run_id]:
                del self._readers[run_id]
                self._shown.pop(run_id, None)

    # Between replicas

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        self._outbox[text] = None
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        await asyncio.sleep(_GATHER)
        while self._outbox:
            texts = list(self._outbox)
            self._outbox.clear()
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect()
                query = "select pg_notify(%s::text, message) from unnest(%s::text[]) as message"
                await self._connection.execute(query, (self._channel, _packed(texts)))
            except Exception as error:
                log.debug("replicas could not be told: %s", error)
                return

    async def _listen(self) -> None:
        while True:
            try:
                connection = await self._connect()
                async with connection:
                    await connection.execute(f'listen "{self._channel}"')
                    self.on_work()
                    async for notice in connection.notifies():
                        for text in notice.payload.split("\n"):
                            self._hear(text)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("replicas cannot be heard, polling goes on: %s", error)
            await asyncio.sleep(_RETRY)

    def _hear(self, text: str) -> None:
        word, _, run_id = text.partition(" ")
        match word:
            case "work":
                self.on_work()
            case "interrupt" | "rollback":
                self.on_cancel(run_id, word)
            case "want":
                self.on_wanted(run_id)
            case "shown":
                self.wake(run_id)
            case _:
                pass

    def wake(self, run_id: str) -> None:
        """Wake who waits in this process."""
        event = self._shown.pop(run_id, None)
        if event is not None:
            event.set()

    async def _connect(self) -> Any:
        import psycopg

        assert self._address is not None
        return await psycopg.AsyncConnection.connect(self._address, autocommit=True, prepare_threshold=None)


def _address(storage: CheckpointSaver) -> str | None:
    """Where a connection for signals can be made; None where there is none to be had."""
    settings, conn = getattr(storage, "settings", None), getattr(storage, "conn", None)
    if settings is None or not settings.prepare:  # behind a pooler that shares connections nobody can listen
        return None
    if isinstance(conn, str):
        return conn
    given = getattr(conn, "conninfo", None)  # a pool's
    return given if isinstance(given, str) and not getattr(conn, "kwargs", None) else None


def _schema(storage: CheckpointSaver) -> Any:
    return getattr(getattr(storage, "settings", None), "schema", None)


def _packed(texts: list[str]) -> list[str]:
    """Several signals in a message, as many as it can hold."""
    packed = [""]
    for text in texts:
        if packed[-1] and len(packed[-1]) + len(text) >= _PAYLOAD:
            packed.append("")
        packed[-1] += f"\n{text}" if packed[-1] else text
    return packed


def _nothing() -> None:
    pass


def _ignore(_: str) -> None:
    pass


def _ignore_both(_: str, __: Action) -> None:
    pass
