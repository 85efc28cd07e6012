"""The connection is lost in the middle of every kind of operation: it is done exactly once, and said to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from tests.postgres_faults.scenarios import (
    BY_NAME,
    CHECKPOINT,
    OPERATIONS,
    WRITES,
    Blocking,
    Caller,
    OnLoop,
    Operation,
    config,
    traces,
)
from tests.proxy import Proxy

Tenants = Callable[[], str]
SAVED = [one for one in WRITES if one.name not in ("put_writes_before", "put_again")]


@pytest.fixture
def proxy(shared: str) -> Iterator[Proxy]:
    with Proxy.to(shared) as opened:
        yield opened


@pytest.fixture
def saver(shared: str, proxy: Proxy) -> Iterator[PostgresSaver]:
    with PostgresSaver.from_conn_string(proxy.conninfo(shared), max_size=1, answer_timeout=0.4) as opened:
        yield opened


@pytest.fixture(params=["blocking", "loop"])
def caller(request: pytest.FixtureRequest, saver: PostgresSaver, tenant: Tenants) -> Iterator[Caller]:
    bound = saver.with_tenant(tenant())
    if request.param == "blocking":
        yield Blocking(bound)
    else:
        yield OnLoop(bound, request.getfixturevalue("runner"))


def expected(shared: str, operation: Operation, tenant: str) -> tuple[Any, list[Any]]:
    """What the operation gives and leaves when nothing goes wrong."""
    with PostgresSaver.from_conn_string(shared, tenant=tenant) as saver:
        result = operation.prepare(Blocking(saver))()
    return result, traces(shared, tenant)


def check(shared: str, saver: PostgresSaver, plain: list[Any]) -> None:
    """The same as without the fault, nothing damaged, and the pool as large as before."""
    assert traces(shared, saver.tenant) == plain
    for thread in ("t", "copied"):
        assert saver.verify(thread).problems == []
    assert size_of(saver) <= 1


def size_of(saver: PostgresSaver) -> int:
    return saver._link._pool.get_stats()["pool_size"]


def last_sync(operation: Operation) -> str:
    """Where the operation's transaction ends: its only flush, or that of its commit."""
    return r"^sync" if operation.name in DIRECT else r"^execute commit"


DIRECT = {
    "first_step", "claim_with_step", "append", "append_with_large_value", "fork", "first_step_of_subgraph",
    "step_of_subgraph", "pending", "pending_of_subgraph", "first_pending_of_subgraph", "bare_claim",
    "bare_claim_of_new_thread", "claim_with_writes",
}  # fmt: skip


@pytest.mark.parametrize("action", ["cut_before", "cut_after"])
@pytest.mark.parametrize("operation", SAVED, ids=str)
def test_connection_cut_at_the_commit(
    shared: str, proxy: Proxy, caller: Caller, tenant: Tenants, operation: Operation, action: Any
) -> None:
    _, plain = expected(shared, operation, tenant())
    act = operation.prepare(caller)
    broken = proxy.break_at(action, last_sync(operation))
    act()

    assert broken.fired.is_set()
    check(shared, caller.saver, plain)


@pytest.mark.parametrize("action", ["cut_before", "cut_after"])
def test_checkpoint_that_is_replaced_twice_is_what_it_was_replaced_by(
    proxy: Proxy, caller: Caller, action: Any
) -> None:
    act = BY_NAME["put_again"].prepare(caller)
    before = len(list(caller.saver.list(None)))
    broken = proxy.break_at(action, r"^execute commit")
    act()

    assert broken.fired.is_set()
    found = caller.saver.get_tuple(config(CHECKPOINT["id"]))
    assert found.checkpoint["channel_values"] == {"n": 1}
    assert len(list(caller.saver.list(None))) == before
    assert caller.saver.verify("t").is_intact


@pytest.mark.parametrize("action", ["drop_reply", "half_close", "stall"])
@pytest.mark.parametrize("name", ["claim_with_step", "append", "first_pending_of_subgraph", "bare_claim", "copy"])
def test_answer_that_never_comes(
    shared: str, proxy: Proxy, caller: Caller, tenant: Tenants, name: str, action: Any
) -> None:
    operation = BY_NAME[name]
    _, plain = expected(shared, operation, tenant())
    act = operation.prepare(caller)
    broken = proxy.break_at(action, last_sync(operation))
    act()
    proxy.resume()

    assert broken.fired.is_set()
    check(shared, caller.saver, plain)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one not in WRITES], ids=str)
def test_read_whose_connection_is_cut_is_repeated(
    shared: str, proxy: Proxy, caller: Caller, tenant: Tenants, operation: Operation
) -> None:
    result, _ = expected(shared, operation, tenant())
    act = operation.prepare(caller)
    broken = proxy.break_at("cut_after", r"^sync")

    assert act() == result
    assert broken.fired.is_set()


@pytest.mark.parametrize("action", ["cut_before", "cut_after"])
@pytest.mark.parametrize("name", ["claim_with_step", "append", "fork", "step_of_subgraph", "pending"])
def test_pool_of_a_loop_looks_up_what_became_of_a_write(
    shared: str, proxy: Proxy, tenant: Tenants, runner: asyncio.Runner, name: str, action: Any
) -> None:
    operation = BY_NAME[name]
    _, plain = expected(shared, operation, tenant())
    own = tenant()

    async def opened() -> Any:
        pool = AsyncConnectionPool(proxy.conninfo(shared), min_size=1, max_size=1, open=False)
        await pool.open(wait=True)
        return pool

    pool = runner.run(opened())
    saver = AsyncPostgresSaver(pool, tenant=own)
    act = operation.prepare(OnLoop(saver, runner))
    broken = proxy.break_at(action, last_sync(operation))
    act()
    stats = pool.get_stats()
    runner.run(pool.close())

    assert broken.fired.is_set()
    assert traces(shared, own) == plain
    assert stats["pool_size"] == 1


@pytest.mark.parametrize("action", ["cut_before", "cut_after", "drop_reply"])
def test_group_of_threads_whose_answer_is_lost_is_done_once(
    shared: str, proxy: Proxy, saver: PostgresSaver, tenant: Tenants, runner: asyncio.Runner, action: Any
) -> None:
    names = ["claim_with_step", "append", "fork", "step_of_subgraph", "pending", "bare_claim", "claim_with_writes"]
    operations = [one for one in OPERATIONS if one.name in names]
    plain = [expected(shared, one, tenant())[1] for one in operations]
    bound = [saver.with_tenant(tenant()) for _ in operations]
    queued: list[Any] = []

    class Queue(OnLoop):
        """Runs what leads up to an operation, and keeps the operation itself for later."""

        is_open = True

        def run(self, op: Any) -> Any:
            return super().run(op) if self.is_open else queued.append((self.saver, op))

    for one, operation in zip(bound, operations, strict=True):
        caller = Queue(one, runner)
        act = operation.prepare(caller)
        caller.is_open = False
        act()

    async def together() -> None:
        await asyncio.gather(*(one.arun(op) for one, op in queued))

    broken = proxy.break_at(action, r"^sync")
    runner.run(together())

    assert broken.fired.is_set()
    assert [traces(shared, one.tenant) for one in bound] == plain
    for one in bound:
        assert one.verify("t").is_intact
