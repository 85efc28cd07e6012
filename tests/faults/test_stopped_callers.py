"""A node that waits for a child task is answered whatever becomes of the run, so that no run hangs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.func import task
from clew.graph import START, StateGraph
from clew.types import interrupt
from tests.faults.parking import Background, failpoints
from tests.faults.stories import Log

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class FullDiskError(Exception):
    """What storage raises in these tests."""


class FailsAt:
    """Storage that fails at the `number`-th save of writes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.lock = threading.Lock()

    def hit(self, name: str) -> None:
        if name == "pending.before":
            with self.lock:
                self.count += 1
                if self.count == self.number:
                    raise FullDiskError("no space left")


def calling(*, is_async: bool, is_alone: bool) -> Any:
    """A graph with a node that calls three child tasks, and one beside it unless `is_alone`."""

    @task
    def child(n: int) -> int:
        return n

    def caller(state: Any) -> Any:
        first = child(1).result()
        others = [child(first + n) for n in range(2)]
        return {"log": [str([future.result() for future in others])]}

    async def acaller(state: Any) -> Any:
        first = await child(1)
        return {"log": [str(list(await asyncio.gather(child(first), child(first + 1))))]}

    graph = StateGraph(Log)
    graph.add_node("caller", acaller if is_async else caller)
    graph.add_edge(START, "caller")
    if not is_alone:
        graph.add_node("beside", lambda state: {"log": ["beside"]})
        graph.add_edge(START, "beside")
    return graph.compile(checkpointer=InMemorySaver())


def invoke(graph: Any, given: Any, *, is_async: bool) -> Any:
    if is_async:
        return asyncio.run(graph.ainvoke(given, CONFIG, durability="sync"))
    return graph.invoke(given, CONFIG, durability="sync")


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside another"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync driver", "asyncio"])
def test_a_failing_save_of_a_child_task_fails_the_run_and_nothing_hangs(is_async: bool, is_alone: bool) -> None:
    for number in range(1, 4):
        graph = calling(is_async=is_async, is_alone=is_alone)
        with failpoints(FailsAt(number).hit):
            run = Background(lambda graph=graph: invoke(graph, {"log": ["in"]}, is_async=is_async)).start().join()
        assert isinstance(run.error, FullDiskError), (number, run.error, run.result)

        ended = invoke(graph, None, is_async=is_async)

        assert ended["log"] == ["in", *([] if is_alone else ["beside"]), "[1, 2]"]


@pytest.mark.parametrize("kind", ["fails", "asks"])
def test_a_child_task_that_ends_badly_after_its_run_was_stopped_answers_its_caller(kind: str) -> None:
    gate, is_started = threading.Event(), threading.Event()

    @task
    def child() -> int:
        is_started.set()
        gate.wait(20)
        if kind == "asks":
            interrupt("?")
        raise ValueError("too late")

    def caller(state: Any) -> Any:
        return {"log": [str(child().result())]}

    def breaks(state: Any) -> Any:
        assert is_started.wait(20)
        raise RuntimeError("broken")

    graph = StateGraph(Log)
    graph.add_node("caller", caller)
    graph.add_node("breaks", breaks)
    graph.add_edge(START, "caller")
    graph.add_edge(START, "breaks")
    compiled = graph.compile(checkpointer=InMemorySaver())

    def open_gate(name: str) -> None:
        if name == "effect.cancel.after":
            gate.set()

    with failpoints(open_gate):
        run = Background(lambda: compiled.invoke({"log": []}, CONFIG)).start().join()

    assert str(run.error) == "broken"


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside another"])
def test_cancelling_a_run_whose_node_awaits_a_child_task(is_alone: bool) -> None:
    ended: list[str] = []

    async def main() -> None:
        is_started = asyncio.Event()

        @task
        async def child() -> int:
            is_started.set()
            try:
                await asyncio.sleep(20)
            finally:
                ended.append("child")
            return 1

        async def caller(state: Any) -> Any:
            try:
                return {"log": [str(await child())]}
            finally:
                ended.append("caller")

        graph = StateGraph(Log)
        graph.add_node("caller", caller)
        graph.add_edge(START, "caller")
        if not is_alone:
            graph.add_node("beside", lambda state: {"log": ["beside"]})
            graph.add_edge(START, "beside")
        run = asyncio.create_task(graph.compile(checkpointer=InMemorySaver()).ainvoke({"log": []}, CONFIG))
        await is_started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, 10)
        assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []

    asyncio.run(main())

    assert sorted(ended) == ["caller", "child"]
