"""What a whole thread shows, as server-sent events: all its runs, one after the other, as long as somebody reads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from clew.errors import ClewError
from clew.server.caller import Asks, Caller, ThreadId
from clew.server.errors import ApiError
from clew.server.formats import encoded
from clew.server.sse import EventStream, frame
from clew.server.work.stamps import AT
from clew.server.work.thread_feeds import ENDED, Place, Shown

router = APIRouter(tags=["threads"])

ThreadStreamMode = Literal["run_modes", "lifecycle", "state_update"]
OPENED = b": open\n\n"  # so that the answer begins at once
_STATE = ("values", "updates")


@router.get("/threads/{thread_id}/stream")
async def stream(
    asks: Asks,
    thread_id: ThreadId,
    stream_mode: Annotated[list[str] | None, Query()] = None,
    stream_modes: Annotated[list[str] | None, Query()] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Read what the thread's runs show, those that are made later, too: after the header `Last-Event-ID` (`-`:
    everything), or from now on.

    `run_modes` is what each run was asked to stream, `lifecycle` only when runs begin and end, `state_update` what they
    make of the state. A run begins with a `metadata` event that has its `run_id`, and ends with one that has the
    `status` "run_done", too.
    """
    modes = {mode for text in (*(stream_mode or ()), *(stream_modes or ())) for mode in text.split(",") if mode}
    known = get_args(ThreadStreamMode)
    if unknown := modes - set(known):
        raise ApiError(422, f"there is no stream mode {min(unknown)!r} of threads; there are {', '.join(known)}")
    await asks.threads.aget(thread_id)
    place = await _place(asks, thread_id, last_event_id)
    return EventStream(_frames(asks, thread_id, place, modes or {"run_modes"}), asks.service.leaving, {})


async def granted(asks: Caller, thread_id: str, place: Place) -> AsyncGenerator[list[Shown]]:
    """What a thread shows to a caller who may read it; ends when the thread is gone, or somebody else's."""
    run_id = None
    async with contextlib.aclosing(asks.service.worker.threads.read(thread_id, place)) as parts:
        async for part in parts:
            if part[0].run.run_id != run_id:
                run_id = part[0].run.run_id
                try:
                    await asks.threads.aget(thread_id)
                except ClewError:
                    return
            yield part


async def _frames(asks: Caller, thread_id: str, place: Place, modes: set[str]) -> AsyncGenerator[bytes]:
    yield OPENED
    async with contextlib.aclosing(granted(asks, thread_id, place)) as parts:
        async for part in parts:
            if joined := b"".join(_frame(shown) for shown in part if _is_meant(shown.name, modes)):
                yield joined


def _is_meant(name: str, modes: set[str]) -> bool:
    if name in (AT, ENDED, "metadata"):
        return True
    if name[0] == ".":
        return False
    return "run_modes" in modes or ("state_update" in modes and name.partition("|")[0] in _STATE)


def _frame(shown: Shown) -> bytes:
    id, run_id = str(shown.seq), shown.run.run_id
    if shown.name == AT:
        return frame("metadata", encoded({"run_id": run_id, "attempt": 1}), id)
    if shown.end is None:
        return frame(shown.name, shown.data, id)
    error = b"" if shown.end.error is None else frame("error", encoded(shown.end.error))
    return error + frame("metadata", encoded({"status": "run_done", "run_id": run_id}), id)


async def _place(asks: Caller, thread_id: str, last_event_id: str | None) -> Place:
    feeds = asks.service.worker.threads
    text = (last_event_id or "").strip()
    if not text:
        return await feeds.now(thread_id)
    if text in ("-", "-1", "0"):
        return Place()
    if not (text.isascii() and text.isdecimal()) or len(text) > 16:
        raise ApiError(422, f"last-event-id {last_event_id!r} is not the id of an event, nor -")
    return feeds.after(int(text))
