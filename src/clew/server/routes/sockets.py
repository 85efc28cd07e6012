"""The protocol for streaming threads on a WebSocket: commands and subscriptions come in, answers and events go out.

Nothing is queued for a reader: what a subscription has to say waits until the one before was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from typing import Any, cast

from fastapi import APIRouter, Request, WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from clew.errors import ClewError
from clew.server.caller import Caller
from clew.server.errors import ApiError, status_of
from clew.server.formats import encoded
from clew.server.http import Cors
from clew.server.paths import with_slashes
from clew.server.protocol.commands import Command, parsed, refused
from clew.server.protocol.events import Subscription
from clew.server.routes.protocol import subscribed
from clew.server.service import Service

router = APIRouter(tags=["threads"])

_SUBSCRIPTIONS_MAX = 100
_REFUSED, _RESTARTS = 4000, 1012  # the first and an HTTP status: browsers see no status of a refused handshake


@router.websocket("/threads/{thread_id}/stream/events")
async def events(socket: WebSocket, thread_id: str) -> None:
    """Follow commands, and send the events that are subscribed to, until one of both goes."""
    service: Service = socket.app.state.clew
    await socket.accept()
    try:
        asks = await _caller(socket, service)
        await _Session(socket, asks, with_slashes(thread_id)).serve()
    except WebSocketDisconnect:
        pass
    except HTTPException as error:
        await socket.close(_REFUSED + error.status_code)
    except ClewError as error:
        await socket.close(_REFUSED + status_of(error), str(error)[:100])


async def _caller(socket: WebSocket, service: Service) -> Caller:
    if not service.is_started:
        await service.start()
    origin = socket.headers.get("origin")
    if origin is not None and not _may_read(origin, socket.headers.get("host"), service.http.browsers):
        raise ApiError(403, f"pages of {origin!r} may not use this service")
    request = Request({**socket.scope, "type": "http", "method": "GET"})
    return Caller(service, await service.authenticate(request))


def _may_read(origin: str, host: str | None, cors: Cors | None) -> bool:
    """Whether pages of an origin may read what is sent: browsers ask nobody before they open a socket."""
    if origin.partition("://")[2] == host:
        return True
    if cors is None:
        return False
    if "*" in cors.allow_origins or origin in cors.allow_origins:
        return True
    return cors.allow_origin_regex is not None and re.fullmatch(cors.allow_origin_regex, origin) is not None


class _Session:
    """One socket: its commands one after the other, its subscriptions side by side."""

    def __init__(self, socket: WebSocket, asks: Caller, thread_id: str) -> None:
        self._socket = socket
        self._asks = asks
        self._thread_id = thread_id
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Until the client goes, a subscription fails, or the service goes away."""
        leaving = self._asks.service.leaving
        receiving = asyncio.ensure_future(self._receive())
        try:
            while not receiving.done() and not leaving.done():
                waiting = {receiving, leaving, *self._tasks.values()}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for id, task in [*self._tasks.items()]:
                    if task in done:
                        del self._tasks[id]
                        if not task.cancelled():
                            task.result()
                            await self._socket.close(_REFUSED + 404)  # the thread is gone
                            return
                if receiving.done():
                    receiving.result()
                    receiving = asyncio.ensure_future(self._receive())
            await self._socket.close(_RESTARTS)
        finally:
            for task in (receiving, *self._tasks.values()):
                task.cancel()
                with contextlib.suppress(BaseException):
                    await task

    async def _receive(self) -> None:
        """Follow the next command."""
        text = await self._socket.receive_text()
        id: Any = None
        try:
            given: Any = json.loads(text)
            id = cast("dict[str, Any]", given).get("id") if isinstance(given, dict) else None
            id, method, params = parsed(given)
            if method == "subscription.subscribe":
                answer = await self._subscribe(id, params)
            elif method == "subscription.unsubscribe":
                answer = self._unsubscribe(id, params)
            else:
                answer = await Command(self._socket, self._asks, self._thread_id, id, method, params).follow()
        except (json.JSONDecodeError, ValidationError, ApiError) as error:
            answer = refused(id, "invalid_argument", str(error))
        if answer is not None:
            await self._send(encoded(answer))

    async def _subscribe(self, id: int, params: Any) -> dict[str, Any] | None:
        wanted = Subscription.model_validate(params)
        await self._asks.threads.aget(self._thread_id)
        if len(self._tasks) >= _SUBSCRIPTIONS_MAX:
            return refused(id, "invalid_argument", f"a socket has at most {_SUBSCRIPTIONS_MAX} subscriptions")
        name = str(uuid.uuid4())
        await self._send(encoded({"type": "success", "id": id, "result": {"subscription_id": name}}))
        self._tasks[name] = asyncio.ensure_future(self._show(wanted))
        return None

    def _unsubscribe(self, id: int, params: Any) -> dict[str, Any]:
        task = self._tasks.get(str(params.get("subscription_id")))
        if task is None:
            return refused(id, "no_such_subscription", f"there is no subscription {params.get('subscription_id')!r}")
        task.cancel()
        return {"type": "success", "id": id, "result": {}}

    async def _show(self, wanted: Subscription) -> None:
        async with contextlib.aclosing(subscribed(self._asks, self._thread_id, wanted)) as parts:
            async for part in parts:
                for event in part:
                    await self._send(event.encoded())

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._socket.send_text(data.decode())
