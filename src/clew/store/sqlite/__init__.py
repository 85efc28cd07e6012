"""Stores in a SQLite file."""

from typing import TYPE_CHECKING, Any

from clew.store.sqlite.base import SqliteStore

if TYPE_CHECKING:
    from clew.store.sqlite.aio import AsyncSqliteStore

__all__ = ("AsyncSqliteStore", "SqliteStore")


def __getattr__(name: str) -> Any:
    if name == "AsyncSqliteStore":  # late: it needs asyncio, which a sync program need not load
        from clew.store.sqlite.aio import AsyncSqliteStore

        return AsyncSqliteStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
