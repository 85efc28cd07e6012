"""A small HTTP/1.1 client on asyncio that keeps its connection: it must cost less than the servers it measures."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back, and when: seconds from the request to the first byte of the body, and to its end."""

    status: int
    body: bytes
    first: float
    whole: float

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection; requests on it follow each other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request, on a new connection if the server has closed the last one."""
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\ncontent-length: {len(payload)}\r\n"
        head += "accept: */*\r\ncontent-type: application/json\r\n\r\n"
        is_new = self._writer is None
        try:
            return await self._exchange(head.encode() + payload)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            if is_new:
                raise
            return await self._exchange(head.encode() + payload)

    async def _exchange(self, request: bytes) -> Answer:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        assert self._reader is not None
        start = time.perf_counter()
        self._writer.write(request)
        status, headers = await self._head(self._reader)
        parts: list[bytes] = []
        first = 0.0
        async for part in _body(self._reader, headers, is_empty=status in (204, 304)):
            first = first or (time.perf_counter() - start if part.strip() else 0.0)
            parts.append(part)
        whole = time.perf_counter() - start
        if headers.get(b"connection") == b"close":
            self.close()
        return Answer(status, b"".join(parts), first or whole, whole)

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
        text = await reader.readuntil(b"\r\n\r\n")
        line, *lines = text[:-4].split(b"\r\n")
        pairs = (each.partition(b":") for each in lines)
        return int(line.split()[1]), {name.lower(): value.strip().lower() for name, _, value in pairs}

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _body(reader: asyncio.StreamReader, headers: dict[bytes, bytes], *, is_empty: bool) -> Any:
    """The parts of a body, as they come."""
    if is_empty:
        return
    if headers.get(b"transfer-encoding") != b"chunked":
        yield await reader.readexactly(int(headers.get(b"content-length", b"0")))
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
