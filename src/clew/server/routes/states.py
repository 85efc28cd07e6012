"""The states of threads: read at any checkpoint, written, and their history."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Query
from starlette.responses import Response

from clew.errors import ThreadBusyError
from clew.server.bodies import Body, Json, Limit
from clew.server.caller import Asks, Caller, Text, ThreadId
from clew.server.formats import reply, selected, state_json
from clew.types import StateUpdate

router = APIRouter(tags=["threads"])

Select = Annotated[list[str] | None, Query()]


class CheckpointName(Body):
    """Which checkpoint is meant."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, str] | None = None


class StateAt(Body):
    """Which state is read."""

    checkpoint: CheckpointName
    subgraphs: bool = False
    select: list[str] | None = None


class StateWrite(Body):
    """What is written, as if `as_node` had returned it."""

    values: dict[str, Any] | list[Any] | None = None
    as_node: str | None = None
    checkpoint: CheckpointName | None = None
    checkpoint_id: str | None = None


class History(Body):
    """Which checkpoints are listed."""

    limit: Limit = 10
    before: str | CheckpointName | None = None
    metadata: Json | None = None
    checkpoint: CheckpointName | None = None
    select: list[str] | None = None


@router.get("/threads/{thread_id}/state")
async def get(asks: Asks, thread_id: ThreadId, subgraphs: bool = False, select: Select = None) -> Response:
    """The state of a thread."""
    return await _read(asks, thread_id, {}, subgraphs, select)


@router.get("/threads/{thread_id}/state/{checkpoint_id}")
async def get_at(
    asks: Asks, thread_id: ThreadId, checkpoint_id: Text, subgraphs: bool = False, select: Select = None
) -> Response:
    """The state of a thread at a checkpoint."""
    return await _read(asks, thread_id, {"checkpoint_id": checkpoint_id}, subgraphs, select)


@router.post("/threads/{thread_id}/state/checkpoint")
async def post_at(asks: Asks, thread_id: ThreadId, body: StateAt) -> Response:
    """The same, of a subgraph too."""
    return await _read(asks, thread_id, body.checkpoint.model_dump(), body.subgraphs, body.select)


@router.post("/threads/{thread_id}/state")
async def write(asks: Asks, thread_id: ThreadId, body: StateWrite) -> Response:
    """Write to the state; at a past checkpoint, that begins a fork."""
    thread = await asks.threads.aget(thread_id, "update", metadata={})
    if thread.status == "busy":
        raise ThreadBusyError(f"thread {thread_id!r} is busy with a run", hint="wait for it, or cancel it")
    at = {} if body.checkpoint is None else body.checkpoint.model_dump()
    if body.checkpoint_id is not None:
        at["checkpoint_id"] = body.checkpoint_id
    checkpoint, status = await asks.states.update(thread, at, [[StateUpdate(cast("Any", body.values), body.as_node)]])
    await asks.runs.leave(thread_id, status)
    return reply({"checkpoint": checkpoint, "configurable": checkpoint, "checkpoint_id": checkpoint["checkpoint_id"]})


@router.post("/threads/{thread_id}/history")
async def history(asks: Asks, thread_id: ThreadId, body: History) -> Response:
    """The checkpoints of a thread, newest first."""
    before = body.before if isinstance(body.before, str | None) else body.before.checkpoint_id
    at = {} if body.checkpoint is None else body.checkpoint.model_dump()
    return await _history(asks, thread_id, at, before, body.limit, body.metadata, body.select)


@router.get("/threads/{thread_id}/history")
async def get_history(asks: Asks, thread_id: ThreadId, limit: Limit = 10, before: str | None = None) -> Response:
    """The same, by a link."""
    return await _history(asks, thread_id, {}, before, limit, None, None)


async def _read(asks: Caller, thread_id: str, at: Json, subgraphs: bool, select: list[str] | None) -> Response:
    thread = await asks.threads.aget(thread_id)
    return reply(selected(state_json(await asks.states.read(thread, at, subgraphs=subgraphs)), select))


async def _history(
    asks: Caller, thread_id: str, at: Json, before: str | None, limit: int, metadata: Any, select: Any
) -> Response:
    thread = await asks.threads.aget(thread_id)
    at.pop("checkpoint_id", None)
    found = await asks.states.history(thread, at, before=before, limit=limit, filter=metadata)
    return reply([selected(state_json(snapshot), select) for snapshot in found])
