"""The protocol for streaming threads: commands, and the events of the channels that are subscribed to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Body, Request
from starlette.responses import Response

from clew.server.caller import Asks, Caller, ThreadId
from clew.server.errors import ApiError
from clew.server.formats import reply
from clew.server.protocol.commands import Command, parsed, refused
from clew.server.protocol.events import Event, Subscription, event_of
from clew.server.routes.streams import OPENED, granted
from clew.server.sse import EventStream, frame

router = APIRouter(tags=["threads"])
Json = dict[str, Any]


@router.post("/threads/{thread_id}/commands")
async def command(request: Request, asks: Asks, thread_id: ThreadId, body: Annotated[Any, Body()]) -> Response:
    """Follow a command of the protocol: `run.start`, `input.respond`, `agent.getTree`, `state.get`,
    `state.listCheckpoints`, `state.fork`. What is wrong with one is said in an answer of type "error", with status 200.
    """
    try:
        id, method, params = parsed(body)
    except ApiError as error:
        id = cast("Json", body).get("id") if isinstance(body, dict) else None
        return reply({**refused(id, "invalid_argument", str(error)), "detail": str(error)}, error.status)
    return reply(await Command(request, asks, thread_id, id, method, params).follow())


@router.post("/threads/{thread_id}/stream/events")
async def events(asks: Asks, thread_id: ThreadId, body: Subscription) -> Response:
    """The events of a thread's runs, as server-sent events, those of runs to come, too."""
    await asks.threads.aget(thread_id)
    return EventStream(_frames(asks, thread_id, body), asks.service.leaving, {})


async def subscribed(asks: Caller, thread_id: str, wanted: Subscription) -> AsyncGenerator[list[Event]]:
    """The events that a subscription is about, as they come."""
    feeds = asks.service.worker.threads
    place = await feeds.current(thread_id) if wanted.since is None else feeds.after(wanted.since)
    async with contextlib.aclosing(granted(asks, thread_id, place)) as parts:
        async for part in parts:
            found = [event for shown in part if (event := event_of(shown, wanted)) is not None]
            if found:
                yield found


async def _frames(asks: Caller, thread_id: str, wanted: Subscription) -> AsyncGenerator[bytes]:
    yield OPENED
    async with contextlib.aclosing(subscribed(asks, thread_id, wanted)) as parts:
        async for part in parts:
            yield b"".join(frame(event.method, event.encoded(), str(event.seq)) for event in part)
