"""A proxy that lends a client a server connection for one transaction, as PgBouncer's transaction mode does.

Each transaction of a client gets the connection that was free for longest, so that two in a row rarely meet; what a
client leaves in a session stays there for the next one. Servers must not ask for passwords.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_NO_ENCRYPTION = (80877103, 80877104)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pooler:
    """In front of the database that a connection string names; a context manager."""

    def __init__(self, conninfo: str, *, size: int) -> None:
        self._target = conninfo_to_dict(conninfo)
        self._size = size
        self._hello = b""  # what the server says to a new client
        self._free: asyncio.Queue[Streams] = asyncio.Queue()
        self._all: list[Streams] = []
        self._clients: set[asyncio.Task[None]] = set()
        self.port = 0
        self.transactions = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pooler", daemon=True)

    def conninfo(self, conninfo: str) -> str:
        """`conninfo`, led through this proxy."""
        return make_conninfo(conninfo, host="127.0.0.1", port=self.port, sslmode="disable", gssencmode="disable")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        for _ in range(self._size):
            server = await self._connect()
            self._all.append(server)
            self._free.put_nowait(server)
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._listening.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for _, writer in self._all:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._all), return_exceptions=True)

    async def _connect(self) -> Streams:
        reader, writer = await asyncio.open_connection(str(self._target["host"]), int(str(self._target["port"])))
        names = {"user": self._target["user"], "database": self._target["dbname"], "client_encoding": "UTF8"}
        options = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
        writer.write(struct.pack("!ii", len(options) + 8, 196608) + options)
        hello, kind = b"", b""
        while kind != b"Z":
            kind, message = await _read(reader)
            hello += message
        self._hello = hello
        return reader, writer

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            start = await reader.readexactly(8)
            size, code = struct.unpack("!ii", start)
            await reader.readexactly(size - 8)
            if code not in _NO_ENCRYPTION:
                break
            writer.write(b"N")
        writer.write(self._hello)
        coming = asyncio.ensure_future(_read(reader))
        try:
            while (first := await coming)[0] != b"X":
                server = await self._free.get()
                self.transactions += 1
                coming = await self._transaction(first, reader, writer, server)
                self._free.put_nowait(server)
        finally:
            coming.cancel()

    async def _transaction(
        self, first: tuple[bytes, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Streams
    ) -> asyncio.Future[tuple[bytes, bytes]]:
        """Carry messages both ways until the server is idle again; gives the client's next one."""
        unanswered = 0
        answers = asyncio.ensure_future(_read(server[0]))
        kind, message = first
        while True:
            unanswered += kind in (b"Q", b"S")
            server[1].write(message)
            coming = asyncio.ensure_future(_read(reader))
            while not coming.done() or unanswered:
                await asyncio.wait({coming, answers} if not coming.done() else {answers}, return_when="FIRST_COMPLETED")
                if answers.done():
                    said, answer = answers.result()
                    writer.write(answer)
                    answers = None
                    if said == b"Z":
                        unanswered -= 1
                        if not unanswered and answer[-1:] == b"I":
                            return coming
                    answers = asyncio.ensure_future(_read(server[0]))
                elif coming.done():
                    break
            kind, message = coming.result()


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One message, and its kind."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)
