"""A small cache of the newest states, so that a run on a known thread reads one row instead of a chain.

Never trusted by itself: an entry counts only if the head row that was just read names its row and its checkpoint.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from clew.errors import CorruptRecordError
from clew.storage import log
from clew.storage.loaded import Loaded
from clew.storage.log import Head, Place, Position, StepRow
from clew.storage.query import Steps
from clew.storage.records import TaskRecord
from clew.storage.state import Recent, State


class Heads:
    """The least recently used states, in encoded form, bounded by bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Place, tuple[int, Position, State | Recent, int]] = OrderedDict()

    def get(self, place: Place, line: int, position: Position, id: bytes | None) -> State | None:
        """The state of the step at `position`, if it is the one cached and has this id."""
        with self._lock:
            entry = self._entries.get(place)
            if entry is None or entry[0] != line or entry[1] != position or entry[2].id != id:
                return None
            self._entries.move_to_end(place)
            state = entry[2]
        return state.full()

    def size_of(self, place: Place) -> int | None:
        """About how many bytes the state of a namespace takes here, if there is one; it may not be the newest."""
        entry = self._entries.get(place)
        return None if entry is None else entry[3]

    def put(self, place: Place, line: int, position: Position, state: State | Recent) -> None:
        """Keep the state of the newest step of a namespace."""
        weight = _weight(state)
        with self._lock:
            old = self._entries.get(place)
            if old is not None:
                self._size -= old[3]
                self._entries.move_to_end(place)
            self._entries[place] = (line, position, state, weight)
            self._size += weight
            while self._size > self._limit and self._entries:
                _, dropped = self._entries.popitem(last=False)
                self._size -= dropped[3]

    def drop(self, tenant: str, thread: str) -> None:
        """Forget a thread."""
        with self._lock:
            for place in [known for known in self._entries if (known.tenant, known.thread) == (tenant, thread)]:
                self._size -= self._entries.pop(place)[3]


def read_state(heads: Heads, place: Place, head: Head, position: Position, row: StepRow | None = None) -> Steps[State]:
    """The state at a position; from the cache where that is true, else from the position's chain."""
    is_tip = position == head.position
    state = heads.get(place, head.line, position, head.last_id) if is_tip else None
    if state is not None:
        return state
    branch, seq = position
    if is_tip:
        first = head.key_seq
    elif row is not None:
        first = row.key_seq
    else:
        found = yield from log.read_chain(place, head.line, branch, seq, seq)
        log.check_all(place, found, seq, seq)
        first = found[0].key_seq
    rows = yield from log.read_chain(place, head.line, branch, first, seq)
    log.check_chain(place, rows, first, seq)
    state = yield from log.replay_rows(place, rows)
    if is_tip:
        heads.put(place, head.line, position, state)
    return state


def read_checkpoint(
    heads: Heads, place: Place, head: Head, position: Position, row: StepRow | None = None
) -> Steps[Loaded]:
    """The checkpoint at a position, with its parent and the writes behind it."""
    is_tip = position == head.position
    state = yield from read_state(heads, place, head, position, row)
    parent_id = head.parent_id if is_tip else None
    if parent_id is None:
        parent_id = yield from log.read_parent_id(place, head.line, position)
    pending = yield from log.read_pending(place, head.line, position)
    if not is_tip:
        pending = merge_writes((yield from _consumed(place, head.line, position)), pending)
    return Loaded(place, state, position, parent_id, pending, is_tip)


def merge_writes(consumed: Iterable[Sequence[TaskRecord]], waiting: Sequence[TaskRecord]) -> list[TaskRecord]:
    """The writes behind a step: what its children consumed (given oldest first), a task's from the newest child that
    has it, then what waits for other tasks."""
    tasks = {task.task_id: task for child in consumed for task in child}
    return [*tasks.values(), *(task for task in waiting if task.task_id not in tasks)]


def _consumed(place: Place, line: int, position: Position) -> Steps[list[list[TaskRecord]]]:
    """What each child of a step consumed, oldest first; nothing from one that is damaged, which is its own matter."""
    consumed: list[list[TaskRecord]] = []
    for child in reversed((yield from log.read_children(place, line, position))):
        with contextlib.suppress(CorruptRecordError):
            consumed.append((yield from log.read_record(place, child)).writes)
    return consumed


def _weight(state: State | Recent) -> int:
    messages = 0
    if isinstance(state, State):
        for value in state.values.values():
            if value.decoded is not None:
                messages += 2 * value.size + 1200 * len(value.data)
    return messages + 2 * state.size + state.since + 2000  # bytes, with what Python's objects add
