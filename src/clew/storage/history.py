"""Listing checkpoints: each branch is replayed once, and what several checkpoints share is decoded once.

Snapshots of one listing share the items of their lists with each other, as the log does; whoever changes an item in
place changes it in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clew.errors import CorruptRecordError
from clew.ids import id_bytes
from clew.protocols import HistoryQuery
from clew.storage import log
from clew.storage.encode import decode_metadata
from clew.storage.heads import merge_writes
from clew.storage.loaded import Decode, Loaded
from clew.storage.log import Head, Place, Position, Waiting
from clew.storage.query import Query, Row, Steps, ask
from clew.storage.records import TaskRecord
from clew.storage.state import Replay, State
from clew.storage.values import LIST, OPAQUE, Value, decode_value

_MOST = 1 << 31  # what every backend takes for a limit
_FIRST_BATCH = 256  # checkpoints looked at before asking for more, when a filter decides how many are needed
_LARGEST_BATCH = 4096  # and at most; each batch may read as many rows again, to the keyframe before it


@dataclass(slots=True)
class Entry:
    """One checkpoint of a listing as far as replaying its branch gives it."""

    state: State
    metadata: dict[str, Any]
    values: dict[str, Any]


def read_history(place: Place, query: HistoryQuery, decode: Decode) -> Steps[list[Loaded]]:
    """The checkpoints of a namespace, newest first."""
    head = yield from log.read_head(place)
    if head is None or head.seq == 0:
        return []
    listing = _Listing(place, head, decode)
    before = None if query.before is None else id_bytes(query.before)
    found: list[Loaded] = []
    batch = _FIRST_BATCH if query.filter else None if query.limit is None else min(query.limit, _MOST)
    rows = yield from listing.open(_page(place, head, before, batch))
    while rows:
        wanted = [(branch, seq) for branch, seq, _, _ in rows]
        if not all(log.are_numbers(row[:3]) for row in rows):
            raise _inconsistent(place)
        first: dict[int, tuple[int, int]] = {}
        for branch, seq, key_seq, _ in rows:
            low, high = first.get(branch, (key_seq, seq))
            first[branch] = (min(low, key_seq), max(high, seq))
        yield from listing.read(first, set(wanted))
        if not all(position in listing.entries for position in wanted):
            raise _inconsistent(place)
        for position in wanted:
            metadata = listing.entries[position].metadata
            if all(metadata.get(key) == value for key, value in query.filter.items()):
                found.append((yield from listing.loaded(position)))
        before = rows[-1][3]
        if batch is None or len(rows) < batch:
            break
        batch = min(2 * batch, _LARGEST_BATCH)
        listing.forget()
        is_over = query.limit is not None and len(found) >= query.limit
        rows = [] if is_over else (yield _page(place, head, before, batch))
    return found if query.limit is None else found[: query.limit]


def _page(place: Place, head: Head, before: bytes | None, batch: int | None) -> Query:
    return Query("step_list", (place.tenant, head.line, before, -1 if batch is None else batch))


def _inconsistent(place: Place) -> CorruptRecordError:
    return CorruptRecordError(
        f"thread {place.thread!r} lists checkpoints whose steps are missing",
        hint="`clew doctor` shows what can still be read",
    )


class _Listing:
    """What one listing has replayed so far."""

    def __init__(self, place: Place, head: Head, decode: Decode) -> None:
        self._place = place
        self._head = head
        self._decode = decode
        self._memo: dict[bytes, Any] = {}
        self._ids: dict[Position, bytes] = {}
        self._writes: dict[Position, list[TaskRecord]] = {}  # what the step at a position consumed
        self._origins: dict[int, Position] = {}
        self._waiting: dict[Position, list[TaskRecord]] = {}  # the writes behind a step that no child has consumed
        self.entries: dict[Position, Entry] = {}

    def open(self, first: Query) -> Steps[list[Row]]:
        """Read what is small and belongs to the whole namespace: where branches fork off, and what waits. Gives what
        `first` asks for, too."""
        line = self._head.line
        pending = Query("pending_list", (self._place.tenant, line))
        origins, waiting, rows = yield from ask(log.origins_of(self._place, line), pending, first)
        self._origins = log.origins_in(origins)
        for fields in waiting:
            row = Waiting(*fields)
            task = yield from log.read_task(self._place, row)
            self._waiting.setdefault(row.position, []).append(task)
        for tasks in self._waiting.values():
            tasks.sort(key=lambda task: (task.path, task.task_id))
        return rows

    def read(self, spans: dict[int, tuple[int, int]], wanted: set[Position]) -> Steps[None]:
        """Replay branches over (first, last) seqs, keeping the checkpoints that are wanted."""
        for branch, (first, last) in spans.items():
            rows = yield from log.read_chain(self._place, self._head.line, branch, first, last + 1)
            replay = Replay()
            decoded = _DecodedValues(replay.values, self._decode, self._memo)
            for row in rows:
                record = yield from log.read_record(self._place, row)
                self._ids[row.position] = row.checkpoint_id
                self._writes[row.position] = record.writes
                if row.seq > last:
                    continue
                log.advance(replay, row, record)
                if row.position in wanted:
                    state = replay.state()
                    self.entries[row.position] = Entry(state, decode_metadata(state, self._decode), decoded.values())

    def forget(self) -> None:
        """Let go of what was replayed: what comes next is older. So a listing keeps what it found, and one batch."""
        self.entries.clear()
        self._ids.clear()
        self._writes.clear()
        self._memo.clear()

    def loaded(self, position: Position) -> Steps[Loaded]:
        """One checkpoint of the listing."""
        entry = self.entries[position]
        parent_id = yield from self._parent_id(position)
        pending = yield from self._pending(position)
        is_tip = position == self._head.position
        return Loaded(self._place, entry.state, position, parent_id, pending, is_tip, entry.metadata, entry.values)

    def _parent_id(self, position: Position) -> Steps[bytes | None]:
        branch, seq = position
        known = self._ids.get((branch, seq - 1))
        if known is not None:
            return known
        return (yield from log.read_parent_id(self._place, self._head.line, position))

    def _pending(self, position: Position) -> Steps[list[TaskRecord]]:
        """The writes that children consumed, a task's from its newest child, and those that wait for other tasks."""
        branch, seq = position
        children = [(branch, seq + 1)] if (branch, seq + 1) in self._ids else []
        children += [(forked, 1) for forked, origin in self._origins.items() if origin == position]
        for child in children:
            if child not in self._writes:
                rows = yield from log.read_chain(self._place, self._head.line, child[0], 1, 1)
                self._writes[child] = (yield from log.read_record(self._place, rows[0])).writes if rows else []
        waiting = self._waiting.get(position, [])
        return merge_writes([self._writes[child] for child in sorted(children)], waiting)


class _DecodedValues:
    """The objects of a branch's values, carried from step to step as far as they are the same."""

    def __init__(self, current: dict[str, Value], decode: Decode, memo: dict[bytes, Any]) -> None:
        self._current = current  # changed by the replay, step by step
        self._decode = decode
        self._memo = memo
        self._known: dict[str, tuple[Value, Any]] = {}

    def values(self) -> dict[str, Any]:
        """The objects as of now; decoded only here, so that steps nobody asked for cost nothing."""
        values: dict[str, Any] = {}
        for name, value in self._current.items():
            known = self._known.get(name)
            if known is None or known[0] is not value:
                known = (value, self._decoded(value, known))
                self._known[name] = known
            values[name] = known[1] if value.kind == OPAQUE else known[1].copy()
        return values

    def _decoded(self, value: Value, known: tuple[Value, Any] | None) -> Any:
        if value.kind != LIST:
            return decode_value(value, self._decode)
        before: list[bytes] = known[0].data if known is not None and known[0].kind == LIST else []
        items: list[bytes] = value.data
        if known is not None and before and len(items) >= len(before) and _continues(before, items):
            return known[1] + [self._item(item) for item in items[len(before) :]]
        return [self._item(item) for item in items]

    def _item(self, data: bytes) -> Any:
        memo = self._memo
        if data not in memo:
            memo[data] = self._decode(data)
        return memo[data]


def _continues(before: list[bytes], items: list[bytes]) -> bool:
    return items[: len(before)] == before
