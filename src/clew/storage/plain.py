"""Small steps of plain data, stored as they are: full values in one native call, nothing compared or compressed.

Below a few hundred bytes a difference saves less than it costs to find. Such a step says what its channels hold now,
and the state after it is worked out only when somebody needs it.

Invariant: the step read back is, byte for byte, the record that `clew.storage.encode` would have made with full values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ormsgpack

from clew.ids import id_bytes
from clew.protocols import Step
from clew.serde._plain import BIN8, BIN16, BIN32, OPTIONS
from clew.serde.compress import seal, unpack
from clew.storage.values import Value, dict_value

MARK = b"\xc0"  # what the record of a plain step begins with, in the place of its differences
STATE_LIMIT = (
    2048  # bytes of a state after which the next step may be a plain one: large values would be packed in vain
)
_STEP_LIMIT = 384  # bytes of values and writes


class PlainStep(NamedTuple):
    """A plain step as stored. `tasks` are (id, path, name, channels), `written` their values."""

    values: dict[str, Any]
    metadata: dict[str, Any]
    written: list[list[Any]]
    gone: list[str]
    versions: dict[str, Any]
    seen: dict[str, dict[str, Any]]
    updated: list[str] | None
    tasks: list[tuple[bytes, str, str, list[str]]]
    owner: bytes


class PlainEncoder:
    """The codec's bytes for data that is known to be plain."""

    def encode(self, value: Any) -> bytes:
        return ormsgpack.packb(value, None, OPTIONS)

    def encode_items(self, values: Sequence[Any]) -> list[bytes]:
        return [ormsgpack.packb(value, None, OPTIONS) for value in values]


PLAIN = PlainEncoder()


def pack_plain(step: Step) -> bytes | None:
    """The body of `step`'s row; None if it is too large, or holds anything that needs the codec's care."""
    values, changed, seen, versions, writes = step.values, step.changed, step.seen, step.versions, step.writes
    kept = {name: values[name] for name in changed if name in values}
    written = [[value for _, value in task.writes] for task in writes]
    try:
        user = ormsgpack.packb([kept, step.metadata, written], None, OPTIONS)
    except TypeError:
        return None
    if len(user) > _STEP_LIMIT or BIN8 in user or BIN16 in user or BIN32 in user:
        return None  # byte strings, or what passes for them: the codec looks closer
    own = [
        [name for name in changed if name not in kept],
        {name: versions[name] for name in changed if name in versions},
        {node: seen[node] for node in step.ran if node in seen},
        step.updated if step.updated is None else list(step.updated),
        [[id_bytes(task.task_id), task.path, task.name, [name for name, _ in task.writes]] for task in writes],
        id_bytes(step.owner) if step.owner else b"",
    ]
    return seal(b"".join((MARK, b"\x92", user, ormsgpack.packb(own))))


def unpack_plain(body: bytes) -> PlainStep:
    """The plain step in a row's body that `pack_plain` made."""
    return plain_step(ormsgpack.unpackb(unpack(body)[len(MARK) :]))


def plain_step(parts: Sequence[Sequence[Any]]) -> PlainStep:
    """A plain step from the two parts of its record."""
    user, own = parts
    return PlainStep(*user, *own)


def plain_metadata(metadata: Mapping[str, Any], old: Value | None = None) -> Value:
    """Metadata of plain data in encoded form."""
    return dict_value(dict(zip(metadata, PLAIN.encode_items(list(metadata.values())), strict=True)), old)
