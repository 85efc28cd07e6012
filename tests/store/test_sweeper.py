"""The sweeper: it sweeps at its interval, survives errors, and ends when it should."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from clew.errors import StorageError
from clew.store.memory import InMemoryStore
from clew.store.sqlite import AsyncSqliteStore, SqliteStore

from .faces import Clock

SOON = 1 / 60_000  # minutes: a millisecond


class Watched(InMemoryStore):
    """A store whose sweeps can be waited for, and made to fail."""

    def __init__(self, clock: Clock, failures: int = 0) -> None:
        super().__init__(clock=clock, ttl={"sweep_interval_minutes": 60})
        self.swept = threading.Event()
        self.failures = failures

    def sweep_ttl(self) -> int:
        if self.failures:
            self.failures -= 1
            raise StorageError("the disk is full")
        count = super().sweep_ttl()
        self.swept.set()
        return count


def test_sweeper_deletes_expired_items_until_it_is_stopped(clock: Clock) -> None:
    store = Watched(clock)
    store.put(("a",), "k", {}, ttl=1)
    clock.advance(minutes=1)
    future = store.start_ttl_sweeper(SOON)
    assert store.start_ttl_sweeper(SOON) is future
    assert store.swept.wait(10)

    assert store.get(("a",), "k") is None
    assert store.stop_ttl_sweeper() is True
    assert future.result(10) is None


def test_cancelling_the_future_stops_the_sweeper(clock: Clock) -> None:
    store = Watched(clock)
    future = store.start_ttl_sweeper()

    assert future.cancel()
    assert store.stop_ttl_sweeper(10) is True


def test_sweeper_goes_on_after_an_error(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    store = Watched(clock, failures=1)
    with caplog.at_level(logging.ERROR, logger="clew.store"):
        store.start_ttl_sweeper(SOON)
        assert store.swept.wait(10)
    store.stop_ttl_sweeper()

    assert caplog.messages == ["sweeping expired items failed; trying again in 0.001 seconds"]


def test_nothing_is_started_without_an_interval_or_a_configuration() -> None:
    store = InMemoryStore()

    assert store.start_ttl_sweeper().done()
    assert store.stop_ttl_sweeper() is True


def test_dropped_store_takes_its_sweeper_with_it(clock: Clock) -> None:
    store = Watched(clock)
    future = store.start_ttl_sweeper()
    reference = weakref.ref(store)
    del store
    gc.collect()

    assert reference() is None
    assert future.result(10) is None


def test_sqlite_store_sweeps_in_a_thread_and_stops_when_closed(tmp_path: Path, clock: Clock) -> None:
    swept = threading.Event()

    class Sweeping(SqliteStore):
        def sweep_ttl(self) -> int:
            count = super().sweep_ttl()
            swept.set()
            return count

    with Sweeping.from_conn_string(str(tmp_path / "store.db"), clock=clock, ttl={"default_ttl": 1}) as store:
        store.batch([])
        for n in range(3):
            store.put(("a",), str(n), {})
        clock.advance(minutes=1)
        future = store.start_ttl_sweeper(SOON)
        assert swept.wait(10)
        assert store.search(("a",)) == []
    assert future.result(10) is None


def test_large_sweeps_are_done_in_parts(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.store.sqlite._engine._SWEEP_ROWS", 7)
    with SqliteStore.from_conn_string(str(tmp_path / "store.db"), clock=clock) as store:
        for n in range(21):
            store.put(("a",), str(n), {}, ttl=1)
        store.put(("a",), "forever", {})
        clock.advance(minutes=1)

        assert store.sweep_ttl() == 21
        assert [item.key for item in store.search(("a",))] == ["forever"]


def test_async_store_sweeps_in_a_task_and_stops_when_closed(tmp_path: Path, clock: Clock) -> None:
    async def scenario() -> Any:
        swept = asyncio.Event()

        class Sweeping(AsyncSqliteStore):
            fails = True

            async def sweep_ttl(self) -> int:
                if self.fails:
                    self.fails = False
                    raise StorageError("the disk is full")
                count = await super().sweep_ttl()
                swept.set()
                return count

        async with Sweeping.from_conn_string(str(tmp_path / "store.db"), clock=clock) as store:
            assert await store.stop_ttl_sweeper() is True
            await asyncio.wait_for(await store.start_ttl_sweeper(), 10)
            await store.aput(("a",), "k", {}, ttl=1)
            clock.advance(minutes=1)
            task = await store.start_ttl_sweeper(SOON)
            assert await store.start_ttl_sweeper(SOON) is task
            await asyncio.wait_for(swept.wait(), 10)
            assert await store.aget(("a",), "k") is None
        return task

    assert asyncio.run(scenario()).cancelled()
