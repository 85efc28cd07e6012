"""Answers that take their time: server-sent events of a run, and a body that is kept alive until a run has ended.

Whatever the client does, the run goes on, unless the request says that it ends with its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from clew.server.formats import encoded

HEARTBEAT = 5.0  # seconds of silence after which a sign of life is sent
SSE_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def frame(event: str, data: bytes, id: str | None = None) -> bytes:
    """One event, as it is sent."""
    head = b"event: " + event.encode() + b"\ndata: " + data
    return head + (b"" if id is None else b"\nid: " + id.encode()) + b"\n\n"


class _Slow(Response):
    """The base of both: headers first, then parts as they come, with a sign of life where none does."""

    sign = b""

    def __init__(
        self,
        parts: AsyncGenerator[bytes],
        leaving: asyncio.Future[None],
        headers: Mapping[str, str],
        media_type: str,
        on_gone: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(None, 200, dict(headers), media_type)
        if "content-length" in self.headers:
            del self.headers["content-length"]
        self._parts = parts
        self._leaving = leaving
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the parts end, the client goes, or the process does."""
        gone = asyncio.ensure_future(_gone(receive))
        following: asyncio.Future[bytes] | None = None
        has_begun = is_whole = False
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        try:
            while True:
                if following is None:
                    following = asyncio.ensure_future(anext(self._parts))
                await asyncio.wait(
                    (following, gone, self._leaving), timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED
                )
                if gone.done() or (self._leaving.done() and not following.done()):
                    break
                part = self.sign
                if following.done():
                    try:
                        part, following = following.result(), None
                    except StopAsyncIteration:
                        following, is_whole = None, True
                        break
                if not has_begun:
                    has_begun = True
                    await send(start)
                await send({"type": "http.response.body", "body": part, "more_body": True})
            if not gone.done():
                if not has_begun:
                    await send(start)
                await self._finish(send, is_whole=is_whole)
        except OSError:
            pass  # the client is gone
        finally:
            is_gone = gone.done()
            gone.cancel()
            if following is not None:
                following.cancel()
                with contextlib.suppress(BaseException):
                    await following
            await self._parts.aclose()
            if self._on_gone is not None and is_gone and not is_whole:
                await asyncio.shield(self._on_gone())

    async def _finish(self, send: Send, *, is_whole: bool) -> None:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(_Slow):
    """Server-sent events. A stream whose process goes away just ends; its reader comes back with `Last-Event-ID`."""

    sign = b": heartbeat\n\n"

    def __init__(
        self,
        parts: AsyncGenerator[bytes],
        leaving: asyncio.Future[None],
        headers: Mapping[str, str],
        on_gone: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(parts, leaving, {**SSE_HEADERS, **headers}, "text/event-stream", on_gone)


class Waiting(_Slow):
    """A JSON body that comes when a run has ended; spaces keep the connection alive until then."""

    sign = b"\n"

    def __init__(
        self,
        body: Awaitable[bytes],
        leaving: asyncio.Future[None],
        headers: Mapping[str, str],
        on_gone: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(_one(body), leaving, headers, "application/json", on_gone)

    async def _finish(self, send: Send, *, is_whole: bool) -> None:
        if is_whole:
            await super()._finish(send, is_whole=True)
        else:  # so that the client finds the answer cut off, and comes back to where `location` says
            raise ConnectionAbortedError("the service is going away; the run is handed to another process")


async def _one(body: Awaitable[bytes]) -> AsyncGenerator[bytes]:
    yield await body


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def end_frame(run_id: str, status: str | None) -> bytes:
    """The last event of every stream."""
    return frame("end", encoded({"run_id": run_id, "status": status or "interrupted"}))
