"""Threads: made, listed, changed, copied, pruned; their states are in `states`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from pydantic import Field
from starlette.responses import Response

from clew.errors import ClewError, ThreadNotFoundError
from clew.server.bodies import Body, IfExists, Json, Limit, Offset, SortOrder
from clew.server.caller import Asks, Caller, ThreadId
from clew.server.extract import PATHS_MAX, extracted, parsed
from clew.server.formats import nothing, plain, reply, selected, thread_json
from clew.server.pages import page_of
from clew.server.states import update_of
from clew.storage.thread_lists import contains
from clew.threads import Thread, Threads
from clew.types import StateUpdate

router = APIRouter(tags=["threads"])
_STATE = ("values", "interrupts", "error", "state_updated_at")
_SCAN = 100  # threads whose values are looked at together

Status = Literal["idle", "busy", "interrupted", "error"]
Minutes = Annotated[int, Field(ge=1, le=2**31 - 1)]
Title = Annotated[str, Field(max_length=500)]
ThreadField = Literal[
    "thread_id", "created_at", "updated_at", "state_updated_at", "metadata", "config", "context", "status", "values",
    "interrupts", "error", "user_id", "title", "last_message_at", "archived", "ttl",
]  # fmt: skip


class Ttl(Body):
    """How long a thread lives, in minutes after it was last used."""

    ttl: Minutes
    strategy: Literal["delete", "keep_latest"] = "delete"


class Update(Body):
    """One update of a superstep."""

    values: Any = None
    command: Json | None = None
    as_node: str | None = None


class Superstep(Body):
    """Updates that are applied together."""

    updates: list[Update]


class ThreadCreate(Body):
    """A new thread."""

    thread_id: str | None = None
    metadata: Json | None = None
    if_exists: IfExists | None = None
    ttl: Ttl | Minutes | None = None
    supersteps: list[Superstep] | None = None
    title: Title | None = None


class ThreadPatch(Body):
    """What changes; `metadata` is merged."""

    metadata: Json | None = None
    ttl: Ttl | Minutes | None = None
    title: Title | None = None
    archived: bool | None = None


class ThreadFilter(Body):
    """Which threads are counted. `archived` null: both, as for those that `ids` or the key in `metadata` names."""

    metadata: Json | None = None
    values: Json | None = None
    status: Status | None = None
    archived: bool | None = False
    text: str | None = None


class ThreadSearch(ThreadFilter):
    """Which threads are listed, and how."""

    ids: list[str] | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None = None
    sort_order: SortOrder | None = None
    select: list[ThreadField] | None = None
    extract: Annotated[dict[str, str], Field(max_length=PATHS_MAX)] | None = None


class Prune(Body):
    """Which threads are pruned, and how."""

    thread_ids: Annotated[list[str], Field(max_length=1000)]
    strategy: Literal["delete", "keep_latest"] = "delete"


@router.post("/threads")
async def create(asks: Asks, body: ThreadCreate) -> Response:
    """Make a thread; with `supersteps`, with a state."""
    metadata, begun = body.metadata or {}, datetime.now(UTC)
    steps = [[update_of(update.model_dump()) for update in step.updates] for step in body.supersteps or []]
    minutes, strategy = _ttl(body.ttl)
    thread = await asks.threads.acreate(
        body.thread_id,
        title=body.title or _title(metadata) or _said(asks, body.supersteps),
        metadata=metadata,
        if_exists=body.if_exists or "raise",
        ttl_minutes=minutes,
        ttl_strategy=strategy,
    )
    is_new = thread.created_at >= begun
    if steps and not is_new:
        thread = await asks.threads.aget(thread.id, "update", metadata={})
    if steps and not (await asks.states.read(thread, {})).created_at:
        thread = await _begin(asks, thread, steps, is_new=is_new)
    return reply(await asks.states.shown(thread, with_ttl=True))


@router.post("/threads/search")
async def search(asks: Asks, body: ThreadSearch) -> Response:
    """List threads with their values, recently active first."""
    paths = {alias: parsed(path) for alias, path in (body.extract or {}).items()}
    is_shown = bool(paths) or not body.select or any(name in _STATE for name in body.select)
    wanted = _wanted(body, ids=body.ids, sort_by=body.sort_by, is_descending=body.sort_order != "asc")
    threads, wanted = await asks.threads.sought(**wanted, values=body.values, limit=body.limit, offset=body.offset)
    wanted |= {"limit": body.limit + 1}
    if body.values:
        found = await _with_values(asks, threads, wanted, body.values, body.offset + body.limit + 1)
        page, headers = page_of(found[body.offset :], body.offset, body.limit)
    else:
        chosen, headers = page_of(await threads.asearch(**wanted), body.offset, body.limit)
        page = await _shown(asks, chosen) if is_shown else [thread_json(thread) for thread in chosen]
    return reply([_answer(said, body, paths) for said in page], headers=headers)


@router.post("/threads/count")
async def count(asks: Asks, body: ThreadFilter) -> Response:
    """How many threads there are."""
    threads, wanted = await asks.threads.sought(**_wanted(body), values=body.values)
    if body.values:
        return reply(len(await _with_values(asks, threads, wanted, body.values, None)))
    return reply(await threads.acount(**wanted))


@router.post("/threads/prune")
async def prune(asks: Asks, body: Prune) -> Response:
    """Delete threads, or all but their newest checkpoints; those that do not exist are passed over."""
    pruned = 0
    for id in dict.fromkeys(body.thread_ids):
        try:
            if body.strategy == "delete":
                await asks.threads.adelete(id)
            else:
                await asks.threads.aget(id, "update", metadata={})
                await asks.service.storage.aprune([id])
        except ThreadNotFoundError:
            continue
        pruned += 1
    return reply({"pruned_count": pruned})


@router.get("/threads/{thread_id}")
async def get(asks: Asks, thread_id: ThreadId, include: Annotated[str, Query()] = "") -> Response:
    """A thread. `config` is that of its newest run, which lists do not show."""
    thread = await asks.threads.aget(thread_id)
    shown = asks.states.shown(thread, with_ttl="ttl" in include.split(","))
    said, config = await asyncio.gather(shown, asks.runs.config(thread_id))
    return reply({**said, "config": config})


@router.patch("/threads/{thread_id}")
async def patch(
    asks: Asks, thread_id: ThreadId, body: ThreadPatch, prefer: Annotated[str | None, Header()] = None
) -> Response:
    """Change a thread."""
    minutes, strategy = _ttl(body.ttl)
    thread = await asks.threads.aupdate(
        thread_id,
        title=body.title or _title(body.metadata or {}),
        archived=body.archived,
        metadata=body.metadata,
        ttl_minutes=minutes,
        ttl_strategy=strategy,
    )
    if prefer is not None and "return=minimal" in prefer.replace(" ", ""):
        return nothing()
    return reply(await asks.states.shown(thread, with_ttl=True))


@router.delete("/threads/{thread_id}", status_code=204)
async def delete(asks: Asks, thread_id: ThreadId) -> Response:
    """Delete a thread and everything that was stored on it; its runs stop."""
    active = await asks.runs.active(thread_id)
    await asks.threads.adelete(thread_id)
    asks.runs.gone(active)
    return nothing()


@router.post("/threads/{thread_id}/copy")
async def copy(asks: Asks, thread_id: ThreadId) -> Response:
    """Copy a thread with its whole history."""
    return reply(await asks.states.shown(await asks.threads.acopy(thread_id)))


async def _begin(asks: Caller, thread: Thread, steps: list[list[StateUpdate]], *, is_new: bool) -> Thread:
    """Give a thread its first state; one that was made for a state which cannot be goes again."""
    try:
        _, status = await asks.states.update(thread, {}, steps)
    except ClewError:
        if is_new:
            await asks.threads.adelete(thread.id)
        raise
    return await asks.threads.aset_status(thread.id, status)


def _wanted(body: ThreadFilter, **more: Any) -> Json:
    is_asked = "archived" in body.model_fields_set or ("archived" not in (body.metadata or {}) and not more.get("ids"))
    archived = body.archived if is_asked else None
    return {"metadata": body.metadata, "status": body.status, "archived": archived, "text": body.text, **more}


async def _shown(asks: Caller, threads: Any) -> list[Json]:
    return list(await asyncio.gather(*(asks.states.shown(thread) for thread in threads)))


async def _with_values(asks: Caller, among: Threads, wanted: Json, values: Json, enough: int | None) -> list[Json]:
    """The first `enough` threads whose values have these; each state is looked at."""
    found: list[Json] = []
    begin = 0
    while enough is None or len(found) < enough:
        wanted |= {"limit": _SCAN, "offset": begin}
        threads = await among.asearch(**wanted)
        found += [said for said in await _shown(asks, threads) if contains(plain(said["values"]), values)]
        if len(threads) < _SCAN:
            break
        begin += _SCAN
    return found if enough is None else found[:enough]


def _answer(said: Json, body: ThreadSearch, paths: Mapping[str, list[str | int]]) -> Json:
    answer = selected(said, body.select)
    if not paths:
        return answer
    held = plain(said)
    return {**answer, "extracted": {alias: extracted(held, parts) for alias, parts in paths.items()}}


def _ttl(ttl: Ttl | int | None) -> tuple[int | None, Any]:
    if ttl is None:
        return None, None
    return (ttl, "delete") if isinstance(ttl, int) else (ttl.ttl, ttl.strategy)


def _title(metadata: Mapping[str, Any]) -> str | None:
    """The title that a user interface has put into the metadata."""
    named = metadata.get("title") or metadata.get("thread_name")
    return named[:500] if isinstance(named, str) else None


def _said(asks: Caller, supersteps: list[Superstep] | None) -> str | None:
    """The title that the first message gives."""
    titler = asks.service.storage.titler
    for step in supersteps or []:
        for update in step.updates:
            title = None if titler is None else titler(update.values)
            if title:
                return title
    return None
