"""What the body of a row says: one step, or one task's writes, as bytes and back.

A step's record holds everything about it that is never searched: differences of values, versions, metadata, and the
writes it consumed, compressed together, so that bytes that appear both as a write and in a value are kept once.
Leaves of 32 KB or more are moved out into spill rows and replaced by their number in the record's list of spills.

Invariant: nothing here knows a user's type; the bytes of values are carried, never decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import ormsgpack

from clew.errors import CorruptRecordError
from clew.serde.compress import pack, unpack
from clew.storage.delta import full, leaves
from clew.storage.plain import PLAIN, PlainStep, plain_metadata, plain_step
from clew.storage.values import Delta, encode_full

if TYPE_CHECKING:
    from clew.storage.log import Place

SPILL_FROM = 32 * 1024  # bytes; leaves of this size or more are kept once per thread
Spills = dict[bytes, bytes]  # content hash -> the body of its row


@dataclass(slots=True)
class TaskRecord:
    """One task's writes in encoded form: `values[i]` is a full difference, the value written to `channels[i]`.

    `indexes` are given for writes that came one by one through the saver's LangGraph face: their places.
    """

    task_id: bytes
    path: str
    name: str
    channels: list[str]
    values: list[Delta]
    indexes: list[int] | None = None


@dataclass(slots=True)
class StepRecord:
    """One step in encoded form. Fields as in `clew.protocols.Step`, as differences from the step before.

    In a keyframe the differences are full values and `versions` and `seen` are complete.
    """

    deltas: dict[str, Delta]
    gone: list[str]
    versions: dict[str, Any]
    seen: dict[str, dict[str, Any]]
    updated: Sequence[str] | None
    metadata: Delta | None
    writes: list[TaskRecord]
    owner: bytes
    state_hash: int | None  # None: not stored
    extra: dict[str, Any] | None = None
    spills: list[bytes] = field(default_factory=list)


def pack_step(record: StepRecord, place: Place) -> tuple[bytes, int, Spills]:
    """The body of a step's row, how many bytes its differences have, and the leaves to spill."""
    values, fields = _packed(record, record.deltas, record.writes, ())
    spills: Spills = {}
    if len(values) >= SPILL_FROM or (len(fields) >= SPILL_FROM and any(_is_large(task) for task in record.writes)):
        record.deltas = {name: _spill(delta, spills, place) for name, delta in record.deltas.items()}
        writes = [_spill_task(task, spills, place) for task in record.writes]
        values, fields = _packed(record, record.deltas, writes, spills)
    return pack(values + fields), len(values), spills


def _packed(
    record: StepRecord, deltas: dict[str, Delta], writes: Sequence[TaskRecord], spills: Iterable[bytes]
) -> tuple[bytes, bytes]:
    values = ormsgpack.packb([deltas, record.gone, record.metadata])
    fields = [
        record.versions,
        record.seen,
        record.updated,
        [_task_fields(task) for task in writes],
        record.owner,
        record.state_hash,
        record.extra,
        list(spills),
    ]
    return values, ormsgpack.packb(fields)


def unpack_step(body: bytes, spilled: Mapping[bytes, bytes] | None = None) -> StepRecord:
    """The step that a row's body holds; `spilled` are the contents that `step_spills` named, where wanted.

    Raises `CorruptRecordError` if the body fails its checksum or is not a step.
    """
    try:
        values, fields = ormsgpack.unpackb(b"\x92" + unpack(body))
        if values is None:
            return _plain_record(plain_step(fields))
        deltas, gone, metadata = values
        versions, seen, updated, writes, owner, state_hash, extra, spills = fields
    except (ValueError, TypeError) as error:
        raise CorruptRecordError(f"a stored step cannot be parsed: {error}") from error
    tasks = [_task_record(fields) for fields in writes]
    if spills and spilled is not None:
        contents = [spilled[hash] for hash in spills]
        for delta in [*deltas.values(), *(value for task in tasks for value in task.values)]:
            _restore(delta, contents)
    return StepRecord(
        deltas, gone, versions, seen, updated, metadata, tasks, owner, state_hash, extra, [] if spilled else spills
    )


def _plain_record(step: PlainStep) -> StepRecord:
    return StepRecord(
        {name: encode_full(value, PLAIN) for name, value in step.values.items()},
        step.gone,
        step.versions,
        step.seen,
        step.updated,
        full(plain_metadata(step.metadata)),
        [
            TaskRecord(*task, [encode_full(value, PLAIN) for value in values])
            for task, values in zip(step.tasks, step.written, strict=True)
        ],
        step.owner,
        None,
    )


def pack_task(task: TaskRecord, place: Place) -> tuple[bytes, Spills]:
    """The body of a pending row, and the leaves to spill."""
    spills: Spills = {}
    if _is_large(task):
        task = _spill_task(task, spills, place)
    return pack(ormsgpack.packb([_task_fields(task), list(spills)])), spills


def unpack_task(body: bytes, spilled: Mapping[bytes, bytes] | None = None) -> tuple[TaskRecord, list[bytes]]:
    """The task's writes that a pending row's body holds, and the hashes of the spills they still miss."""
    try:
        fields, stored = ormsgpack.unpackb(unpack(body))
        task, spills = _task_record(fields), list[bytes](stored)
    except (ValueError, TypeError) as error:
        raise CorruptRecordError(f"stored writes cannot be parsed: {error}") from error
    if spills and spilled is not None:
        contents = [spilled[hash] for hash in spills]
        for value in task.values:
            _restore(value, contents)
        return task, []
    return task, spills


def _task_fields(task: TaskRecord) -> list[Any]:
    fields: list[Any] = [task.task_id, task.path, task.name, task.channels, task.values]
    if task.indexes is not None:
        fields.append(task.indexes)
    return fields


def _task_record(fields: list[Any]) -> TaskRecord:
    return TaskRecord(*fields)


def _is_large(task: TaskRecord) -> bool:
    return any(len(item) >= SPILL_FROM for value in task.values for item in _contents(value))


def _contents(delta: Delta) -> Iterable[bytes]:
    match delta:
        case [2, data]:
            return (data,)
        case [0, items]:
            return items
        case [1, items]:
            return items.values()
        case _:
            return ()


def _spill_task(task: TaskRecord, spills: Spills, place: Place) -> TaskRecord:
    values = [_spill(value, spills, place) for value in task.values]
    return TaskRecord(task.task_id, task.path, task.name, task.channels, values, task.indexes)


def _spill(delta: Delta, spills: Spills, place: Place) -> Delta:
    """`delta` with its large leaves moved to `spills`; a copy where anything was moved."""
    large = [
        (container, key, leaf)
        for container, key in leaves(delta)
        if isinstance(leaf := container[key], bytes) and len(leaf) >= SPILL_FROM
    ]
    if not large:
        return delta
    moved = {leaf: _number(leaf, spills, place) for _, _, leaf in large}
    return [_with_moved(part, moved) for part in delta]


def _with_moved(part: Any, moved: Mapping[bytes, int]) -> Any:
    match part:
        case bytes():
            return moved.get(part, part)
        case dict():
            items = cast("dict[str, Any]", part)
            return {key: moved.get(item, item) if isinstance(item, bytes) else item for key, item in items.items()}
        case list():
            parts = cast("list[Any]", part)
            return [moved.get(item, item) if isinstance(item, bytes) else item for item in parts]
        case _:
            return part


def _number(leaf: bytes, spills: Spills, place: Place) -> int:
    hash = place.vault.content_hash(place, leaf)
    if hash not in spills:
        spills[hash] = place.vault.seal_spill(place, hash, leaf)
    return list(spills).index(hash)


def _restore(delta: Delta, contents: Sequence[bytes]) -> None:
    for container, key in list(leaves(delta)):
        if isinstance(container[key], int):
            container[key] = contents[container[key]]
