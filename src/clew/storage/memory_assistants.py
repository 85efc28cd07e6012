"""The tables in memory: assistants and their versions, beside those of `clew.storage.memory`."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from clew.storage.query import Row

_Key = tuple[str, str, str]  # tenant, user_id, assistant


class MemoryAssistants:
    """The tables of assistants; a part of `MemoryTables`."""

    _assistants: dict[_Key, Row]
    _versions: dict[tuple[str, str, str, int], Row]
    _set: Callable[[MutableMapping[Any, Any], Any, Any], None]
    _delete: Callable[[MutableMapping[Any, Any], Any], int]

    def _do_assistant_add(self, tenant: str, user_id: str, assistant: str, now: int) -> list[Row]:
        key = (tenant, user_id, assistant)
        if key in self._assistants:
            return [(0,)]
        self._set(self._assistants, key, (1, 1, now, now))
        return [(1,)]

    def _do_assistant_get(self, tenant: str, user_id: str, assistant: str) -> list[Row]:
        key = (tenant, user_id, assistant)
        head = self._assistants.get(key)
        return [] if head is None else [(assistant, *head, self._versions[*key, head[0]][1])]

    def _do_assistant_list(self, tenant: str, user_id: str) -> list[Row]:
        own = [key for key in self._assistants if key[:2] == (tenant, user_id)]
        return [row for key in own for row in self._do_assistant_get(*key)]

    def _do_assistant_set(
        self, tenant: str, user_id: str, assistant: str, version: int, top: int, now: int
    ) -> list[Row]:
        key = (tenant, user_id, assistant)
        if key not in self._assistants:
            return [(0,)]
        self._set(self._assistants, key, (version, top, self._assistants[key][2], now))
        return [(1,)]

    def _do_assistant_remove(self, tenant: str, user_id: str, assistant: str) -> list[Row]:
        return [(self._delete(self._assistants, (tenant, user_id, assistant)),)]

    def _do_assistant_version_add(
        self, tenant: str, user_id: str, assistant: str, version: int, now: int, body: bytes
    ) -> list[Row]:
        self._set(self._versions, (tenant, user_id, assistant, version), (now, body))
        return [(1,)]

    def _do_assistant_version_list(self, tenant: str, user_id: str, assistant: str) -> list[Row]:
        own = [key for key in self._versions if key[:3] == (tenant, user_id, assistant)]
        return [(key[3], *self._versions[key]) for key in sorted(own, reverse=True)]

    def _do_assistant_version_remove(self, tenant: str, user_id: str, assistant: str) -> list[Row]:
        own = [key for key in self._versions if key[:3] == (tenant, user_id, assistant)]
        return [(sum(self._delete(self._versions, key) for key in own),)]

    def _do_assistant_body_list(self, tenant: str) -> list[Row]:
        return [(*key[1:], row[1]) for key, row in self._versions.items() if key[0] == tenant]

    def _do_assistant_body_set(self, tenant: str, user_id: str, assistant: str, version: int, body: bytes) -> list[Row]:
        key = (tenant, user_id, assistant, version)
        if key not in self._versions:
            return [(0,)]
        self._set(self._versions, key, (self._versions[key][0], body))
        return [(1,)]
