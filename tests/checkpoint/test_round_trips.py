"""How often runs on PostgreSQL wait for the server: counted by a proxy in front of a real one."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import psycopg
import pytest
from typing_extensions import TypedDict

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.graph import START, StateGraph
from clew.types import Send
from tests.proxy import Proxy

SECONDS = 20
WIDTH = 50
BEFORE = 4  # round trips of `fan` before its wide superstep: load, input, start, plan
WARM: Any = {"configurable": {"thread_id": "warm"}}
DRIVERS = ("blocking", "asyncio", "asyncio on its own connection")


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@pytest.fixture
def proxy(postgres_database: str) -> Iterator[Proxy]:
    with PostgresSaver.from_conn_string(postgres_database) as saver:
        saver.setup()
    with Proxy.to(postgres_database) as opened:
        yield opened


class Runs:
    """Runs graphs on a saver behind the proxy, in one of the ways there are."""

    def __init__(self, how: str, conninfo: str, proxy: Proxy) -> None:
        self.how, self.conninfo, self.proxy = how, conninfo, proxy

    @property
    def is_async(self) -> bool:
        return self.how != "blocking"

    def settings(self, durability: str) -> dict[str, Any]:
        """Of one connection: beginning another one, which a pool may do at any time, is no part of a run."""
        return {"tenant": f"{self.how} {durability}", "max_size": 1}

    def counted(self, build: Callable[[], Any], thread: str, durability: Any) -> int:
        """How many round trips a run takes on a saver that has been used before."""
        given, config = {"log": ["in"]}, {"configurable": {"thread_id": thread}, "max_concurrency": WIDTH}
        if not self.is_async:
            with PostgresSaver.from_conn_string(self.conninfo, **self.settings(durability)) as saver:
                chat().compile(checkpointer=saver).invoke(given, WARM)
                graph = build().compile(checkpointer=saver)
                self.proxy.reset()
                graph.invoke(given, config, durability=durability)
                return self.proxy.round_trips
        return asyncio.run(self._acounted(build, given, config, durability))

    async def _acounted(self, build: Any, given: Any, config: Any, durability: Any) -> int:
        opened: Any = self.conninfo
        if self.how != "asyncio":
            opened = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
        saver = AsyncPostgresSaver(opened, **self.settings(durability))
        try:
            await chat().compile(checkpointer=saver).ainvoke(given, WARM)
            graph = build().compile(checkpointer=saver)
            self.proxy.reset()
            await graph.ainvoke(given, config, durability=durability)
            return self.proxy.round_trips
        finally:
            await saver.aclose()
            if opened is not self.conninfo:
                await opened.close()


@pytest.fixture(params=DRIVERS)
def runs(request: pytest.FixtureRequest, proxy: Proxy, postgres_database: str) -> Runs:
    return Runs(request.param, proxy.conninfo(postgres_database), proxy)


def chat() -> Any:
    graph = StateGraph(Log)
    graph.add_node("ask", lambda state: {"log": ["ask"]})
    graph.add_node("say", lambda state: {"log": ["say"]})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "say")
    return graph


def fan(work: Any, width: int = WIDTH) -> Any:
    graph = StateGraph(Log)
    graph.add_node("plan", lambda state: {})
    graph.add_node("work", work)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("work", n) for n in range(width)], ["work"])
    return graph


@pytest.mark.parametrize(("durability", "count"), [("sync", 1 + 4), ("async", 1 + 4), ("exit", 1 + 2)])
def test_a_turn_of_a_chat_costs_its_load_and_a_round_trip_for_each_checkpoint(
    runs: Runs, durability: str, count: int
) -> None:
    assert runs.counted(chat, "warm", durability) <= count


def gate(*, is_async: bool) -> Any:
    """A node whose tasks all end at the same moment: when the last one has begun."""
    if not is_async:
        barrier = threading.Barrier(WIDTH)

        def work(n: int) -> Any:
            barrier.wait(SECONDS)
            return {"log": [str(n)]}

        return work
    begun: list[int] = []
    opened = asyncio.Event()

    async def awork(n: int) -> Any:
        begun.append(n)
        if len(begun) == WIDTH:
            opened.set()
        await opened.wait()
        return {"log": [str(n)]}

    return awork


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_fan_out_that_finishes_at_once_costs_at_most_three_round_trips(runs: Runs, durability: str) -> None:
    runs.proxy.latency = 0.01

    count = runs.counted(lambda: fan(gate(is_async=runs.is_async)), "at once", durability)

    assert count <= BEFORE + 3


def test_writes_that_finish_while_a_save_is_in_flight_travel_together(runs: Runs) -> None:
    held = runs.proxy.break_at("stall", "insert into clew_pending")
    finished = threading.Semaphore(0)

    def release(open_gate: Callable[[], Any]) -> None:
        assert held.fired.wait(SECONDS)
        open_gate()
        for _ in range(WIDTH - 1):
            assert finished.acquire(timeout=SECONDS)
        runs.proxy.resume()

    def build() -> Any:
        opened = threading.Event()
        aopened = asyncio.Event()

        def work(n: int) -> Any:
            if n:
                assert opened.wait(SECONDS)
                finished.release()
            return {"log": [str(n)]}

        async def awork(n: int) -> Any:
            if n:
                await asyncio.wait_for(aopened.wait(), SECONDS)
                finished.release()
            return {"log": [str(n)]}

        if runs.is_async:
            loop = asyncio.get_running_loop()
            open_gate = lambda: loop.call_soon_threadsafe(aopened.set)  # noqa: E731
        else:
            open_gate = opened.set
        threading.Thread(target=release, args=(open_gate,), daemon=True).start()
        return fan(awork if runs.is_async else work)

    count = runs.counted(build, "in flight", "sync")

    saves = [sql for sql in runs.proxy.statements if "into clew_pending" in sql]
    assert len(saves) <= 3  # a thread that has ended its node may need a moment to say so
    assert count <= BEFORE + len(saves) + 1


def test_a_fan_out_that_trickles_costs_a_save_for_each_task_and_the_checkpoint(
    proxy: Proxy, postgres_database: str
) -> None:
    """Each task ends when its predecessor's end was shown, which comes after its save."""
    width = 8

    async def body() -> int:
        shown = [asyncio.Event() for _ in range(width + 1)]
        shown[0].set()

        async def work(n: int) -> Any:
            await asyncio.wait_for(shown[n].wait(), SECONDS)
            return {"log": [str(n)]}

        async with AsyncPostgresSaver.from_conn_string(
            proxy.conninfo(postgres_database), tenant="trickle", max_size=1
        ) as saver:
            await chat().compile(checkpointer=saver).ainvoke({"log": []}, WARM)
            graph = fan(work, width).compile(checkpointer=saver)
            proxy.reset()
            config: Any = {"configurable": {"thread_id": "t"}}
            async for chunk in graph.astream({"log": []}, config, stream_mode="tasks", durability="sync"):
                if "result" in chunk and chunk["name"] == "work":
                    shown[int(chunk["result"]["log"][0]) + 1].set()
            return proxy.round_trips

    assert asyncio.run(body()) == BEFORE + width + 1
