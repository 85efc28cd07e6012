"""Stores whose async operations travel together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from clew.errors import StorageError
from clew.store.base import GetOp, Op, PutOp, Result
from clew.store.base.batch import AsyncBatchedBaseStore
from clew.store.memory import InMemoryStore


class Recording(AsyncBatchedBaseStore):
    """Keeps items in a memory store and remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = InMemoryStore()
        self.batches: list[list[Op]] = []
        self.gate: asyncio.Event | None = None

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        self.batches.append(list(ops))
        if self.gate is not None:
            await self.gate.wait()
        return self.inner.batch(self.batches[-1])


def test_operations_of_one_turn_are_one_batch() -> None:
    async def scenario() -> None:
        await asyncio.gather(*(store.aput(("a",), str(n), {"n": n}) for n in range(5)))
        found = await asyncio.gather(
            store.aget(("a",), "1"),
            store.asearch(("a",), limit=2),
            store.alist_namespaces(),
            store.adelete(("a",), "4"),
        )
        assert found[0] is not None
        assert [len(found[1]), found[2], found[3]] == [2, [("a",)], None]

    store = Recording()
    asyncio.run(scenario())

    assert [len(batch) for batch in store.batches] == [5, 4]
    assert store.inner.get(("a",), "4") is None


def test_equal_operations_travel_once_and_the_last_put_wins() -> None:
    async def scenario() -> list[Any]:
        await asyncio.gather(*(store.aput(("a",), "k", {"n": n}) for n in range(3)))
        return await asyncio.gather(*(store.aget(("a",), "k") for _ in range(3)))

    store = Recording()
    items = asyncio.run(scenario())

    assert store.batches == [[PutOp(("a",), "k", {"n": 2})], [GetOp(("a",), "k")]]
    assert [item.value for item in items] == [{"n": 2}] * 3


def test_bad_operation_fails_for_its_caller_only() -> None:
    async def scenario() -> list[Any]:
        return await asyncio.gather(
            store.aput(("a",), "good", {"n": 1}),
            store.aput(("a",), "bad", "text"),  # pyright: ignore[reportArgumentType]
            store.asearch(("a",), limit=-1),
            return_exceptions=True,
        )

    store = Recording()
    good, bad, search = asyncio.run(scenario())

    assert good is None
    assert "not a dict" in str(bad)
    assert "limit" in str(search)
    assert store.inner.get(("a",), "good") is not None


def test_failure_of_the_storage_fails_everyone_at_once() -> None:
    class Failing(Recording):
        async def abatch(self, ops: Iterable[Op]) -> list[Result]:
            await super().abatch(ops)
            raise StorageError("the file is locked")

    async def scenario() -> list[Any]:
        return await asyncio.gather(*(store.aget(("a",), str(n)) for n in range(3)), return_exceptions=True)

    store = Failing()

    assert [str(error) for error in asyncio.run(scenario())] == ["the file is locked"] * 3
    assert len(store.batches) == 1


def test_cancelled_operation_holds_up_nobody() -> None:
    async def scenario() -> None:
        store.gate = asyncio.Event()
        running = asyncio.create_task(store.aput(("a",), "running", {}))
        while not store.batches:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(store.aput(("a",), "waiting", {}))
        other = asyncio.create_task(store.aput(("a",), "other", {}))
        await asyncio.sleep(0)
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        store.gate.set()
        await other

    store = Recording()
    asyncio.run(scenario())

    assert [[op.key for op in batch] for batch in store.batches] == [["running"], ["other"]]  # type: ignore[union-attr]


def test_one_store_serves_one_event_loop_after_another() -> None:
    store = Recording()
    asyncio.run(store.aput(("a",), "k", {"n": 1}))

    item = asyncio.run(store.aget(("a",), "k"))

    assert item is not None
    assert item.value == {"n": 1}


def test_sync_call_in_the_thread_of_the_loop_is_refused() -> None:
    async def scenario() -> None:
        await store.aput(("a",), "k", {})
        store.get(("a",), "k")

    store = Recording()

    with pytest.raises(asyncio.InvalidStateError, match="would wait for the event loop that has to run it"):
        asyncio.run(scenario())


def test_sync_call_before_any_loop_is_refused() -> None:
    with pytest.raises(asyncio.InvalidStateError, match="has not been used in an event loop yet"):
        Recording().get(("a",), "k")


def test_sync_call_from_another_thread_runs_in_the_loop() -> None:
    async def scenario() -> Any:
        await store.aput(("a",), "k", {"n": 1})
        return await asyncio.to_thread(lambda: (threading.get_ident(), store.get(("a",), "k")))

    store = Recording()
    _, item = asyncio.run(scenario())

    assert item.value == {"n": 1}
