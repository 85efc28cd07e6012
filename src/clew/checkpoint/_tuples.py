"""A checkpoint of the log as the face by id shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from clew.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple, RunnableConfig
from clew.errors import InvalidQueryError
from clew.ids import id_bytes, id_text
from clew.protocols import HistoryQuery
from clew.serde import Codec
from clew.storage import encode, loaded
from clew.storage.loaded import Loaded
from clew.storage.log import Place


def checkpoint_tuple(found: Loaded, decode: Callable[[bytes], Any], tenant: str) -> CheckpointTuple:
    """A checkpoint as this face shows it; `tenant` is the one its configs need not name."""
    state, place = found.state, found.place
    extra = state.extra or {}
    parent = extra.get("parent") if found.parent_id is None else id_text(found.parent_id)
    checkpoint = Checkpoint(
        v=extra.get("v", 4),
        id=id_text(found.id),
        ts=extra.get("ts") or encode.timestamp(state.created_at),
        channel_values=loaded.values(found, decode),
        channel_versions=dict(state.versions),
        versions_seen={node: dict(versions) for node, versions in state.seen.items()},
        updated_channels=None if state.updated is None else [*state.updated],
    )
    writes = [
        (task.task_id, channel, value)
        for task in (encode.decode_task(record, decode) for record in found.pending)
        for channel, value in task.writes
    ]
    return CheckpointTuple(
        config=config_of(place, id_text(found.id), tenant),
        checkpoint=checkpoint,
        metadata=cast(CheckpointMetadata, loaded.metadata(found, decode)),
        parent_config=None if parent is None else config_of(place, parent, tenant),
        pending_writes=writes,
    )


def config_of(place: Place, checkpoint_id: str, tenant: str) -> RunnableConfig:
    configurable = {"thread_id": place.thread, "checkpoint_ns": place.ns, "checkpoint_id": checkpoint_id}
    if place.tenant != tenant:
        configurable["checkpoint_tenant"] = place.tenant
    return {"configurable": configurable}


def matches(found: Loaded, query: HistoryQuery, codec: Codec) -> bool:
    if query.before is not None and found.id >= id_bytes(query.before):
        return False
    metadata = loaded.metadata(found, codec.decode)
    return all(metadata.get(key) == value for key, value in query.filter.items())


def check_names(what: str, *names: object) -> None:
    """Raise `InvalidQueryError` unless all are texts that can be stored."""
    for name in names:
        if not isinstance(name, str):
            raise InvalidQueryError(f"{what} is of type {type(name).__name__!r}, not text")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InvalidQueryError(f"{what} {name!r} holds a lone surrogate") from None
