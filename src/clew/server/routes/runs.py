"""Runs: of threads, and of threads that are there for one run only; waited for, streamed, joined, stopped."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response

from clew.errors import RunNotFoundError, ThreadNotFoundError
from clew.ids import new_id
from clew.server.bodies import Body, Json, Limit, Offset
from clew.server.caller import Asks, Caller, ThreadId
from clew.server.errors import ApiError
from clew.server.formats import encoded, nothing, reply, run_json, selected
from clew.server.grants import named
from clew.server.http import configurable_of
from clew.server.requests import RunCreate, StreamMode, key_of, new_run, new_thread
from clew.server.sse import EventStream, Waiting, end_frame, frame
from clew.server.webhooks import check_url
from clew.server.work.feeds import End
from clew.storage.runs import Action, RunRow

router = APIRouter(tags=["runs"])

Status = Literal["pending", "running", "error", "success", "timeout", "interrupted"]
RunField = Literal[
    "run_id", "thread_id", "assistant_id", "created_at", "updated_at", "status", "metadata", "kwargs",
    "multitask_strategy", "attempt", "error", "ended_at",
]  # fmt: skip
Modes = Annotated[list[str] | None, Query()]
LastEventId = Annotated[str | None, Header()]
BATCH_MAX = 100


class CancelMany(Body):
    """Which runs are stopped: those named, or those of a thread or of all threads with a status."""

    thread_id: str | None = None
    run_ids: list[str] | None = None
    status: Literal["pending", "running", "all"] | None = None


# Runs of a thread


@router.post("/threads/{thread_id}/runs")
async def create(request: Request, asks: Asks, thread_id: ThreadId, body: RunCreate) -> Response:
    """Make a run, and do not wait for it."""
    return _made(await make_run(request, asks, thread_id, body))


@router.post("/threads/{thread_id}/runs/stream")
async def stream(request: Request, asks: Asks, thread_id: ThreadId, body: RunCreate) -> Response:
    """Make a run, and read what it shows, as server-sent events."""
    run = await make_run(request, asks, thread_id, body)
    return _stream(asks, run, 0, None, cancels=body.on_disconnect == "cancel")


@router.post("/threads/{thread_id}/runs/wait")
async def wait(request: Request, asks: Asks, thread_id: ThreadId, body: RunCreate) -> Response:
    """Make a run, and wait for what it gives."""
    run = await make_run(request, asks, thread_id, body, is_shown=False)
    return _waiting(asks, run, cancels=body.on_disconnect == "cancel")


@router.get("/threads/{thread_id}/runs")
async def find(
    asks: Asks,
    thread_id: ThreadId,
    limit: Limit = 10,
    offset: Offset = 0,
    status: Status | None = None,
    select: Annotated[list[RunField] | None, Query()] = None,
) -> Response:
    """The runs of a thread, newest first."""
    await asks.threads.aget(thread_id)
    return reply([selected(run_json(run), select) for run in await asks.runs.list(thread_id, status, limit, offset)])


@router.get("/threads/{thread_id}/runs/{run_id}")
async def get(asks: Asks, thread_id: ThreadId, run_id: uuid.UUID) -> Response:
    """A run."""
    return reply(run_json(await _of_thread(asks, thread_id, run_id)))


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204)
async def delete(asks: Asks, thread_id: ThreadId, run_id: uuid.UUID) -> Response:
    """Delete a run that has ended; its checkpoints stay."""
    await asks.runs.remove(await _of_thread(asks, thread_id, run_id, "delete"))
    return nothing()


@router.post("/threads/{thread_id}/runs/{run_id}/cancel")
async def cancel(
    asks: Asks, thread_id: ThreadId, run_id: uuid.UUID, wait: bool = False, action: Action = "interrupt"
) -> Response:
    """Stop a run. `rollback` takes its checkpoints back, too; one that waits is only taken out."""
    run = await _of_thread(asks, thread_id, run_id, "update")
    await _stop(asks, run, action)
    if not wait:
        return nothing(202)
    await asks.runs.stopped(run)
    return _waiting(asks, run)


@router.get("/threads/{thread_id}/runs/{run_id}/join")
async def join(asks: Asks, thread_id: ThreadId, run_id: uuid.UUID, cancel_on_disconnect: bool = False) -> Response:
    """Wait for what a run gives."""
    run = await _of_thread(asks, thread_id, run_id, _joining(cancel_on_disconnect))
    return _waiting(asks, run, cancels=cancel_on_disconnect)


@router.get("/threads/{thread_id}/runs/{run_id}/stream")
async def join_stream(
    asks: Asks,
    thread_id: ThreadId,
    run_id: uuid.UUID,
    stream_mode: Modes = None,
    cancel_on_disconnect: bool = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Read what a run shows: after the header `Last-Event-ID` (`-1`: everything), or from now on."""
    run = await _of_thread(asks, thread_id, run_id, _joining(cancel_on_disconnect))
    after = await _after(asks, run, last_event_id)
    return _stream(asks, run, after, _modes(stream_mode), cancels=cancel_on_disconnect, is_joined=True)


# Runs without a thread that stays


@router.post("/runs")
async def create_stateless(request: Request, asks: Asks, body: RunCreate) -> Response:
    """Make a run on a thread of its own, which goes when the run ends, unless `on_completion` is "keep"."""
    return _made(await make_run(request, asks, None, body), is_stateless=True)


@router.post("/runs/stream")
async def stream_stateless(request: Request, asks: Asks, body: RunCreate) -> Response:
    """The same, and read what it shows."""
    run = await make_run(request, asks, None, body)
    return _stream(asks, run, 0, None, cancels=body.on_disconnect == "cancel", is_stateless=True)


@router.post("/runs/wait")
async def wait_stateless(request: Request, asks: Asks, body: RunCreate) -> Response:
    """The same, and wait for what it gives."""
    run = await make_run(request, asks, None, body, is_shown=False)
    return _waiting(asks, run, cancels=body.on_disconnect == "cancel", is_stateless=True)


@router.post("/runs/batch")
async def batch(request: Request, asks: Asks, bodies: list[RunCreate]) -> Response:
    """Make several such runs."""
    if len(bodies) > BATCH_MAX:
        raise ApiError(422, f"a batch has at most {BATCH_MAX} runs")
    for body in bodies:
        await asks.assistant(body.assistant_id)  # all or none
    made = [await make_run(request, asks, None, body, number=number) for number, body in enumerate(bodies)]
    return reply([_new_json(run) for run in made])


@router.post("/runs/cancel", status_code=204)
async def cancel_many(asks: Asks, body: CancelMany, action: Action = "interrupt") -> Response:
    """Stop several runs."""
    if body.thread_id is None or (body.run_ids is None) == (body.status is None):
        if body.thread_id is None and body.status is not None and body.run_ids is None:
            found = await _everywhere(asks, body.status)
        else:
            raise ApiError(422, "name runs of a thread by run_ids, or runs by their status")
    else:
        await asks.threads.aget(body.thread_id, "update")
        active = await asks.runs.active(body.thread_id)
        if body.run_ids is not None:
            found = [run for run in active if run.run_id in body.run_ids]
        else:
            found = [run for run in active if body.status in ("all", run.status)]
    if not found:
        raise ApiError(404, "there is no such run that could be stopped")
    for run in found:
        await _stop(asks, run, action)
    return nothing()


@router.get("/runs/{run_id}")
async def get_stateless(asks: Asks, run_id: uuid.UUID) -> Response:
    """A run, by its id alone."""
    return reply(run_json(await _by_id(asks, run_id)))


@router.get("/runs/{run_id}/join")
async def join_stateless(asks: Asks, run_id: uuid.UUID, cancel_on_disconnect: bool = False) -> Response:
    """Wait for what it gives."""
    run = await _by_id(asks, run_id, _joining(cancel_on_disconnect))
    return _waiting(asks, run, cancels=cancel_on_disconnect, is_stateless=True)


@router.get("/runs/{run_id}/stream")
async def join_stream_stateless(
    asks: Asks,
    run_id: uuid.UUID,
    stream_mode: Modes = None,
    cancel_on_disconnect: bool = False,
    last_event_id: LastEventId = None,
) -> Response:
    """Read what it shows."""
    run = await _by_id(asks, run_id, _joining(cancel_on_disconnect))
    modes, after = _modes(stream_mode), await _after(asks, run, last_event_id)
    return _stream(asks, run, after, modes, cancels=cancel_on_disconnect, is_joined=True, is_stateless=True)


# What they share


async def make_run(
    request: HTTPConnection,
    asks: Caller,
    thread_id: str | None,
    body: RunCreate,
    *,
    is_shown: bool = True,
    number: int | None = None,
) -> RunRow:
    """Make the run that a request asks for, if the caller may; `thread_id` None: on a thread of its own."""
    assistant = await asks.assistant(body.assistant_id)
    if body.webhook is not None:
        check_url(body.webhook, asks.service.duties.settings.webhooks)
    user_id, is_stateless = asks.owner.user_id or "", thread_id is None
    granted = await asks.may("threads", "create_run", _asked(body, assistant.id, thread_id))
    metadata = granted.metadata
    if granted.only is not None and (is_stateless or body.if_not_exists == "create"):
        metadata = {**granted.only.made(metadata)}
    thread_id = new_id() if thread_id is None else thread_id
    if_missing = None
    if is_stateless or body.if_not_exists == "create":
        if_missing = new_thread(thread_id, user_id, metadata)
    key = key_of(request, user_id if asks.owner.user is None else asks.owner.user.identity, number)
    new = new_run(
        body, assistant, thread_id, {**asks.configurable(), **configurable_of(request)},
        user_id=user_id, metadata=metadata, is_shown=is_shown, is_stateless=is_stateless, idempotency_key=key,
    )  # fmt: skip
    return (await asks.runs.make(thread_id, new, if_missing, granted.only)).run


def _asked(body: RunCreate, assistant_id: str, thread_id: str | None) -> Json:
    """What an authorization handler is shown of a request."""
    return {
        "thread_id": None if thread_id is None else named(thread_id),
        "assistant_id": named(assistant_id),
        "run_id": None,
        "status": "pending",
        "metadata": dict(body.metadata or {}),
        "prevent_insert_if_inflight": body.multitask_strategy == "reject",
        "multitask_strategy": body.multitask_strategy or "enqueue",
        "if_not_exists": body.if_not_exists or "reject",
        "after_seconds": body.after_seconds or 0,
        "kwargs": {"input": body.input, "command": body.command, "config": body.config, "context": body.context},
    }


async def _of_thread(asks: Caller, thread_id: str, run_id: uuid.UUID, action: Any = "read") -> RunRow:
    """A run of a thread; of one that went with its run, the run is what is left."""
    try:
        run = await asks.runs.get(thread_id, str(run_id))
    except RunNotFoundError:
        await asks.threads.aget(thread_id, action)  # a thread that is not there is what is said first
        raise
    if not run.is_ephemeral:
        await asks.threads.aget(thread_id, action)
        return run
    granted = await asks.may("threads", action, {"thread_id": named(thread_id)})
    if granted.only is not None and not granted.only.fits(run.metadata):
        raise RunNotFoundError(f"there is no run {run.run_id!r}")
    return run


async def _by_id(asks: Caller, run_id: uuid.UUID, action: Any = "read") -> RunRow:
    """A run by its id alone."""
    run = await asks.runs.find(str(run_id))
    try:
        return await _of_thread(asks, run.thread, run_id, action)
    except ThreadNotFoundError:
        raise RunNotFoundError(f"there is no run {run.run_id!r}") from None


def _joining(cancels: bool) -> Literal["read", "update"]:
    """What a reader does to a thread whose run may be stopped by the reader's going away."""
    return "update" if cancels else "read"


async def _stop(asks: Caller, run: RunRow, action: Action) -> None:
    leaves = "idle"
    if run.status == "pending" and not run.is_ephemeral:
        thread = await asks.threads.aown(run.thread)
        leaves = "interrupted" if (await asks.states.read(thread, {})).next else "idle"
    await asks.runs.stop(run, action, leaves)


async def _everywhere(asks: Caller, status: str) -> list[RunRow]:
    """The active runs that the caller may stop, on all threads."""
    found: list[RunRow] = []
    for thread in await asks.threads.asearch(status="busy", archived=None, limit=1000):
        try:
            await asks.threads.aget(thread.id, "update", metadata={})
        except ThreadNotFoundError:  # may be seen, and not touched
            continue
        found += [run for run in await asks.runs.active(thread.id) if status in ("all", run.status)]
    return found


async def _after(asks: Caller, run: RunRow, last_event_id: str | None) -> int:
    """The number of the event after which a reader goes on; -1: from the beginning, what is said first has number 0."""
    if last_event_id is None:
        return await asks.runs.last(run)
    text = last_event_id.strip()
    if text in ("-1", "-", ""):
        return -1
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise ApiError(422, f"last-event-id {last_event_id!r} is not the id of an event, nor -1")
    return int(text)


def _modes(given: list[str] | None) -> list[str]:
    """The stream modes of a query, which may be empty, one, or several with commas between; all if none is named."""
    modes = [mode for text in given or () for mode in text.split(",") if mode]
    unknown = [mode for mode in modes if mode not in get_args(StreamMode)]
    if unknown:
        raise ApiError(422, f"there is no stream mode {unknown[0]!r}; there are {', '.join(get_args(StreamMode))}")
    return modes


def _made(run: RunRow, *, is_stateless: bool = False) -> Response:
    return reply(_new_json(run), headers={"content-location": _path(run, is_stateless=is_stateless)})


def _new_json(run: RunRow) -> Json:
    """A run as it was made, although it may run already."""
    return run_json(run._replace(status="pending") if run.status == "running" and run.attempt <= 1 else run)


def _path(run: RunRow, *, is_stateless: bool) -> str:
    return f"/runs/{run.run_id}" if is_stateless else f"/threads/{quote(run.thread, safe='')}/runs/{run.run_id}"


def _waiting(asks: Caller, run: RunRow, *, cancels: bool = False, is_stateless: bool = False) -> Response:
    path = _path(run, is_stateless=is_stateless)
    headers = {"content-location": path, "location": f"{path}/join"}
    return Waiting(_output(asks, run), asks.service.leaving, headers, _canceller(asks, run) if cancels else None)


async def _output(asks: Caller, run: RunRow) -> bytes:
    """What a run gives; of one whose events have gone, what its thread holds."""
    found = await asks.runs.output(run)
    if found is None and not run.is_ephemeral:
        try:
            thread = await asks.threads.aget(run.thread)
            found = encoded((await asks.states.read(thread, {})).values)
        except ThreadNotFoundError:
            pass
    return b"null" if found is None else found


def _stream(
    asks: Caller,
    run: RunRow,
    after: int,
    modes: list[str] | None,
    *,
    cancels: bool = False,
    is_joined: bool = False,
    is_stateless: bool = False,
) -> Response:
    path = _path(run, is_stateless=is_stateless)
    headers = {"content-location": path, "location": f"{path}/stream"}
    parts = _frames(asks, run, max(after, 0), modes, with_metadata=not is_joined or after < 0)
    return EventStream(parts, asks.service.leaving, headers, _canceller(asks, run) if cancels else None)


async def _frames(
    asks: Caller, run: RunRow, after: int, modes: list[str] | None, *, with_metadata: bool
) -> AsyncGenerator[bytes]:
    """What a run shows, as it is sent. Events have ids where the run can be gone back to."""
    has_ids = bool(run.request.get("is_resumable"))
    names = {mode.removesuffix("-tuple") for mode in modes or ()}
    asks.service.metrics.stream_opened()
    try:
        if with_metadata:
            first = {"run_id": run.run_id, "attempt": max(run.attempt, 1)}
            yield frame("metadata", encoded(first), "0" if has_ids else None)
        async for part in asks.runs.read(run, after):
            if isinstance(part, End):
                if part.error is not None:
                    yield frame("error", encoded(part.error))
                yield end_frame(run.run_id, part.status)
                return
            shown = (
                frame(name, data, str(seq) if has_ids else None)
                for seq, name, data in part
                if name[0] != "." and (not names or name.partition("|")[0].partition("/")[0] in names)
            )
            if joined := b"".join(shown):
                yield joined
    finally:
        asks.service.metrics.stream_closed()


def _canceller(asks: Caller, run: RunRow) -> Callable[[], Awaitable[Any]]:
    async def stop() -> None:
        try:
            found = await asks.runs.find(run.run_id)
        except RunNotFoundError:
            return
        if not found.is_over:
            await _stop(asks, found, "interrupt")

    return stop
