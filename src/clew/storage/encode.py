"""From a superstep, as the engine knows it, to a step's record, and back to what the engine reads.

Everything here runs on the caller's thread and touches no storage: what is stored is what the values were when the
operation was built, whatever a node does to them afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from clew.errors import CorruptRecordError, SerializationError
from clew.ids import id_bytes, id_text
from clew.protocols import Step, TaskWrites
from clew.serde import Codec
from clew.storage.delta import diff
from clew.storage.memo import MIN_ITEMS, Memo, decode_messages, encode_messages, is_long
from clew.storage.records import StepRecord, TaskRecord
from clew.storage.state import EMPTY, State, full_values, moved_hash
from clew.storage.values import LIST, Encoder, decode_full, decode_value, dict_value, encode_full, encode_value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode_step(
    before: State, step: Step, codec: Codec, *, in_full: bool, memos: dict[str, Memo] | None = None
) -> tuple[State, StepRecord]:
    """The state after `step` and the record that leads there from `before`, or stands alone with `in_full`.

    The state's place in the log (`id`, `key_seq`, ...) is left to the caller. `memos` are what the caller's cursor
    remembers of long lists, by channel; they are brought up to date.
    """
    values = dict(before.values)
    once = _Once(codec)
    hash, size = before.hash, before.size
    deltas: dict[str, Any] = {}
    gone: list[str] = []
    versions: dict[str, Any] = {}
    new_values, new_versions = step.values, step.versions
    for name in step.changed:
        if name in new_versions:
            versions[name] = new_versions[name]
        old = values.get(name)
        if name not in new_values:
            if old is not None:
                del values[name]
                gone.append(name)
                size -= old.size
                hash = moved_hash(hash, name, old, None)
            continue
        value = new_values[name]
        try:
            if memos is None or not is_long(value):
                new = encode_value(value, once, old)
            else:
                new = encode_messages(name, value, once, old, memos)
        except SerializationError as error:
            for task in step.writes:
                encode_task(task, codec)  # names the node, if one has just written what cannot be stored
            raise _unstorable(error, f"channel {name!r}", value, codec) from error
        if new is old:
            continue
        if not in_full:
            deltas[name] = diff(old, new)
        values[name] = new
        size += new.size - (0 if old is None else old.size)
        hash = moved_hash(hash, name, old, new)
    seen = dict(before.seen)
    for node in step.seen if in_full else step.ran:
        if node in step.seen:
            seen[node] = dict(step.seen[node])
    after = State(
        values,
        dict(new_versions),
        seen,
        dict_value(_encode_metadata(step.metadata, codec), before.metadata),
        None if step.updated is None else tuple(step.updated),
        id_bytes(step.owner) if step.owner else b"",
        size=size,
        hash=hash,
    )
    return after, _record(before, after, step, codec, once, deltas, gone, versions, in_full=in_full)


class _Once:
    """Encodes for one commit: a message that a task wrote is in its channel's value, too, and is encoded once."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._known: dict[int, bytes] = {}  # by identity: the step holds the objects meanwhile
        self.encode = codec.encode

    def encode_items(self, values: Sequence[Any]) -> list[bytes]:
        """As the codec's."""
        known = self._known
        found = [known.get(id(value)) for value in values]
        missing = [index for index, data in enumerate(found) if data is None]
        if not missing:
            return found  # pyright: ignore[reportReturnType] - none is None
        if len(missing) == len(values):
            packed = self._codec.encode_items(values)
            known.update(zip(map(id, values), packed, strict=True))
            return packed
        for index, data in zip(missing, self._codec.encode_items([values[index] for index in missing]), strict=True):
            found[index] = known[id(values[index])] = data
        return found  # pyright: ignore[reportReturnType] - none is None


def encode_task(task: TaskWrites, codec: Codec, encoder: Encoder | None = None) -> TaskRecord:
    """One task's writes in encoded form, by `encoder` if one is given."""
    channels: list[str] = []
    values: list[Any] = []
    for channel, value in task.writes:
        channels.append(channel)
        try:
            values.append(encode_full(value, encoder or codec))
        except SerializationError as error:
            by = f" by {task.name!r}" if task.name else ""
            raise _unstorable(error, f"a write to channel {channel!r}{by}", value, codec) from error
    return TaskRecord(id_bytes(task.task_id), task.path, task.name, channels, values)


def decode_task(task: TaskRecord, decode: Callable[[bytes], Any]) -> TaskWrites:
    """One task's writes as the engine reads them."""
    writes: list[tuple[str, Any]] = []
    for channel, delta in zip(task.channels, task.values, strict=True):
        try:
            writes.append((channel, decode_full(delta[0], delta[1], decode)))
        except (SerializationError, CorruptRecordError) as error:
            raise _unreadable(error, f"a write to channel {channel!r}") from error
    return TaskWrites(id_text(task.task_id), writes, task.path, task.name)


def decode_values(state: State, decode: Callable[[bytes], Any], memos: dict[str, Memo] | None = None) -> dict[str, Any]:
    """The values of all channels as objects; `memos` takes what is to be remembered of long lists."""
    values: dict[str, Any] = {}
    for name, value in state.values.items():
        try:
            if memos is not None and value.kind == LIST and len(value.data) >= MIN_ITEMS:
                found = decode_messages(value, decode)
                if found is not None:
                    values[name], memos[name] = found
                    continue
            values[name] = decode_value(value, decode)
        except (SerializationError, CorruptRecordError) as error:
            raise _unreadable(error, f"channel {name!r}") from error
    return values


def decode_metadata(state: State, decode: Callable[[bytes], Any]) -> dict[str, Any]:
    """The metadata as an object."""
    return {} if state.metadata is None else decode_value(state.metadata, decode)


def timestamp(micros: int) -> str:
    """ISO 8601 in UTC, with microseconds."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}+00:00"


@functools.lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def run_bytes(metadata: Mapping[str, Any]) -> bytes | None:
    """The run's id as its column keeps it."""
    run_id = metadata.get("run_id")
    return id_bytes(str(run_id)) if run_id else None


def _encode_metadata(metadata: Mapping[str, Any], codec: Codec) -> dict[str, bytes]:
    try:
        return dict(zip(metadata, codec.encode_items(list(metadata.values())), strict=True))
    except SerializationError as error:
        raise _unstorable(error, "the checkpoint's metadata", dict(metadata), codec) from error


def _record(
    before: State,
    after: State,
    step: Step,
    codec: Codec,
    once: Encoder,
    deltas: dict[str, Any],
    gone: Sequence[str],
    versions: dict[str, Any],
    *,
    in_full: bool,
) -> StepRecord:
    metadata = after.metadata
    assert metadata is not None, "a state that was just encoded has metadata"
    writes = [encode_task(task, codec, once) for task in step.writes]
    if in_full:
        before, deltas, gone, versions = EMPTY, full_values(after.values), [], dict(after.versions)
    return StepRecord(
        deltas,
        list(gone),
        versions,
        _seen(after.seen, after.seen if in_full else step.ran),
        after.updated,
        None if metadata is before.metadata else diff(before.metadata, metadata),
        writes,
        after.owner,
        after.hash,
    )


def _seen(seen: Mapping[str, Mapping[str, Any]], nodes: Iterable[str]) -> dict[str, Any]:
    return {node: seen[node] for node in nodes if node in seen}


def _unstorable(error: SerializationError, where: str, value: Any, codec: Codec) -> SerializationError:
    """The same error, saying where the value is from; its path begins at the top of the value."""
    try:
        codec.encode(value)  # it was encoded in parts, whose paths begin at the part
    except SerializationError as whole:
        error = whole
    return SerializationError(f"{where} cannot be stored: {error}", hint=error.hint, path=error.path)


def _unreadable(error: SerializationError | CorruptRecordError, where: str) -> SerializationError | CorruptRecordError:
    return type(error)(f"{where} cannot be read: {error}", hint=error.hint)
