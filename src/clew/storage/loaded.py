"""A checkpoint as it was read, still in encoded form, and its faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clew.ids import id_text
from clew.protocols import Saved
from clew.storage import encode
from clew.storage.log import Place, Position
from clew.storage.memo import Memo
from clew.storage.records import TaskRecord
from clew.storage.state import State

Decode = Callable[[bytes], Any]


@dataclass(slots=True)
class Loaded:
    """One checkpoint. `pending` are the writes behind it, or those its newest child consumed. `metadata` and `values`
    are given where a listing has decoded them already."""

    place: Place
    state: State
    position: Position
    parent_id: bytes | None
    pending: list[TaskRecord]
    is_tip: bool
    metadata: dict[str, Any] | None = None
    values: dict[str, Any] | None = None

    @property
    def id(self) -> bytes:
        assert self.state.id is not None, "a stored step has an id"
        return self.state.id


def saved(loaded: Loaded, decode: Decode, memos: dict[str, Memo] | None = None) -> Saved:
    """The checkpoint as the engine reads it; `memos` takes what a cursor remembers of long lists."""
    state = loaded.state
    return Saved(
        checkpoint_id=id_text(loaded.id),
        parent_id=None if loaded.parent_id is None else id_text(loaded.parent_id),
        created_at=encode.timestamp(state.created_at),
        metadata=metadata(loaded, decode),
        values=values(loaded, decode, memos),
        versions=dict(state.versions),
        seen={node: dict(versions) for node, versions in state.seen.items()},
        updated=None if state.updated is None else tuple(state.updated),
        pending=[encode.decode_task(task, decode) for task in loaded.pending],
        owner=id_text(state.owner) if state.owner else "",
        ns=loaded.place.ns,
        is_head=loaded.is_tip,
        position=loaded.position,
    )


def metadata(loaded: Loaded, decode: Decode) -> dict[str, Any]:
    """The checkpoint's metadata."""
    return encode.decode_metadata(loaded.state, decode) if loaded.metadata is None else loaded.metadata


def values(loaded: Loaded, decode: Decode, memos: dict[str, Memo] | None = None) -> dict[str, Any]:
    """The checkpoint's values."""
    return encode.decode_values(loaded.state, decode, memos) if loaded.values is None else loaded.values
