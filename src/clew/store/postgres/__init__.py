"""Stores in a PostgreSQL database."""

from typing import TYPE_CHECKING, Any

from clew.errors import MissingExtraError

try:
    from clew.store.postgres.base import PoolConfig, PostgresStore
except ImportError as error:
    if (error.name or "").startswith("clew."):
        raise
    raise MissingExtraError("a store on PostgreSQL", "postgres") from error

if TYPE_CHECKING:
    from clew.store.postgres.aio import AsyncPostgresStore

__all__ = ("AsyncPostgresStore", "PoolConfig", "PostgresStore")


def __getattr__(name: str) -> Any:
    if name == "AsyncPostgresStore":  # late, as in `clew.store.sqlite`
        from clew.store.postgres.aio import AsyncPostgresStore

        return AsyncPostgresStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
