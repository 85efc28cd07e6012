"""The PostgreSQL saver under the name that async code knows, and on connections of one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, Self, TypeVar, cast

import psycopg

from clew.checkpoint.postgres._home import Home
from clew.checkpoint.postgres._saver import PostgresSaver
from clew.errors import StorageError
from clew.storage.operation import LogOp
from clew.storage.postgres.aio import LoopConnection, LoopPool, LoopSource
from clew.storage.postgres.connections import Source, is_of_loop
from clew.storage.postgres.tables import Settings

__all__ = ("AsyncPostgresSaver",)

T = TypeVar("T")


class AsyncPostgresSaver(PostgresSaver):
    """A `PostgresSaver` whose `from_conn_string` is an async context manager.

    Made from a connection string or a `ConnectionPool` it is the same object as that, and serves blocking and async
    callers on any event loop. It also takes a `psycopg.AsyncConnection` or an `AsyncConnectionPool`: those belong to
    one event loop, and so does the saver then.
    """

    def _source(self, conn: Any, settings: Settings, min_size: int, max_size: int) -> Source:
        if isinstance(conn, psycopg.AsyncConnection):
            return _OfLoop(LoopConnection(cast("psycopg.AsyncConnection[Any]", conn), prepare=settings.prepare))
        if is_of_loop(conn):
            return _OfLoop(LoopPool(conn, prepare=settings.prepare))
        return super()._source(conn, settings, min_size, max_size)

    @classmethod
    @contextlib.asynccontextmanager
    async def from_conn_string(  # pyright: ignore[reportIncompatibleMethodOverride] - the name in the field
        cls, conn_string: str, **settings: Any
    ) -> AsyncGenerator[Self]:
        """Open a saver on a connection string, with a pool of its own, and close it at the end."""
        saver = cls(conn_string, **settings)
        try:
            yield saver
        finally:
            await saver.aclose()

    async def setup(self, *, post: bool = False) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make or upgrade the tables; done on first use by itself, idempotent, and safe to race."""
        link = self._link
        if isinstance(link, _OfLoop):
            await self.home().set_up(post=post)
        else:
            await asyncio.get_running_loop().run_in_executor(None, lambda: PostgresSaver.setup(self, post=post))

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it."""
        if isinstance(self._link, _OfLoop):
            raise self._link.elsewhere("a blocking call")
        return super().run(op)

    def home(self) -> Home:
        """Where operations of the running event loop wait."""
        link = self._link
        if not isinstance(link, _OfLoop):
            return super().home()
        running = asyncio.get_running_loop()
        if link.loop is None:
            link.loop = running
        if link.loop is not running:
            raise link.elsewhere("another event loop")
        if running not in self._homes:
            self._homes[running] = Home(self.original or self, link.source, can_rescue=False)
        return self._homes[running]


class _OfLoop:
    """In place of connections for any thread, where those that were given belong to an event loop."""

    has_settings = False

    def __init__(self, source: LoopSource) -> None:
        self.lent: Counter[int] = Counter()
        self.source = source
        self.where = source.where
        self.loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()

    def elsewhere(self, what: str) -> StorageError:
        """The error of a caller that is not on the loop."""
        return StorageError(
            f"{what} cannot use a saver whose connections to {self.where} belong to an event loop",
            hint="use from_conn_string, or give it a ConnectionPool: then it serves every thread and event loop",
        )

    def take(self, seconds: float) -> Any:
        raise self.elsewhere("a blocking call")

    def take_now(self) -> Any:
        raise self.elsewhere("a blocking call")

    def give_back(self, wire: Any) -> None:
        pass

    def discard(self, wire: Any) -> None:
        pass

    def close(self) -> None:
        pass
