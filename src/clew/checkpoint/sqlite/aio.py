"""The SQLite saver under the name that async code knows; it is the same object, and serves both drivers."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncGenerator
from typing import Any, Self, TypeVar, cast

from clew.checkpoint.sqlite._saver import SqliteSaver
from clew.errors import StorageError
from clew.storage.operation import LogOp
from clew.storage.sqlite import SqliteTables

__all__ = ("AsyncSqliteSaver",)

T = TypeVar("T")


class AsyncSqliteSaver(SqliteSaver):
    """A `SqliteSaver` whose `from_conn_string` is an async context manager.

    Also takes an open connection of `aiosqlite`: the file behind it is opened once more, on the first async call.
    """

    _foreign: Any = None  # an aiosqlite connection whose file is not known yet

    def __init__(self, conn: Any, **settings: Any) -> None:
        is_own = isinstance(conn, str | os.PathLike | sqlite3.Connection)
        own = cast(Any, conn) if is_own else ""
        super().__init__(own, **settings)
        if not is_own:
            self.conn = conn
            self._foreign = conn
            self._settings = settings

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(  # pyright: ignore[reportIncompatibleMethodOverride] - the name in the field
        cls, conn_string: str, **settings: Any
    ) -> AsyncGenerator[Self]:
        """Open a saver on a path, a `file:` URI or ":memory:", and close it at the end."""
        saver = cls(conn_string, **settings)
        try:
            yield saver
        finally:
            await saver.aclose()

    async def setup(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - the name in the field
        """Make or upgrade the tables; done on first use by itself, idempotent, and safe to race."""
        await self._find_file()
        await self._on_reader(self.tables.setup)

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it."""
        if self._foreign is not None:
            raise StorageError(
                "the file behind an aiosqlite connection is only known after a first async call",
                hint="await saver.setup() first, or use AsyncSqliteSaver.from_conn_string",
            )
        return super().run(op)

    async def arun(self, op: LogOp[T]) -> T:
        """Run an operation without blocking the event loop."""
        if self._foreign is not None:
            await self._find_file()
        return await super().arun(op)

    async def _find_file(self) -> None:
        if self._foreign is None:
            return
        if self.original is not None:
            await self._share_with(self.original)
            return
        async with self._foreign.execute("pragma database_list") as cursor:
            rows: list[Any] = await cursor.fetchall()
        path = next((row[2] for row in rows if row[1] == "main"), "")
        if not path:
            raise StorageError(
                "a database in memory cannot be shared with its aiosqlite connection",
                hint='use AsyncSqliteSaver.from_conn_string(":memory:")',
            )
        self._foreign = None
        options = {key: self._settings[key] for key in ("synchronous", "busy_timeout") if key in self._settings}
        self._attach(SqliteTables(path, **options))

    async def _share_with(self, original: AsyncSqliteSaver) -> None:
        """Use what the saver this one was cloned from has opened, or opens now."""
        await original._find_file()
        for name in ("tables", "_writes", "_reads", "_reader", "_foreign"):
            setattr(self, name, getattr(original, name))
