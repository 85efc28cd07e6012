"""The log in this process's memory: dicts that answer the same named queries as a database.

Invariant: a transaction that fails leaves the tables as they were; every change is noted with what it replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableMapping
from typing import Any

from clew import _failpoints
from clew.storage.log import NewStep
from clew.storage.memory_assistants import MemoryAssistants
from clew.storage.memory_retention import MemoryRetention
from clew.storage.memory_threads import MemoryThreads
from clew.storage.query import Row, Steps, T, drive

_MISSING: Any = object()
_Steps = dict[tuple[int, int], Row]


class MemoryTables(MemoryAssistants, MemoryRetention, MemoryThreads):
    """The tables and the queries on them. `tenant` leads every key, as everywhere."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._undo: list[tuple[MutableMapping[Any, Any], Any, Any]] = []
        self._last_line = 0
        self._places: dict[tuple[str, str, str], int] = {}
        self._heads: dict[int, list[Any]] = {}
        self._steps: dict[int, _Steps] = {}
        self._ids: dict[int, dict[bytes, tuple[int, int]]] = {}
        self._forks: dict[int, dict[int, tuple[int, int]]] = {}
        self._pending: dict[int, dict[tuple[int, int], dict[bytes, tuple[int, bytes]]]] = {}
        self._spill: dict[tuple[str, str], dict[bytes, bytes]] = {}
        self._known_threads: dict[tuple[str, str], list[Any]] = {}
        self._assistants: dict[tuple[str, str, str], Row] = {}
        self._versions: dict[tuple[str, str, str, int], Row] = {}
        self._answers: dict[str, Callable[..., list[Row]]] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        } | self._thread_answers()

    def read(self, steps: Callable[[], Steps[T]]) -> T:
        """Run a rule that only reads."""
        with self._lock:
            return drive(steps(), self.answer)

    def write(self, steps: Callable[[], Steps[T]], kind: str = "write") -> T:
        """Run a rule as one transaction; `kind` names its failpoints."""
        _failpoints.hit(f"{kind}.before")
        with self._lock:
            self._undo.clear()
            try:
                result = drive(steps(), self.answer)
                _failpoints.hit(f"{kind}.uncommitted")
                return result
            except BaseException:
                self._roll_back()
                raise

    def append(self, line: int, epoch: int, step: NewStep) -> bool:
        """What `log.write_step` does for a step that follows its line's head; False, with nothing changed, if it
        does not, or the line is not in `epoch`."""
        row = step.row
        branch, seq, key_seq, id, root_branch, root_seq, _, created_at, _ = row
        with self._lock:
            head = self._heads.get(line)
            if head is None or head[0] != epoch or head[1] != branch or head[2] != seq - 1:
                return False
            if key_seq != seq and key_seq != head[3]:  # pruning has moved the keyframe
                key_seq = head[3]
                row = row._replace(key_seq=key_seq)
            top = head[4] if head[4] > branch else branch
            self._heads[line] = [
                epoch, branch, seq, key_seq, top, step.since, id, root_branch, root_seq, created_at, head[10]
            ]  # fmt: skip
            self._steps[line][branch, seq] = row
            self._ids[line][id] = (branch, seq)
            self._pending[line].pop((branch, seq - 1), None)
        return True

    def answer(self, name: str, params: tuple[Any, ...]) -> list[Row]:
        """The rows of one named query; the number of changed rows for one that writes."""
        return self._answers[name](*params)

    def _roll_back(self) -> None:
        for table, key, old in reversed(self._undo):
            if old is _MISSING:
                table.pop(key, None)
            else:
                table[key] = old
        self._undo.clear()

    def _set(self, table: MutableMapping[Any, Any], key: Any, row: Any) -> None:
        self._undo.append((table, key, table.get(key, _MISSING)))
        table[key] = row

    def _delete(self, table: MutableMapping[Any, Any], key: Any) -> int:
        if key not in table:
            return 0
        self._undo.append((table, key, table.pop(key)))
        return 1

    # head

    def _do_head_read(self, tenant: str, thread: str, ns: str) -> list[Row]:
        line = self._places.get((tenant, thread, ns))
        if line is None:
            return []
        epoch, branch, seq, *rest = self._heads[line][:9]
        before = self._steps[line].get((branch, seq - 1))
        return [(line, epoch, branch, seq, *rest, None if before is None else before[3], False)]

    def _do_head_line(self, tenant: str, thread: str, ns: str) -> list[Row]:
        return [(self._places[tenant, thread, ns],)]

    def _do_head_add(self, tenant: str, thread: str, ns: str, epoch: int) -> list[Row]:
        place = (tenant, thread, ns)
        if place in self._places:
            return [(0,)]
        self._last_line += 1
        line = self._last_line
        self._set(self._places, place, line)
        self._set(self._heads, line, [epoch, 0, 0, 0, 0, 0, None, None, None, 0, place])
        for table in (self._steps, self._ids, self._forks, self._pending):
            self._set(table, line, {})
        return [(1,)]

    def _do_head_claim(
        self, new_epoch: int, top: int, tenant: str, line: int, epoch: int, branch: int, seq: int
    ) -> list[Row]:
        head = self._heads.get(line)
        if head is None or head[0] != epoch or head[1] != branch or head[2] != seq:
            return [(0,)]
        self._set(self._heads, line, [new_epoch, *head[1:4], top, *head[5:]])
        return [(1,)]

    def _do_head_check(self, tenant: str, line: int, epoch: int) -> list[Row]:
        head = self._heads.get(line)
        return [(1,)] if head is not None and head[0] == epoch else []

    def _do_head_move(
        self,
        new_epoch: int,
        branch: int,
        seq: int,
        key_seq: int | None,
        top: int,
        since: int,
        last_id: bytes,
        root_branch: int | None,
        root_seq: int | None,
        updated_at: int,
        tenant: str,
        line: int,
        epoch: int,
        old_branch: int,
        old_seq: int,
    ) -> list[Row]:
        head = self._heads.get(line)
        if head is None or head[0] != epoch or head[1] != old_branch or head[2] != old_seq:
            return [(0,)]
        top = max(top, head[4])
        key_seq = head[3] if key_seq is None else key_seq
        moved = [new_epoch, branch, seq, key_seq, top, since, last_id, root_branch, root_seq, updated_at, head[10]]
        self._set(self._heads, line, moved)
        return [(1,)]

    # step

    def _do_step_add(
        self, tenant: str, line: int, branch: int, seq: int, key_seq: int | None, id: bytes, *rest: Any
    ) -> list[Row]:
        key_seq = self._heads[line][3] if key_seq is None else key_seq
        self._set(self._steps[line], (branch, seq), (branch, seq, key_seq, id, *rest))
        self._set(self._ids[line], id, (branch, seq))
        return [(1,)]

    def _do_step_chain(self, tenant: str, line: int, branch: int, first: int, last: int) -> list[Row]:
        steps = self._steps[line]
        found = (steps.get((branch, seq)) for seq in range(first, last + 1))
        return [row for row in found if row is not None]

    def _do_step_find(self, tenant: str, line: int, id: bytes) -> list[Row]:
        position = self._ids[line].get(id)
        return [] if position is None else [self._steps[line][position]]

    def _do_step_id(self, tenant: str, line: int, branch: int, seq: int) -> list[Row]:
        row = self._steps[line].get((branch, seq))
        return [] if row is None else [(row[3],)]

    def _do_step_list(self, tenant: str, line: int, before: bytes | None, limit: int) -> list[Row]:
        rows = sorted(
            (row for row in self._steps[line].values() if before is None or row[3] < before), key=_id, reverse=True
        )
        return [row[:4] for row in (rows if limit < 0 else rows[:limit])]

    def _do_step_roots(self, tenant: str, line: int) -> list[Row]:
        rows = sorted(self._steps[line].values(), key=_id, reverse=True)
        return [(row[0], row[1], row[4], row[5]) for row in rows]

    # fork

    def _do_fork_add(self, tenant: str, line: int, branch: int, parent_branch: int, parent_seq: int) -> list[Row]:
        self._set(self._forks[line], branch, (parent_branch, parent_seq))
        return [(1,)]

    def _do_fork_list(self, tenant: str, line: int) -> list[Row]:
        return [(branch, *origin) for branch, origin in self._forks[line].items()]

    # pending

    def _do_pending_put(
        self, tenant: str, line: int, branch: int, seq: int, task_id: bytes, epoch: int, body: bytes
    ) -> list[Row]:
        table = self._pending[line]
        if (branch, seq) not in table:
            self._set(table, (branch, seq), {})
        self._set(table[branch, seq], task_id, (epoch, body))
        return [(1,)]

    def _do_pending_read(self, tenant: str, line: int, branch: int, seq: int) -> list[Row]:
        tasks = self._pending[line].get((branch, seq), {})
        return [(task_id, *row) for task_id, row in tasks.items()]

    def _do_pending_task(self, tenant: str, line: int, branch: int, seq: int, task_id: bytes) -> list[Row]:
        row = self._pending[line].get((branch, seq), {}).get(task_id)
        return [] if row is None else [(task_id, *row)]

    def _do_pending_drop(self, tenant: str, line: int, branch: int, seq: int, task_id: bytes) -> list[Row]:
        return [(self._delete(self._pending[line].get((branch, seq), {}), task_id),)]

    def _do_pending_clear(self, tenant: str, line: int, branch: int, seq: int) -> list[Row]:
        return [(self._delete(self._pending[line], (branch, seq)),)]

    # spill

    def _do_spill_add(self, tenant: str, thread: str, hash: bytes, body: bytes) -> list[Row]:
        table = self._spill.setdefault((tenant, thread), {})
        if hash in table:
            return [(0,)]
        self._set(table, hash, body)
        return [(1,)]

    def _do_spill_read(self, tenant: str, thread: str, hash: bytes) -> list[Row]:
        body = self._spill.get((tenant, thread), {}).get(hash)
        return [] if body is None else [(body,)]

    # maintenance

    def _do_head_list(self, tenant: str, thread: str) -> list[Row]:
        places = sorted(place for place in self._places if place[:2] == (tenant, thread))
        return [(line, place[2], *self._tip(line)) for place in places if (line := self._places[place])]

    def _do_head_place(self, tenant: str, line: int) -> list[Row]:
        head = self._heads.get(line)
        return [] if head is None else [(*head[10][1:], *self._tip(line))]

    def _do_head_reset(self, *params: Any) -> list[Row]:
        branch, seq, key_seq, top, since, root_branch, root_seq, _, line = params
        head = self._heads[line]
        moved = [head[0], branch, seq, key_seq, top, since, head[6], root_branch, root_seq, *head[9:]]
        self._set(self._heads, line, moved)
        return [(1,)]

    def _do_head_branch(self, top: int, tenant: str, line: int) -> list[Row]:
        head = self._heads[line]
        self._set(self._heads, line, [*head[:4], max(head[4], top), *head[5:]])
        return [(1,)]

    def _do_head_drop(self, tenant: str, line: int) -> list[Row]:
        head = self._heads[line]
        self._delete(self._places, head[10])
        for table in (self._steps, self._ids, self._forks, self._pending):
            self._delete(table, line)
        return [(self._delete(self._heads, line),)]

    def _do_head_copy(self, tenant: str, line: int, source: int) -> list[Row]:
        head = self._heads[line]
        self._set(self._heads, line, [head[0], *self._heads[source][1:10], head[10]])
        return [(1,)]

    def _do_step_rows(self, tenant: str, line: int) -> list[Row]:
        rows = sorted(self._steps[line].values(), key=lambda row: row[:2])
        return [(*row[:4], row[6], row[7]) for row in rows]

    def _do_step_rewrite(self, key_seq: int, body: bytes, tenant: str, line: int, branch: int, seq: int) -> list[Row]:
        row = self._steps[line][branch, seq]
        self._set(self._steps[line], (branch, seq), (*row[:2], key_seq, *row[3:8], body))
        return [(1,)]

    def _do_step_rekey(self, key_seq: int, tenant: str, line: int, branch: int, first: int, last: int) -> list[Row]:
        for seq in range(first, last + 1):
            row = self._steps[line].get((branch, seq))
            if row is not None:
                self._set(self._steps[line], (branch, seq), (*row[:2], key_seq, *row[3:]))
        return [(1,)]

    def _do_step_drop(self, tenant: str, line: int, branch: int, seq: int) -> list[Row]:
        self._delete(self._ids[line], self._steps[line][branch, seq][3])
        return [(self._delete(self._steps[line], (branch, seq)),)]

    def _do_step_drop_all(self, tenant: str, line: int) -> list[Row]:
        self._set(self._steps, line, {})
        self._set(self._ids, line, {})
        return [(1,)]

    def _do_step_copy(self, tenant: str, line: int, source: int) -> list[Row]:
        self._set(self._steps, line, dict(self._steps[source]))
        self._set(self._ids, line, dict(self._ids[source]))
        return [(1,)]

    def _do_run_steps(self, tenant: str, run_id: bytes) -> list[Row]:
        return [
            (line, *row[:2])
            for line, steps in self._steps.items()
            if self._heads[line][10][0] == tenant
            for row in steps.values()
            if row[6] == run_id
        ]

    def _do_fork_drop_all(self, tenant: str, line: int) -> list[Row]:
        self._set(self._forks, line, {})
        return [(1,)]

    def _do_fork_copy(self, tenant: str, line: int, source: int) -> list[Row]:
        self._set(self._forks, line, dict(self._forks[source]))
        return [(1,)]

    def _do_pending_list(self, tenant: str, line: int) -> list[Row]:
        return [
            (*position, task_id, *row)
            for position, tasks in self._pending[line].items()
            for task_id, row in tasks.items()
        ]

    def _do_pending_drop_all(self, tenant: str, line: int) -> list[Row]:
        self._set(self._pending, line, {})
        return [(1,)]

    def _do_pending_copy(self, tenant: str, line: int, source: int) -> list[Row]:
        self._set(self._pending, line, {position: dict(tasks) for position, tasks in self._pending[source].items()})
        return [(1,)]

    def _do_spill_list(self, tenant: str, thread: str) -> list[Row]:
        return [(hash,) for hash in self._spill.get((tenant, thread), {})]

    def _do_spill_drop(self, tenant: str, thread: str, hash: bytes) -> list[Row]:
        return [(self._delete(self._spill[tenant, thread], hash),)]

    def _do_spill_drop_all(self, tenant: str, thread: str) -> list[Row]:
        return [(self._delete(self._spill, (tenant, thread)),)]

    def _do_spill_copy(self, tenant: str, thread: str, source: str) -> list[Row]:
        self._set(self._spill, (tenant, thread), dict(self._spill.get((tenant, source), {})))
        return [(1,)]

    def _do_thread_names(self, tenant: str) -> list[Row]:
        return [(thread,) for thread in sorted({place[1] for place in self._places if place[0] == tenant})]

    def _do_thread_list(self, tenant: str) -> list[Row]:
        found: list[Row] = []
        for (thread,) in self._do_thread_names(tenant):
            lines = [self._places[place] for place in self._places if place[:2] == (tenant, thread)]
            steps = [row for line in lines for row in self._steps[line].values()]
            root = self._places.get((tenant, thread, ""))
            if steps:
                times = [row[7] for row in steps]
                used = sum(bool(self._steps[line]) for line in lines)
                rooted = 0 if root is None else len(self._steps[root])
                found.append((thread, rooted, len(steps), used, min(times), max(times)))
        return sorted(found, key=lambda row: (-row[5], row[0]))

    def _tip(self, line: int) -> tuple[int, int, int]:
        head = self._heads[line]
        return head[1], head[2], head[4]


def _id(row: Row) -> bytes:
    return row[3]
