"""Assistants: graphs with settings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from clew.server.assistants import Assistant, Filter
from clew.server.bodies import Body, IfExists, Json, Limit, Offset, SortOrder
from clew.server.caller import Asks, Caller, Text
from clew.server.errors import ApiError, not_found
from clew.server.factories import Purpose
from clew.server.formats import assistant_json, nothing, reply, selected, version_json
from clew.server.pages import page_of
from clew.server.schemas import graph_schemas
from clew.storage.assistants import Said

router = APIRouter(tags=["assistants"])

Name = Annotated[str, Field(max_length=500)]
Field_ = Literal[
    "assistant_id", "graph_id", "name", "description", "config", "context", "created_at", "updated_at", "metadata",
    "version",
]  # fmt: skip


class AssistantCreate(Body):
    """A new assistant."""

    graph_id: str
    assistant_id: UUID | None = None
    config: Json | None = None
    context: Json | None = None
    metadata: Json | None = None
    name: Name | None = None
    description: str | None = None
    if_exists: IfExists | None = None


class AssistantPatch(Body):
    """What changes in an assistant's next version."""

    graph_id: str | None = None
    config: Json | None = None
    context: Json | None = None
    metadata: Json | None = None
    name: Name | None = None
    description: str | None = None


class AssistantFilter(Body):
    """Which assistants are counted."""

    metadata: Json | None = None
    graph_id: str | None = None
    name: str | None = None

    def filter(self) -> Filter:
        """The same for the repository."""
        return Filter(self.metadata, self.graph_id, self.name)


class AssistantSearch(AssistantFilter):
    """Which assistants are listed, and how."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"] | None = None
    sort_order: SortOrder | None = None
    select: list[Field_] | None = None


class VersionSearch(Body):
    """Which versions are listed."""

    metadata: Json | None = None
    limit: Limit = 10
    offset: Offset = 0


class VersionChoice(Body):
    """The version to use."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


@router.post("/assistants")
async def create(asks: Asks, body: AssistantCreate) -> Response:
    """Make an assistant."""
    said = Said(
        body.graph_id,
        body.name or "Untitled",
        body.description,
        body.config or {},
        body.context or {},
        body.metadata or {},
    )
    id = None if body.assistant_id is None else str(body.assistant_id)
    return reply(assistant_json(await asks.assistants.create(id, said, if_exists=body.if_exists or "raise")))


@router.post("/assistants/search")
async def search(asks: Asks, body: AssistantSearch) -> Response:
    """List assistants, the newest first."""
    given = await asks.assistants.list(body.filter(), limit=body.limit, offset=body.offset)
    found = sorted(given, key=lambda each: _sort_key(each, body.sort_by), reverse=body.sort_order != "asc")
    page, headers = page_of(found[body.offset : body.offset + body.limit + 1], body.offset, body.limit)
    return reply([selected(assistant_json(each), body.select) for each in page], headers=headers)


@router.post("/assistants/count")
async def count(asks: Asks, body: AssistantFilter) -> Response:
    """How many assistants there are."""
    return reply(len(await asks.assistants.list(body.filter())))


@router.get("/assistants/{assistant_id}")
async def get(asks: Asks, assistant_id: UUID) -> Response:
    """An assistant."""
    return reply(assistant_json(await asks.assistants.get(str(assistant_id))))


@router.patch("/assistants/{assistant_id}")
async def patch(asks: Asks, assistant_id: UUID, body: AssistantPatch) -> Response:
    """Make a new version of an assistant, and use it."""
    changes = {key: value for key, value in body.given(*AssistantPatch.model_fields).items() if value is not None}
    return reply(assistant_json(await asks.assistants.change(str(assistant_id), changes)))


@router.delete("/assistants/{assistant_id}", status_code=204)
async def delete(asks: Asks, assistant_id: UUID, delete_threads: bool = False) -> Response:
    """Delete an assistant and, if asked, the threads that it ran on."""
    id = str(assistant_id)
    await asks.assistants.delete(id)
    while delete_threads:
        threads = await asks.threads.asearch(metadata={"assistant_id": id}, archived=None, limit=100)
        for thread in threads:
            await asks.threads.adelete(thread.id)
        delete_threads = len(threads) == 100
    return nothing()


@router.get("/assistants/{assistant_id}/graph")
async def graph(asks: Asks, assistant_id: Text, xray: bool | int = False) -> Response:
    """The nodes and edges of an assistant's graph; `assistant_id` may be a graph's name."""
    if xray < 0:
        raise ApiError(422, "xray is a depth above 0, or whether subgraphs are shown")
    assistant = await _named(asks, assistant_id)
    async with _open(asks, assistant) as opened:
        drawn = await opened.aget_graph(xray=xray)
    said = drawn.to_json()
    named = [{"type": "runnable", "data": {"name": node["id"]}, **node} for node in said["nodes"]]
    return reply({**said, "nodes": named})


@router.get("/assistants/{assistant_id}/schemas")
async def schemas(asks: Asks, assistant_id: Text) -> Response:
    """What an assistant's graph takes and gives, as JSON Schemas."""
    assistant = await _named(asks, assistant_id)
    async with _open(asks, assistant) as opened:
        return reply(graph_schemas(assistant.current.said.graph_id, opened))


@router.get("/assistants/{assistant_id}/subgraphs")
async def subgraphs(asks: Asks, assistant_id: Text, recurse: bool = False) -> Response:
    """The schemas of the graphs that nodes run, by node."""
    return await _subgraphs(asks, assistant_id, None, recurse)


@router.get("/assistants/{assistant_id}/subgraphs/{namespace}")
async def subgraphs_in(asks: Asks, assistant_id: Text, namespace: Text, recurse: bool = False) -> Response:
    """The same at one namespace."""
    return await _subgraphs(asks, assistant_id, namespace, recurse)


@router.post("/assistants/{assistant_id}/versions")
async def versions(asks: Asks, assistant_id: UUID, body: VersionSearch) -> Response:
    """The versions of an assistant, newest first."""
    found = [
        version
        for version in await asks.assistants.versions(str(assistant_id))
        if all(version.said.metadata.get(key) == value for key, value in (body.metadata or {}).items())
    ]
    page, headers = page_of(found[body.offset : body.offset + body.limit + 1], body.offset, body.limit)
    return reply([version_json(version) for version in page], headers=headers)


@router.post("/assistants/{assistant_id}/latest")
async def latest(asks: Asks, assistant_id: UUID, body: VersionChoice) -> Response:
    """Have an assistant use one of its versions."""
    return reply(assistant_json(await asks.assistants.use(str(assistant_id), body.version)))


async def _subgraphs(asks: Caller, name: str, namespace: str | None, recurse: bool) -> Response:
    assistant = await _named(asks, name)
    graph_id = assistant.current.said.graph_id
    async with _open(asks, assistant) as opened:
        found = opened.aget_subgraphs(namespace=namespace, recurse=recurse)
        return reply({name: graph_schemas(graph_id, inner) async for name, inner in found})


async def _named(asks: Caller, name: str) -> Assistant:
    if name not in asks.registry:
        try:
            name = str(UUID(name))
        except ValueError:
            raise not_found("assistant", name) from None
    return await asks.assistants.named(name)


def _open(asks: Caller, assistant: Assistant) -> Any:
    said = assistant.current.said
    store = asks.service.store_of(asks.owner)
    return asks.registry.open(said.graph_id, store, said.config, Purpose("assistants.read", asks.owner.user))


def _sort_key(assistant: Assistant, by: str | None) -> Any:
    said = assistant.current.said
    keys: dict[str, str | datetime] = {
        "assistant_id": assistant.id,
        "graph_id": said.graph_id,
        "name": said.name,
        "created_at": assistant.created_at.astimezone(UTC),
        "updated_at": assistant.updated_at.astimezone(UTC),
    }
    return keys[by or "created_at"], assistant.id
