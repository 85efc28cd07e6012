"""The interface of a store, and the methods that every store shares.

A store implements `batch` and `abatch`; everything else is written with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from clew.errors import StorageError
from clew.store.base._config import NOT_PROVIDED, NotProvided, TTLConfig
from clew.store.base._item import Item, SearchItem
from clew.store.base._namespace import MatchCondition, NamespacePath, validate_labels, validate_namespace
from clew.store.base._op import GetOp, ListNamespacesOp, Op, PutOp, Result, SearchOp


class TTLNotSupportedError(StorageError, NotImplementedError):
    """An item was given a time to live, and the store cannot delete items by age."""


class BaseStore(ABC):
    """Items under namespaces, read and written in batches.

    Namespaces are tuples of non-empty strings without "."; the first label is not "langgraph" or "clew". A subclass
    whose items can expire sets `supports_ttl`.
    """

    supports_ttl: bool = False
    ttl_config: TTLConfig | None = None

    __slots__ = ("__weakref__",)

    @abstractmethod
    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations and give one result for each, in order.

        Reads see the store as it was before the batch. Of several puts of one item the last wins; the result of a put
        is None.
        """

    @abstractmethod
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`, without blocking the event loop."""

    def get(self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """Read one item, or None.

        `refresh_ttl` says whether its time to live starts anew (None: as the store is configured, by default yes).
        """
        return cast("Item | None", self.batch([self._get_op(namespace, key, refresh_ttl)])[0])

    def search(
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """Find items in a namespace and under it; see `SearchOp` for the filter.

        With `query`, and if the store has an index, the items closest in meaning come first and have a `score`.
        """
        op = self._search_op(namespace_prefix, query, filter, limit, offset, refresh_ttl)
        return cast("list[SearchItem]", self.batch([op])[0])

    def put(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> None:
        """Write one item, replacing what is there.

        `index` says which texts are embedded (None: the store's fields, False: none, or paths); `ttl` is in minutes
        (None: forever; not given: as the store is configured).
        """
        self.batch([self._put_op(namespace, key, value, index, ttl)])

    def delete(self, namespace: tuple[str, ...], key: str) -> None:
        """Delete one item, if it is there."""
        self.batch([PutOp(validate_labels(namespace), str(key), None)])

    def list_namespaces(
        self,
        *,
        prefix: NamespacePath | None = None,
        suffix: NamespacePath | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """List the namespaces that hold items, sorted.

        `prefix` and `suffix` must match, label by label ("*" matches any); longer namespaces are cut to `max_depth`
        labels, each listed once.
        """
        op = _listing_op(prefix, suffix, max_depth, limit, offset)
        return cast("list[tuple[str, ...]]", self.batch([op])[0])

    async def aget(self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """As `get`, without blocking the event loop."""
        return cast("Item | None", await self._arun(self._get_op(namespace, key, refresh_ttl)))

    async def asearch(
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """As `search`, without blocking the event loop."""
        op = self._search_op(namespace_prefix, query, filter, limit, offset, refresh_ttl)
        return cast("list[SearchItem]", await self._arun(op))

    async def aput(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> None:
        """As `put`, without blocking the event loop."""
        await self._arun(self._put_op(namespace, key, value, index, ttl))

    async def adelete(self, namespace: tuple[str, ...], key: str) -> None:
        """As `delete`, without blocking the event loop."""
        await self._arun(PutOp(validate_labels(namespace), str(key), None))

    async def alist_namespaces(
        self,
        *,
        prefix: NamespacePath | None = None,
        suffix: NamespacePath | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """As `list_namespaces`, without blocking the event loop."""
        op = _listing_op(prefix, suffix, max_depth, limit, offset)
        return cast("list[tuple[str, ...]]", await self._arun(op))

    async def _arun(self, op: Op) -> Result:
        return (await self.abatch([op]))[0]

    def _get_op(self, namespace: tuple[str, ...], key: str, refresh_ttl: bool | None) -> GetOp:
        return GetOp(validate_labels(namespace), str(key), self._refreshes(refresh_ttl))

    def _search_op(
        self,
        namespace_prefix: tuple[str, ...],
        query: str | None,
        filter: dict[str, Any] | None,
        limit: int,
        offset: int,
        refresh_ttl: bool | None,
    ) -> SearchOp:
        prefix = validate_labels(namespace_prefix)
        return SearchOp(prefix, filter, limit, offset, query, self._refreshes(refresh_ttl))

    def _put_op(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None,
        ttl: float | NotProvided | None,
    ) -> PutOp:
        labels = validate_namespace(namespace)
        if isinstance(ttl, NotProvided):
            minutes = (self.ttl_config or {}).get("default_ttl")
        elif ttl is not None and not self.supports_ttl:
            raise TTLNotSupportedError(
                f"{type(self).__name__} cannot give item {key!r} in {labels!r} a time to live",
                hint="leave ttl out, or use InMemoryStore, SqliteStore or PostgresStore",
            )
        else:
            minutes = ttl
        return PutOp(labels, str(key), value, index, minutes)

    def _refreshes(self, refresh_ttl: bool | None) -> bool:
        if refresh_ttl is not None:
            return refresh_ttl
        return (self.ttl_config or {}).get("refresh_on_read", True)


def _listing_op(
    prefix: NamespacePath | None, suffix: NamespacePath | None, max_depth: int | None, limit: int, offset: int
) -> ListNamespacesOp:
    conditions: list[MatchCondition] = []
    if prefix:
        conditions.append(MatchCondition("prefix", validate_labels(prefix)))
    if suffix:
        conditions.append(MatchCondition("suffix", validate_labels(suffix)))
    return ListNamespacesOp(tuple(conditions), max_depth, limit, offset)
