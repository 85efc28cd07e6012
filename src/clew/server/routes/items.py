"""The store: items that outlive threads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from clew.server.bodies import Body, Json, Limit, Offset
from clew.server.caller import Asks
from clew.server.errors import ApiError
from clew.server.formats import item_json, nothing, reply
from clew.store.base import NOT_PROVIDED

router = APIRouter(tags=["store"])

Label = Annotated[str, Field(min_length=1, max_length=500)]
Key = Annotated[str, Field(min_length=1, max_length=500)]
Depth = Annotated[int, Field(ge=1, le=1000)]


class ItemPut(Body):
    """An item to write. `ttl` is in minutes."""

    namespace: Annotated[list[Label], Field(min_length=1)]
    key: Key
    value: Json
    index: Literal[False] | list[str] | None = None
    ttl: Annotated[float, Field(gt=0)] | None = None


class ItemName(Body):
    """An item to delete."""

    namespace: list[Label]
    key: Key


class ItemSearch(Body):
    """Which items are searched for."""

    namespace_prefix: Annotated[list[Label], Field(default_factory=list)]
    filter: Json | None = None
    limit: Limit = 10
    offset: Offset = 0
    query: str | None = None
    refresh_ttl: bool | None = None


class NamespaceSearch(Body):
    """Which namespaces are listed."""

    prefix: list[Label] | None = None
    suffix: list[Label] | None = None
    max_depth: Depth | None = None
    limit: Limit = 100
    offset: Offset = 0


@router.put("/store/items", status_code=204)
async def put(asks: Asks, body: ItemPut) -> Response:
    """Write an item."""
    ttl: Any = body.ttl if "ttl" in body.model_fields_set else NOT_PROVIDED
    await asks.items.aput(_labels(body.namespace), body.key, body.value, body.index, ttl=ttl)
    return nothing()


@router.get("/store/items")
async def get(
    asks: Asks, key: Annotated[str, Query()], namespace: Annotated[str, Query()] = "", refresh_ttl: bool | None = None
) -> Response:
    """An item, or null."""
    labels = tuple(namespace.split(".")) if namespace else ()
    item = await asks.items.aget(_labels(labels), key, refresh_ttl=refresh_ttl)
    return reply(None if item is None else item_json(item))


@router.delete("/store/items", status_code=204)
async def delete(asks: Asks, body: ItemName) -> Response:
    """Delete an item."""
    await asks.items.adelete(_labels(body.namespace), body.key)
    return nothing()


@router.post("/store/items/search")
async def search(asks: Asks, body: ItemSearch) -> Response:
    """The items that fit, the best first where there is a query and an index."""
    found = await asks.items.asearch(
        _labels(body.namespace_prefix),
        query=body.query,
        filter=body.filter,
        limit=body.limit,
        offset=body.offset,
        refresh_ttl=body.refresh_ttl,
    )
    return reply({"items": [item_json(item) for item in found]})


@router.post("/store/namespaces")
async def namespaces(asks: Asks, body: NamespaceSearch) -> Response:
    """The namespaces that hold items."""
    found = await asks.items.alist_namespaces(
        prefix=_labels(body.prefix or ()),
        suffix=_labels(body.suffix or ()),
        max_depth=body.max_depth,
        limit=body.limit,
        offset=body.offset,
    )
    return reply({"namespaces": [list(namespace) for namespace in found]})


def _labels(given: Any) -> tuple[str, ...]:
    for label in given:
        if "." in label:
            raise ApiError(422, f"label {label!r} of a namespace holds a '.'")
    return tuple(given)
