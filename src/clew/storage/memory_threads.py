"""The tables in memory: the table of threads, beside those of `clew.storage.memory`."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from typing import Any

from clew.storage.query import Row

# Of a row: thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at,
# ttl_minutes, ttl_strategy, title, metadata, body; then the title as it is looked for.
_KEY = 14
_SORTED = {"thread_id": 0, "status": 2, "created_at": 4, "updated_at": 5, "state_updated_at": 6}


class MemoryThreads:
    """The table of threads; a part of `MemoryTables`."""

    _known_threads: dict[tuple[str, str], list[Any]]
    _set: Callable[[MutableMapping[Any, Any], Any, Any], None]
    _delete: Callable[[MutableMapping[Any, Any], Any], int]

    def _do_thread_add(
        self, tenant: str, thread: str, user_id: str, status: str, now: int, ttl_minutes: int | None,
        ttl_strategy: str | None, title: str | None, title_key: str | None, metadata: str | None, body: bytes | None,
    ) -> list[Row]:  # fmt: skip
        if (tenant, thread) in self._known_threads:
            return [(0,)]
        row = [thread, user_id, status, 0, now, now, now, None, None, ttl_minutes, ttl_strategy, title, metadata, body]
        self._set(self._known_threads, (tenant, thread), [*row, title_key])
        return [(1,)]

    def _do_thread_get(self, tenant: str, thread: str) -> list[Row]:
        row = self._known_threads.get((tenant, thread))
        return [] if row is None else [tuple(row[:_KEY])]

    def _do_thread_set(
        self, tenant: str, thread: str, user_id: str, status: str, archived: int, now: int, archived_at: int | None,
        ttl_minutes: int | None, ttl_strategy: str | None, title: str | None, title_key: str | None,
        metadata: str | None, body: bytes | None,
    ) -> list[Row]:  # fmt: skip
        row = self._known_threads.get((tenant, thread))
        if row is None:
            return [(0,)]
        changed = [thread, user_id, status, archived, row[4], now, row[6], row[7], archived_at, ttl_minutes]
        self._set(self._known_threads, (tenant, thread), [*changed, ttl_strategy, title, metadata, body, title_key])
        return [(1,)]

    def _do_thread_touch(self, tenant: str, thread: str, now: int) -> list[Row]:
        row = self._known_threads.get((tenant, thread))
        if row is None:
            return [(0,)]
        self._set(self._known_threads, (tenant, thread), [*row[:5], now, now, now, *row[8:]])
        return [(1,)]

    def _do_thread_title(self, tenant: str, thread: str, title: str, title_key: str) -> list[Row]:
        row = self._known_threads.get((tenant, thread))
        if row is None or row[11] is not None or row[13] is not None:
            return [(0,)]
        self._set(self._known_threads, (tenant, thread), [*row[:11], title, *row[12:_KEY], title_key])
        return [(1,)]

    def _do_thread_remove(self, tenant: str, thread: str) -> list[Row]:
        return [(self._delete(self._known_threads, (tenant, thread)),)]

    def _do_run_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        return [(0,)]  # the service keeps no runs in memory

    def _do_event_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        return [(0,)]

    def _do_cron_drop_thread(self, tenant: str, thread: str) -> list[Row]:
        return [(0,)]

    def _do_cron_body_list(self, tenant: str) -> list[Row]:
        return []

    def _do_thread_list_mine(self, *params: Any) -> list[Row]:
        return self._do_thread_list_everyone(*params)

    def _do_thread_list_everyone(
        self, tenant: str, user_id: str | None, archived: int, active_at: int, thread: str, status: str | None,
        text: str | None, metadata: str | None, limit: int,
    ) -> list[Row]:  # fmt: skip
        wanted: dict[str, Any] = json.loads(metadata or "{}")
        found = [
            tuple(row[:_KEY])
            for (owner, _), row in self._known_threads.items()
            if owner == tenant
            and user_id in (None, row[1])
            and row[3] == archived
            and (row[6], row[0]) < (active_at, thread)
            and status in (None, row[2])
            and (text is None or (row[_KEY] is not None and text in row[_KEY]))
            and _holds(json.loads(row[12] or "{}"), wanted)
        ]
        return sorted(found, key=lambda row: (row[6], row[0]), reverse=True)[:limit]

    def _do_thread_search(self, *params: Any) -> list[Row]:
        *wanted, sort_by, descending, limit, offset = params
        found = sorted(self._sought(*wanted), key=lambda row: (row[6], row[0]), reverse=True)
        column = _SORTED.get(sort_by)
        if column is not None:
            found.sort(key=lambda row: row[column], reverse=bool(descending))
        return found[offset : offset + limit]

    def _do_thread_sought(self, *wanted: Any) -> list[Row]:
        return [(len(self._sought(*wanted)),)]

    def _sought(
        self, tenant: str, user_id: str | None, archived: int | None, status: str | None, text: str | None,
        metadata: str | None, ids: str | None,
    ) -> list[Row]:  # fmt: skip
        wanted: dict[str, Any] = json.loads(metadata or "{}")
        named: list[str] | None = None if ids is None else json.loads(ids)
        return [
            tuple(row[:_KEY])
            for (owner, _), row in self._known_threads.items()
            if owner == tenant
            and user_id in (None, row[1])
            and archived in (None, row[3])
            and status in (None, row[2])
            and (text is None or (row[_KEY] is not None and text in row[_KEY]))
            and _holds(json.loads(row[12] or "{}"), wanted)
            and (named is None or row[0] in named)
        ]


def _holds(held: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(key in held and held[key] == value for key, value in wanted.items())
