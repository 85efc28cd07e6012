"""The tables in memory: the table of threads, beside those of `clew.storage.memory`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from clew.storage.query import Row

# Of a row: thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at,
# ttl_minutes, ttl_strategy, title, metadata, body; then the title as it is looked for.
_KEY = 14


class _Order(NamedTuple):
    """The columns that rows are sorted by."""

    columns: tuple[int, ...]
    is_descending: bool
    is_of_status: bool = False


_KINDS = {
    **{
        f"recent{of}{before}": _Order((6, 0), True, bool(of)) for of in ("", "_of_status") for before in ("", "_before")
    },
    **{f"oldest{of}": _Order((6, 0), False, bool(of)) for of in ("", "_of_status")},
    **{
        f"{name}_{way}": _Order(columns, way == "down")
        for name, columns in (
            ("thread_id", (0,)),
            ("status", (2, 6, 0)),
            ("created_at", (4, 0)),
            ("updated_at", (5, 0)),
        )
        for way in ("up", "down")
    },
}


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

    def _do_thread_active(self, tenant: str, thread: str, now: int) -> list[Row]:
        row = self._known_threads.get((tenant, thread))
        if row is None:
            return [(0,)]
        self._set(self._known_threads, (tenant, thread), [*row[:6], now, *row[7:]])
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

    def _do_thread_busy(self, tenant: str, thread: str, since: int) -> list[Row]:
        return [(0,)]

    def _do_thread_swept(self, tenant: str, thread: str, active_at: int) -> list[Row]:
        return [(0,)]  # it is pruned again, and loses nothing

    def _do_thread_expired(self, tenant: str, otherwise: str, limit: int) -> list[Row]:
        return self._expired(tenant, None, otherwise)[:limit]

    def _do_thread_expired_default(
        self, tenant: str, strategy: str, minutes: int, _delete: str, limit: int
    ) -> list[Row]:
        return self._expired(tenant, minutes, strategy)[:limit]

    def _expired(self, tenant: str, minutes: int | None, strategy: str) -> list[Row]:
        """Threads whose own time is up or, with `minutes`, the default's for those that have none."""
        now, found = time.time_ns() // 1000, list[Row]()
        for (owner, thread), row in self._known_threads.items():
            lives = row[9] if minutes is None else minutes if row[9] is None else None
            if owner == tenant and lives is not None and row[6] <= now - lives * 60_000_000:
                found.append((thread, (row[10] if minutes is None else None) or strategy, row[6], lives))
        return sorted(found, key=lambda row: (row[2], row[0]))

    def _do_cron_body_list(self, tenant: str) -> list[Row]:
        return []

    def _thread_answers(self) -> dict[str, Callable[..., list[Row]]]:
        """What answers the queries that there is one of for each order."""
        answers: dict[str, Callable[..., list[Row]]] = {}
        for kind, order in _KINDS.items():
            answers[f"thread_chosen_{kind}"] = partial(self._thread_chosen, order)
            for whose in ("mine", "everyones"):
                answers[f"thread_page_{whose}_{kind}"] = partial(self._thread_page, order)
                answers[f"thread_window_{whose}_{kind}"] = partial(self._thread_window, order)
        for whose in ("mine", "everyones"):
            answers[f"thread_titled_{whose}"] = self._thread_titled
            answers[f"thread_of_status_{whose}"] = self._thread_of_status
            for counted in ("", "of_status_", "filtered_"):
                answers[f"thread_count_{counted}{whose}"] = self._do_thread_count_chosen
        return answers

    def _thread_page(
        self, order: _Order, tenant: str, user_id: str | None, archived: int | None, status: str | None,
        text: str | None, metadata: str | None, limit: int, offset: int, _: Any = None, *before: Any,
    ) -> list[Row]:  # fmt: skip
        found = self._sorted(order, self._sought(tenant, user_id, archived, status, text, metadata), before)
        return [tuple(row[:_KEY]) for row in found[offset : offset + limit]]

    def _thread_window(
        self, order: _Order, tenant: str, user_id: str | None, archived: int, status: str | None, text: str | None,
        metadata: str | None, limit: int, offset: int, size: int, *before: Any,
    ) -> list[Row]:  # fmt: skip
        within = self._sought(tenant, user_id, archived, status if order.is_of_status else None)
        near = {row[0] for row in self._sorted(order, within, before)[:size]}
        found = self._sought(tenant, user_id, archived, status, text, metadata)
        chosen = self._sorted(order, [row for row in found if row[0] in near], before)
        return [tuple(row[:_KEY]) for row in chosen[offset : offset + limit]]

    def _thread_chosen(self, order: _Order, *params: Any) -> list[Row]:
        tenant, user_id, archived, status, text, metadata, limit, offset, ids, *before = params
        found = self._sought(tenant, user_id, archived, status, text, metadata, ids)
        return [tuple(row[:_KEY]) for row in self._sorted(order, found, before)[offset : offset + limit]]

    def _thread_titled(self, tenant: str, user_id: str | None, text: str, limit: int) -> list[Row]:
        return [(row[0],) for row in self._sought(tenant, user_id, text=text)[:limit]]

    def _thread_of_status(self, tenant: str, user_id: str | None, status: str, limit: int) -> list[Row]:
        return [(row[0],) for row in self._sought(tenant, user_id, status=status)[:limit]]

    def _do_thread_labelled(self, tenant: str, metadata: str, limit: int) -> list[Row]:
        return [(row[0],) for row in self._sought(tenant, metadata=metadata)[:limit]]

    def _do_thread_count_chosen(self, *params: Any) -> list[Row]:
        return [(len(self._sought(*params)),)]

    def _sorted(self, order: _Order, rows: list[Any], before: Sequence[Any]) -> list[Any]:
        chosen = [row for row in rows if not before or (row[6], row[0]) < tuple(before)]
        return sorted(chosen, key=lambda row: [row[column] for column in order.columns], reverse=order.is_descending)

    def _sought(
        self,
        tenant: str,
        user_id: str | None = None,
        archived: int | None = None,
        status: str | None = None,
        text: str | None = None,
        metadata: str | None = None,
        ids: str | None = None,
    ) -> list[Any]:
        wanted: dict[str, Any] = json.loads(metadata or "{}")
        named: list[str] | None = None if ids is None else json.loads(ids)
        return [
            row
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
    return all(
        key in held and held[key] == value and isinstance(held[key], bool) == isinstance(value, bool)
        for key, value in wanted.items()
    )
