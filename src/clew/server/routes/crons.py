"""Crons: runs that are made again and again, on one thread or on one of its own each time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request
from pydantic import Field, model_validator
from starlette.responses import Response

from clew.server.bodies import Body, Json, Limit, Offset, SortOrder
from clew.server.caller import Asks, Caller, Text, ThreadId
from clew.server.crons import Crons
from clew.server.formats import cron_json, nothing, reply, selected
from clew.server.grants import Action, named
from clew.server.http import configurable_of
from clew.server.pages import page_of
from clew.server.requests import Names, RunCreate, StreamMode
from clew.server.webhooks import check_url
from clew.storage.crons import CronRow

router = APIRouter(tags=["crons"])

CronField = Literal[
    "cron_id", "assistant_id", "thread_id", "on_run_completed", "end_time", "schedule", "timezone", "created_at",
    "updated_at", "payload", "user_id", "next_run_date", "metadata", "enabled", "now", "error",
]  # fmt: skip
Sort = Literal[
    "cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"
]  # fmt: skip
OnCompleted = Literal["delete", "keep"]
_OWN = {"schedule", "timezone", "end_time", "enabled", "on_run_completed", "metadata", "assistant_id"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CronCreate(RunCreate):
    """A cron to make: a request for a run, and when it is made. Without a time zone, times are in UTC.

    `on_run_completed` is what becomes of the thread that each run of a cron without a thread has: it is deleted when
    the run has ended, or kept.
    """

    schedule: str
    timezone: str | None = None
    end_time: datetime | None = None
    enabled: bool | None = None
    on_run_completed: OnCompleted | None = None

    @model_validator(mode="after")
    def _can_be_honoured(self) -> Self:
        for name, value in (("on_disconnect", "cancel"), ("if_not_exists", "create")):
            if getattr(self, name) == value:
                raise ValueError(f"{name} {value!r} means nothing for a cron, which nobody is connected to")
        if self.on_completion is not None:
            raise ValueError("on_completion is called on_run_completed for a cron")
        return self


class CronPatch(Body):
    """What changes; `metadata` is merged. `end_time` null: it does not end any more."""

    schedule: str | None = None
    timezone: str | None = None
    end_time: datetime | None = None
    enabled: bool | None = None
    on_run_completed: OnCompleted | None = None
    input: Any = None
    metadata: Json | None = None
    config: Json | None = None
    context: Json | None = None
    webhook: Annotated[str, Field(max_length=2000)] | None = None
    interrupt_before: Names | None = None
    interrupt_after: Names | None = None
    stream_mode: StreamMode | list[StreamMode] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None


class CronWanted(Body):
    """Which crons are counted."""

    assistant_id: str | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    metadata: Json | None = None


class CronSearch(CronWanted):
    """Which crons are listed, and how."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: Sort | None = None
    sort_order: SortOrder | None = None
    select: list[CronField] | None = None


@router.post("/threads/{thread_id}/runs/crons")
async def create_for_thread(request: Request, asks: Asks, thread_id: ThreadId, body: CronCreate) -> Response:
    """Have runs be made on a thread, again and again."""
    return reply(cron_json(await _make(request, asks, thread_id, body)))


@router.post("/runs/crons")
async def create(request: Request, asks: Asks, body: CronCreate) -> Response:
    """Have runs be made again and again, each on a thread of its own."""
    return reply(cron_json(await _make(request, asks, None, body)))


@router.post("/runs/crons/search")
async def search(asks: Asks, body: CronSearch) -> Response:
    """List crons, the newest first."""
    found = await _found(asks, body, limit=body.limit, offset=body.offset)
    if body.sort_by is not None or body.sort_order is not None:
        by = body.sort_by or "created_at"
        found.sort(key=lambda row: _sort_key(cron_json(row)[by], row), reverse=body.sort_order != "asc")
    page, headers = page_of(found[body.offset : body.offset + body.limit + 1], body.offset, body.limit)
    return reply([selected(cron_json(row), body.select) for row in page], headers=headers)


@router.post("/runs/crons/count")
async def count(asks: Asks, body: CronWanted) -> Response:
    """How many crons there are."""
    return reply(len(await _found(asks, body)))


@router.get("/runs/crons/{cron_id}")
async def get(asks: Asks, cron_id: Text) -> Response:
    """A cron."""
    return reply(cron_json(await (await _granted(asks, "read", cron_id)).get(cron_id)))


@router.patch("/runs/crons/{cron_id}")
async def patch(request: Request, asks: Asks, cron_id: Text, body: CronPatch) -> Response:
    """Change a cron; it is due at the next time from now on."""
    said = {name: value for name, value in body.given(*CronPatch.model_fields).items() if value is not None}
    if body.webhook is not None:
        check_url(body.webhook, asks.service.duties.settings.webhooks)
    payload = {name: value for name, value in said.items() if name not in _OWN}
    changes = {name: said[name] for name in ("schedule", "timezone", "on_run_completed") if name in said}
    if "enabled" in said:
        changes["enabled"] = int(said["enabled"])
    if "end_time" in body.model_fields_set:
        changes["end_time"] = _micros(body.end_time)
    if payload:  # runs are asked for by who has said last what they do
        changes |= {"payload": payload, "configurable": {**asks.configurable(), **configurable_of(request)}}
    value = {"payload": payload, "schedule": body.schedule, "metadata": dict(body.metadata or {})}
    granted = await asks.may("crons", "update", {"cron_id": named(cron_id), **value})
    if granted.metadata:
        changes["metadata"] = granted.metadata
    changed = await Crons(asks.service.storage, asks.owner.user_id, granted.only).change(cron_id, changes)
    asks.service.duties.wake("crons")
    return reply(cron_json(changed))


@router.delete("/runs/crons/{cron_id}", status_code=204)
async def delete(asks: Asks, cron_id: Text) -> Response:
    """Delete a cron; its runs stay."""
    await (await _granted(asks, "delete", cron_id)).remove(cron_id)
    return nothing()


async def _make(request: Request, asks: Caller, thread_id: str | None, body: CronCreate) -> CronRow:
    assistant = await asks.assistant(body.assistant_id)
    if body.webhook is not None:
        check_url(body.webhook, asks.service.duties.settings.webhooks)
    payload = body.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude=_OWN, by_alias=False)
    payload = {name: value for name, value in payload.items() if name in CronCreate.model_fields}
    asked = await asks.may(
        "threads",
        "create_run",
        {
            "thread_id": None if thread_id is None else named(thread_id),
            "assistant_id": named(assistant.id),
            "metadata": dict(body.metadata or {}),
            "kwargs": payload,
        },
    )
    if thread_id is not None:
        await asked.threads.aget(thread_id)
    metadata = asked.metadata if asked.only is None else {**asked.only.made(asked.metadata)}
    value = {"payload": payload, "schedule": body.schedule, "thread_id": thread_id, "user_id": asks.owner.user_id}
    granted = await asks.may("crons", "create", {**value, "end_time": body.end_time, "metadata": metadata})
    row = CronRow(
        cron_id="",
        user_id="",
        thread=thread_id,
        assistant_id=assistant.id,
        schedule=body.schedule,
        timezone=body.timezone,
        on_run_completed=None if thread_id is not None else body.on_run_completed or "delete",
        enabled=int(body.enabled is not False),
        created_at=0,
        updated_at=0,
        next_at=None,
        end_time=_micros(body.end_time),
        error=None,
        payload=payload,
        metadata=granted.metadata,
        configurable={**asks.configurable(), **configurable_of(request)},
    )
    made = await Crons(asks.service.storage, asks.owner.user_id, granted.only).create(row)
    asks.service.duties.wake("crons")
    return made


async def _found(asks: Caller, body: CronWanted, **page: int) -> list[CronRow]:
    assistant_id = body.assistant_id
    if assistant_id is not None and assistant_id in asks.registry:
        assistant_id = asks.service.assistants.id_of(assistant_id)
    value = {"assistant_id": assistant_id, "thread_id": body.thread_id, "metadata": dict(body.metadata or {}), **page}
    granted = await asks.may("crons", "search", value)
    crons = Crons(asks.service.storage, asks.owner.user_id, granted.only)
    return await crons.list(body.thread_id, assistant_id, body.enabled, granted.metadata)


async def _granted(asks: Caller, action: Action, cron_id: str) -> Crons:
    granted = await asks.may("crons", action, {"cron_id": named(cron_id)})
    return Crons(asks.service.storage, asks.owner.user_id, granted.only)


def _micros(at: datetime | None) -> int | None:
    """A time as it is stored; one that names no zone is in UTC."""
    if at is None:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return round((at - _EPOCH).total_seconds() * 1_000_000)


def _sort_key(value: Any, row: CronRow) -> Any:
    return (value is not None, value or "", row.cron_id)
