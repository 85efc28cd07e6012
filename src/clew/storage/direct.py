"""Checkpoints addressed by id: what the saver's LangGraph face reads and writes, as rules over the log.

Such a caller chooses ids, names any parent, may repeat or misorder calls, and is not fenced. A checkpoint whose id is
not above the namespace's largest becomes a branch beside the head; one that exists is replaced.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clew.ids import id_bytes, id_text
from clew.protocols import Step
from clew.serde import Codec
from clew.storage import encode, log, upkeep
from clew.storage.heads import Heads, read_checkpoint, read_state
from clew.storage.loaded import Loaded
from clew.storage.log import Head, Place, Position, StepRow, Waiting
from clew.storage.query import Query, Steps
from clew.storage.records import StepRecord, TaskRecord, pack_step, pack_task, unpack_task
from clew.storage.state import EMPTY, State
from clew.storage.values import encode_full
from clew.storage.vault import Vault

_WAITING: Position = (-1, 0)  # where writes wait for a checkpoint that is not stored yet


@dataclass(slots=True)
class NewCheckpoint:
    """A checkpoint to store under an id that its caller chose."""

    id: str
    parent_id: str | None
    values: Mapping[str, Any]
    versions: Mapping[str, Any]
    seen: Mapping[str, Mapping[str, Any]]
    updated: Sequence[str] | None
    metadata: Mapping[str, Any]
    new_versions: Mapping[str, Any]
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


def get_checkpoint(heads: Heads, place: Place, checkpoint_id: str | None) -> Steps[Loaded | None]:
    """A checkpoint by its id, or the newest one."""
    head = yield from log.read_head(place)
    if head is None or head.seq == 0:
        return None
    if checkpoint_id is None:
        return (yield from read_checkpoint(heads, place, head, head.position))
    row = yield from log.read_step(place, head.line, id_bytes(checkpoint_id))
    if row is None:
        return None
    return (yield from read_checkpoint(heads, place, head, row.position, row))


def put_checkpoint(heads: Heads, place: Place, new: NewCheckpoint, codec: Codec) -> Steps[None]:
    """Store a checkpoint as the child of its parent."""
    head = yield from _ensure_head(place)
    parent = None
    if new.parent_id is not None and new.parent_id != new.id:
        parent = yield from log.read_step(place, head.line, id_bytes(new.parent_id))
        if parent is None:
            new.extra["parent"] = new.parent_id
    before = EMPTY
    if parent is not None:
        before = yield from read_state(heads, place, head, parent.position, parent)
    id = id_bytes(new.id)
    existing = yield from log.read_step(place, head.line, id)
    if existing is not None:
        _, record = encode.encode_step(before, _step(before, new), codec, in_full=True)
        record.extra = new.extra
        yield from _replace(place, head, existing, record, None if parent is None else parent.position)
        return
    is_newest = head.last_id is None or id >= head.last_id  # the same one again: it was deleted with its run
    appends = parent is not None and parent.position == head.position and is_newest
    branch, seq = (head.branch, head.seq + 1) if appends else (_new_branch(head), 1)
    in_full = not appends or _has_lost(before, new)
    _, record = encode.encode_step(before, _step(before, new), codec, in_full=in_full)
    record.extra = new.extra
    body, _, spills = pack_step(record, place)
    root = None if place.ns == "" else (yield from log.read_head(place.root))
    row = place.vault.seal_step(
        place,
        StepRow(
            branch,
            seq,
            seq if in_full else before.key_seq,
            id,
            None if root is None else root.branch,
            None if root is None else root.seq,
            encode.run_bytes(new.metadata),
            time.time_ns() // 1000,
            body,
        ),
    )
    origin = None if appends or parent is None else parent.position
    if is_newest:
        since = 0 if in_full else head.since + len(row.body)
        step = log.NewStep(row, since, spills, head.position, origin)
        yield from log.write_step(place, head.line, (head.epoch, head.epoch), step, clears=False)
    else:
        yield Query("head_branch", (branch, place.tenant, head.line))
        yield Query("step_add", (place.tenant, head.line, *row))
        if origin is not None:
            yield Query("fork_add", (place.tenant, head.line, branch, *origin))
        yield from log.write_spills(place, spills)
    yield from _deliver_waiting(place, head.line, id, (branch, seq))


def put_writes(
    place: Place, checkpoint_id: str, task: TaskRecord, indexes: Sequence[int], *, replaces: bool
) -> Steps[None]:
    """Store a task's writes behind a checkpoint; of a place that is taken the first write stays, unless `replaces`."""
    head = yield from _ensure_head(place)
    id = id_bytes(checkpoint_id)
    row = yield from log.read_step(place, head.line, id)
    position = _WAITING if row is None else row.position
    key = id + task.task_id if row is None else task.task_id
    stored: dict[int, tuple[str, Any]] = {}
    for stored_row in (yield Query("pending_task", (place.tenant, head.line, *position, key))):
        before = yield from log.read_task(place, Waiting(*position, *stored_row))
        places = before.indexes or range(len(before.channels))
        stored.update(zip(places, zip(before.channels, before.values, strict=True), strict=True))
    for index, channel, value in zip(indexes, task.channels, task.values, strict=True):
        if replaces or index not in stored:
            stored[index] = (channel, value)
    order = sorted(stored)
    merged = TaskRecord(
        task.task_id,
        task.path,
        id_text(id) if row is None else task.name,
        [stored[index][0] for index in order],
        [stored[index][1] for index in order],
        order,
    )
    body, spills = pack_task(merged, place)
    yield from _put_pending(place, head.line, Waiting(*position, key, head.epoch, body))
    yield from log.write_spills(place, spills)


def encode_writes(writes: Sequence[tuple[str, Any]], task_id: str, task_path: str, codec: Codec) -> TaskRecord:
    """A task's writes in encoded form."""
    values = [encode_full(value, codec) for _, value in writes]
    return TaskRecord(id_bytes(task_id), task_path, "", [channel for channel, _ in writes], values)


def namespaces(tenant: str, thread: str | None, vault: Vault) -> Steps[list[Place]]:
    """Every namespace of a thread, or of all threads."""
    threads = [thread] if thread is not None else (yield from thread_names(tenant))
    places: list[Place] = []
    for name in threads:
        places += [Place(tenant, name, ns, vault) for _, ns, *_ in (yield Query("head_list", (tenant, name)))]
    return places


def thread_names(tenant: str) -> Steps[list[str]]:
    """Every thread that has a namespace."""
    return [name for (name,) in (yield Query("thread_names", (tenant,)))]


def _ensure_head(place: Place) -> Steps[Head]:
    if place.ns:
        yield from log.add_head(place.root, epoch=1)
    yield from log.add_head(place, epoch=0 if place.ns else 1)
    head = yield from log.read_head(place)
    assert head is not None, "a head row that was just made can be read"
    return head


def _new_branch(head: Head) -> int:
    return head.top_branch + 1 if head.seq or head.top_branch else 0


def _has_lost(before: State, new: NewCheckpoint) -> bool:
    """Whether a channel's or a node's entry vanished, which a difference cannot say."""
    return not (before.versions.keys() <= new.versions.keys() and before.seen.keys() <= new.seen.keys())


def _step(before: State, new: NewCheckpoint) -> Step:
    """The difference between a parent's state and the checkpoint, as a superstep.

    A channel that the checkpoint does not list keeps the parent's value if it has the parent's version.
    """
    changed = {name: None for name, version in new.versions.items() if before.versions.get(name) != version}
    changed |= dict.fromkeys(new.new_versions)
    changed |= {name: None for name in new.values if name not in before.values}
    changed |= {name: None for name in before.values if name not in new.values and name not in new.versions}
    return Step(
        metadata=new.metadata,
        values=new.values,
        versions=new.versions,
        seen=new.seen,
        changed=list(changed),
        ran=[node for node, versions in new.seen.items() if before.seen.get(node) != versions],
        updated=new.updated,
    )


def _replace(place: Place, head: Head, row: StepRow, record: StepRecord, origin: Position | None) -> Steps[None]:
    """Put another content into a checkpoint that exists; those that build on it stay as they are."""
    body, _, spills = pack_step(record, place)
    yield from log.write_spills(place, spills)
    if row.position == head.position:
        yield from _replace_tip(place, head, row, body, origin)
        return
    following = yield from log.read_chain(place, head.line, row.branch, row.seq + 1, row.seq + 1)
    if following and following[0].key_seq != following[0].seq:
        keys = yield from upkeep.read_keys(place.tenant, head.line)
        first, key_seq = following[0].seq, following[0].key_seq
        last = max(key.seq for key in keys if key.branch == row.branch and key.key_seq == key_seq)
        yield from upkeep.rebase(place, head.line, row.branch, key_seq, {first})
        yield Query("step_rekey", (first, place.tenant, head.line, row.branch, first, last))
    yield from upkeep.rewrite(place, head.line, row, body)
    # Whoever looks through the thread for what is left over sees by this that it has to look here again.
    yield Query("head_branch", (head.top_branch + 1, place.tenant, head.line))
    yield from upkeep.reset_head(place.tenant, head.line)


def _replace_tip(place: Place, head: Head, row: StepRow, body: bytes, origin: Position | None) -> Steps[None]:
    """Give the tip a position of its own again: a cached head is known by its position and id."""
    branch = head.top_branch + 1
    pending = yield Query("pending_read", (place.tenant, head.line, *row.position))
    yield Query("step_drop", (place.tenant, head.line, *row.position))
    yield Query("pending_clear", (place.tenant, head.line, *row.position))
    moved = place.vault.seal_step(place, StepRow(branch, 1, 1, *row[3:8], body))
    step = log.NewStep(moved, 0, {}, head.position, origin)
    yield from log.write_step(place, head.line, (head.epoch, head.epoch), step, clears=False)
    for waiting in (Waiting(*row.position, *fields) for fields in pending):
        task = place.vault.open_task(place, waiting)
        yield from _put_pending(place, head.line, waiting._replace(branch=branch, seq=1, body=task))
    for forked, *forked_from in (yield Query("fork_list", (place.tenant, head.line))):
        if tuple(forked_from) == row.position:
            yield Query("fork_add", (place.tenant, head.line, forked, branch, 1))


def _deliver_waiting(place: Place, line: int, id: bytes, position: Position) -> Steps[None]:
    """Move writes that came before their checkpoint to where it is."""
    for row in (yield Query("pending_read", (place.tenant, line, *_WAITING))):
        waiting = Waiting(*_WAITING, *row)
        if not waiting.task_id.startswith(id):
            continue
        body = place.vault.open_task(place, waiting)
        task, _ = unpack_task(body)
        if task.name == id_text(id) and waiting.task_id == id + task.task_id:
            yield from _put_pending(place, line, Waiting(*position, task.task_id, waiting.epoch, body))
            yield Query("pending_drop", (place.tenant, line, *_WAITING, waiting.task_id))


def _put_pending(place: Place, line: int, row: Waiting) -> Steps[None]:
    """Store a pending row whose body is not sealed yet."""
    body = place.vault.seal_task(place, row)
    yield Query("pending_put", (place.tenant, line, *row.position, row.task_id, row.epoch, body))
