"""The tables in memory: the queries that retention asks, beside those of `clew.storage.memory`."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any

from clew.storage.query import Row

_Steps = dict[tuple[int, int], Row]


class MemoryRetention:
    """What the tables answer retention with; a part of `MemoryTables`."""

    _places: dict[tuple[str, str, str], int]
    _heads: dict[int, list[Any]]
    _steps: dict[int, _Steps]
    _ids: dict[int, dict[bytes, tuple[int, int]]]
    _forks: dict[int, dict[int, tuple[int, int]]]
    _pending: dict[int, dict[tuple[int, int], dict[bytes, tuple[int, bytes]]]]
    _spill: dict[tuple[str, str], dict[bytes, bytes]]
    _known_threads: dict[tuple[str, str], list[Any]]
    _versions: dict[tuple[str, str, str, int], Row]
    _delete: Callable[[MutableMapping[Any, Any], Any], int]

    def _do_now(self) -> list[Row]:
        return [(time.time_ns() // 1000,)]

    def _do_tenant_next(self, after: str) -> list[Row]:
        tenants = {place[0] for place in self._places} | {tenant for tenant, _ in self._known_threads}
        tenants |= {tenant for tenant, *_ in self._versions}
        return [(min((tenant for tenant in tenants if tenant > after), default=None),)]

    def _do_thread_count(self, tenant: str) -> list[Row]:
        return [(len(self._threads(tenant)),)]

    def _do_thread_page(self, tenant: str, after: str, limit: int) -> list[Row]:
        return [(thread,) for thread in sorted(self._threads(tenant)) if thread > after][:limit]

    def _do_thread_touched(self, tenant: str, thread: str) -> list[Row]:
        touched = [self._heads[line][9] for line in self._lines(tenant, thread)]
        return [(max(touched, default=None),)]

    def _do_line_usage(self, tenant: str, first: str, last: str) -> list[Row]:
        found: list[Row] = []
        for place, line in self._places.items():
            if place[0] == tenant and first <= place[1] <= last:
                steps = self._steps[line].values()
                size = sum(len(row[8]) for row in steps)
                times = [row[7] for row in steps]
                used = (len(times), size, min(times, default=None), max(times, default=None))
                found.append((place[1], line, place[2], self._heads[line][9], *used))
        return sorted(found, key=lambda row: row[:2])

    def _do_step_doomed(self, tenant: str, line: int, newest: bytes, cut: bytes, since: int) -> list[Row]:
        doomed = [row for row in self._steps[line].values() if row[3] != newest and (row[3] < cut or row[7] < since)]
        return [(len(doomed), sum(len(row[8]) for row in doomed))]

    def _do_step_oldest_kept(self, tenant: str, line: int, newest: bytes, cut: bytes, since: int) -> list[Row]:
        steps = self._steps[line].values()
        kept = [row[3] for row in steps if row[3] == newest or (row[3] >= cut and row[7] >= since)]
        return [(min(kept),)] if kept else []

    def _do_step_keys(self, tenant: str, line: int, branch: int, seq: int, limit: int) -> list[Row]:
        rows = self._do_step_page(tenant, line, branch, seq, limit)
        return [(*row[:4], row[6], row[7], len(row[8])) for row in rows]

    def _do_step_page(self, tenant: str, line: int, branch: int, seq: int, limit: int) -> list[Row]:
        positions = sorted(position for position in self._steps[line] if position > (branch, seq))
        return [self._steps[line][position] for position in positions[:limit]]

    def _do_step_branches(self, tenant: str, line: int) -> list[Row]:
        return [(branch,) for branch in {position[0] for position in self._steps[line]}]

    def _do_chain_size(self, tenant: str, line: int, branch: int, first: int, last: int) -> list[Row]:
        steps = self._steps[line]
        return [(sum(len(steps[at][8]) for at in _span(steps, branch, first, last)),)]

    def _do_step_drop_span(self, tenant: str, line: int, branch: int, first: int, last: int) -> list[Row]:
        steps = self._steps[line]
        found = _span(steps, branch, first, last)
        for position in found:
            self._delete(self._ids[line], steps[position][3])
            self._delete(steps, position)
        return [(len(found),)]

    def _do_pending_drop_span(self, tenant: str, line: int, branch: int, first: int, last: int) -> list[Row]:
        pending = self._pending[line]
        return [(sum(self._delete(pending, position) for position in _span(pending, branch, first, last)),)]

    def _do_fork_drop(self, tenant: str, line: int, branch: int) -> list[Row]:
        return [(self._delete(self._forks[line], branch),)]

    def _do_step_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        return self._drop_lines(tenant, thread, self._steps, self._ids)

    def _do_fork_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        return self._drop_lines(tenant, thread, self._forks)

    def _do_pending_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        return self._drop_lines(tenant, thread, self._pending)

    def _do_head_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        for line in self._lines(tenant, thread):
            self._delete(self._places, self._heads[line][10])
            self._delete(self._heads, line)
        return [(1,)]

    def _do_spill_sizes(self, tenant: str, thread: str) -> list[Row]:
        return [(hash, len(body)) for hash, body in self._spill.get((tenant, thread), {}).items()]

    def _threads(self, tenant: str) -> set[str]:
        return {place[1] for place in self._places if place[0] == tenant}

    def _lines(self, tenant: str, thread: str) -> list[int]:
        return [line for place, line in self._places.items() if place[:2] == (tenant, thread)]

    def _drop_lines(self, tenant: str, thread: str, *tables: MutableMapping[int, Any]) -> list[Row]:
        for line in self._lines(tenant, thread):
            for table in tables:
                self._delete(table, line)
        return [(1,)]


def _span(table: MutableMapping[tuple[int, int], Any], branch: int, first: int, last: int) -> list[tuple[int, int]]:
    return [position for seq in range(first, last + 1) if (position := (branch, seq)) in table]
