"""Entrypoints and tasks: durable functions."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pydantic
import pytest

from clew.cache.memory import InMemoryCache
from clew.errors import GraphError, GraphInterrupt, NodeTimeoutError
from clew.func import entrypoint, task
from clew.graph import START, StateGraph
from clew.runtime import Runtime
from clew.store.memory import InMemoryStore
from clew.types import CachePolicy, Command, RetryPolicy, interrupt
from tests.both import Drive, on

SECONDS = 20
AT_ONCE = RetryPolicy(initial_interval=0, jitter=False, retry_on=lambda error: True)


class Ran:
    """Tasks that record each time they run."""

    def __init__(self) -> None:
        self.names: list[str] = []

        @task
        def work(name: str, fails: list[bool] | None = None) -> str:
            self.names.append(name)
            if fails and fails.pop():
                raise RuntimeError(f"{name} broke")
            return name.upper()

        self.work = work


# -- entrypoints -----------------------------------------------------------------------------------------------------


def test_entrypoint_gives_what_it_returns(drive: Drive, saver: Any) -> None:
    @entrypoint(checkpointer=saver)
    def workflow(given: dict[str, int]) -> Any:
        return {"doubled": given["n"] * 2}

    assert drive.invoke(workflow, {"n": 4}, on()) == {"doubled": 8}


def test_previous_is_what_the_last_run_gave(drive: Drive, saver: Any) -> None:
    @entrypoint(checkpointer=saver)
    def workflow(given: int, *, previous: Any = None) -> Any:
        return given + (previous or 0)

    assert [drive.invoke(workflow, n, on()) for n in (1, 2, 3)] == [1, 3, 6]
    assert drive.invoke(workflow, 5, on("other")) == 5


def test_what_is_kept_may_differ_from_what_is_given(drive: Drive, saver: Any) -> None:
    @entrypoint(checkpointer=saver)
    def workflow(given: int, *, previous: Any = None) -> Any:
        return entrypoint.final(value=previous, save=given * 2)

    assert [drive.invoke(workflow, n, on()) for n in (1, 2, 3)] == [None, 2, 4]


def test_entrypoint_without_a_checkpointer_runs(drive: Drive) -> None:
    ran = Ran()

    @entrypoint()
    def workflow(given: str) -> Any:
        return ran.work(given).result()

    assert drive.invoke(workflow, "a") == "A"


def test_entrypoint_is_given_what_it_names(drive: Drive, saver: Any) -> None:
    store = InMemoryStore()
    got: dict[str, Any] = {}

    @entrypoint(checkpointer=saver, store=store)
    def workflow(given: Any, *, config: Any, runtime: Runtime, store: Any, writer: Any) -> Any:
        writer("live")
        got.update(thread=config["configurable"]["thread_id"], store=store, info=runtime.execution_info.thread_id)

    assert list(drive.stream(workflow, "go", on(), stream_mode="custom")) == ["live"]
    assert got == {"thread": "t", "store": store, "info": "t"}


def test_stream_shows_tasks_and_the_workflow(drive: Drive, saver: Any) -> None:
    ran = Ran()

    @entrypoint(checkpointer=saver)
    def workflow(given: list[str]) -> Any:
        return [ran.work(name).result() for name in given]

    assert list(drive.stream(workflow, ["a", "b"], on(), stream_mode="updates")) == [
        {"work": "A"},
        {"work": "B"},
        {"workflow": ["A", "B"]},
    ]


def test_async_entrypoint_needs_the_async_driver(saver: Any) -> None:
    @entrypoint(checkpointer=saver)
    async def workflow(given: int) -> int:
        return given + 1

    assert asyncio.run(workflow.ainvoke(1, on())) == 2
    with pytest.raises(TypeError, match="async only; use ainvoke"):
        workflow.invoke(1, on("other"))


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_tasks_run_in_parallel(drive: Drive, saver: Any) -> None:
    both = threading.Barrier(2)

    @task
    def meet(name: str) -> str:
        both.wait(SECONDS)
        return name

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        futures = [meet("a"), meet("b")]
        return [future.result() for future in futures]

    assert drive.invoke(workflow, "go", on()) == ["a", "b"]


def test_async_tasks_are_awaited() -> None:
    async def main() -> Any:
        both = asyncio.Event()

        @task
        async def first() -> str:
            await both.wait()
            return "first"

        @task
        async def second() -> str:
            both.set()
            return "second"

        @entrypoint()
        async def workflow(given: Any) -> Any:
            return await asyncio.gather(first(), second())

        return await workflow.ainvoke("go")

    assert asyncio.run(main()) == ["first", "second"]


def test_finished_tasks_are_not_run_again_after_a_failure(drive: Drive, saver: Any) -> None:
    ran, fails = Ran(), [True]

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return [ran.work("a").result(), ran.work("b", fails).result(), ran.work("c").result()]

    with pytest.raises(RuntimeError, match="b broke"):
        drive.invoke(workflow, "go", on(), durability="sync")

    assert drive.invoke(workflow, None, on()) == ["A", "B", "C"]
    assert ran.names == ["a", "b", "b", "c"]


def test_finished_tasks_are_not_run_again_after_a_question(drive: Drive, saver: Any) -> None:
    ran = Ran()

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return [ran.work("a").result(), interrupt("go on?"), ran.work("b").result()]

    asked = drive.invoke(workflow, "go", on())
    assert [question.value for question in asked["__interrupt__"]] == ["go on?"]

    assert drive.invoke(workflow, Command(resume="yes"), on()) == ["A", "yes", "B"]
    assert ran.names == ["a", "b"]


def test_a_failed_task_may_be_caught(drive: Drive, saver: Any) -> None:
    ran = Ran()

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        try:
            return ran.work("a", [True]).result()
        except RuntimeError as error:
            return f"caught {error}"

    assert drive.invoke(workflow, "go", on()) == "caught a broke"


def test_task_is_retried(drive: Drive, saver: Any) -> None:
    calls: list[int] = []

    @task(retry_policy=AT_ONCE)
    def flaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("lost")
        return len(calls)

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return flaky().result()

    assert drive.invoke(workflow, "go", on()) == 3


def test_task_is_cached(drive: Drive) -> None:
    calls: list[int] = []
    cache = InMemoryCache()

    @task(cache_policy=CachePolicy())
    def slow(n: int) -> int:
        calls.append(n)
        return n * n

    @entrypoint(cache=cache)
    def workflow(given: int) -> Any:
        return slow(given).result() + slow(given).result()

    assert [drive.invoke(workflow, n) for n in (2, 2, 3)] == [8, 8, 18]
    assert calls == [2, 3]


def test_task_with_a_timeout() -> None:
    @task(timeout=0.02)
    async def never() -> None:
        await asyncio.Event().wait()

    @entrypoint()
    async def workflow(given: Any) -> Any:
        await never()

    with pytest.raises(NodeTimeoutError, match="'never'"):
        asyncio.run(workflow.ainvoke("go"))


def test_timeout_of_a_sync_task_is_refused() -> None:
    with pytest.raises(GraphError, match="task 'work' is sync and cannot have a timeout"):

        @task(timeout=1)
        def work() -> None: ...


def test_tasks_call_tasks(drive: Drive, saver: Any) -> None:
    ran = Ran()

    @task
    def outer(name: str) -> str:
        return f"({ran.work(name).result()})"

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        futures = [outer("a"), outer("b")]
        return [future.result() for future in futures]

    assert drive.invoke(workflow, "go", on()) == ["(A)", "(B)"]


def test_tasks_may_be_called_in_a_graph_s_node(drive: Drive, saver: Any) -> None:
    ran = Ran()

    class Log(TypedDict):
        log: Annotated[list[str], operator.add]

    def node(state: Log) -> Any:
        futures = [ran.work(name) for name in "ab"]
        return {"log": [future.result() for future in futures] + [interrupt("?")]}

    graph = StateGraph(Log).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, Command(resume="yes"), on())["log"] == ["A", "B", "yes"]
    assert sorted(ran.names) == ["a", "b"]


def test_task_outside_of_a_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="task 'work'"):
        Ran().work("a")


# -- questions in tasks ----------------------------------------------------------------------------------------------


def test_question_in_a_task(drive: Drive, saver: Any) -> None:
    @task
    def ask(question: str) -> str:
        return f"{question} {interrupt(question)}"

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return ask("name?").result()

    asked = drive.invoke(workflow, "go", on())["__interrupt__"]
    assert [question.value for question in asked] == ["name?"]
    assert drive.invoke(workflow, Command(resume="Ada"), on()) == "name? Ada"


def test_several_questions_in_one_task(drive: Drive, saver: Any) -> None:
    @task
    def ask() -> Any:
        return [interrupt("one?"), interrupt("two?"), interrupt("three?")]

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return ask().result()

    drive.invoke(workflow, "go", on())
    for answer in ("1", "2"):
        drive.invoke(workflow, Command(resume=answer), on())

    assert drive.invoke(workflow, Command(resume="3"), on()) == ["1", "2", "3"]


def test_questions_of_several_tasks_one_after_another(drive: Drive, saver: Any) -> None:
    @task
    def ask(question: str) -> str:
        return interrupt(question)

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return [ask(question).result() for question in ("one?", "two?")]

    first = drive.invoke(workflow, "go", on())["__interrupt__"]
    second = drive.invoke(workflow, Command(resume="1"), on())["__interrupt__"]

    assert [first[0].value, second[0].value] == ["one?", "two?"]
    assert drive.invoke(workflow, Command(resume="2"), on()) == ["1", "2"]


def test_except_exception_around_a_task_does_not_swallow_its_question(drive: Drive, saver: Any) -> None:
    @task
    def ask() -> str:
        return interrupt("?")

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        try:
            return ask().result()
        except Exception:
            return "swallowed"

    drive.invoke(workflow, "go", on())

    assert drive.invoke(workflow, Command(resume="heard"), on()) == "heard"


def test_invalid_answer_in_a_task_leaves_the_question(drive: Drive, saver: Any) -> None:
    class Person(pydantic.BaseModel):
        age: int

    @task
    def ask() -> int:
        return interrupt("who?", response_schema=Person).age

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return ask().result()

    asked = drive.invoke(workflow, "go", on())["__interrupt__"]
    with pytest.raises(pydantic.ValidationError):
        drive.invoke(workflow, Command(resume={"age": "old"}), on())

    assert list(drive.get_state(workflow, on()).interrupts) == asked
    assert drive.invoke(workflow, Command(resume={"age": 41}), on()) == 41


# -- subgraphs in tasks ----------------------------------------------------------------------------------------------


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@pytest.mark.parametrize(("mode", "second"), [(False, "0"), (None, "0"), (True, "1")])
def test_memory_of_a_subgraph_called_in_an_entrypoint(drive: Drive, saver: Any, mode: Any, second: str) -> None:
    inner = StateGraph(Log).add_node("note", lambda state: {"log": [str(len(state["log"]))]})
    graph = inner.add_edge(START, "note").compile(checkpointer=mode)

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return graph.invoke({"log": []})["log"][-1]

    assert [drive.invoke(workflow, "go", on()) for _ in range(2)] == ["0", second]


@pytest.mark.parametrize("mode", [None, True])
def test_question_of_a_subgraph_called_in_a_task(drive: Drive, saver: Any, mode: Any) -> None:
    inner = StateGraph(Log).add_node("ask", lambda state: {"log": [interrupt("deep?")]})
    graph = inner.add_edge(START, "ask").compile(checkpointer=mode)

    @task
    def call() -> str:
        return graph.invoke({"log": []})["log"][-1]

    @entrypoint(checkpointer=saver)
    def workflow(given: Any) -> Any:
        return call().result()

    asked = drive.invoke(workflow, "go", on())["__interrupt__"]
    assert [question.value for question in asked] == ["deep?"]
    assert drive.invoke(workflow, Command(resume="yes"), on()) == "yes"


def test_an_entrypoint_called_in_another(drive: Drive, saver: Any) -> None:
    @entrypoint()
    def inner(given: int) -> Any:
        return given * 2 + len(interrupt("more?"))

    @entrypoint(checkpointer=saver)
    def workflow(given: int) -> Any:
        return inner.invoke(given) + 1

    assert "__interrupt__" in drive.invoke(workflow, 3, on())
    assert drive.invoke(workflow, Command(resume="ab"), on()) == 9


def test_a_question_is_no_exception() -> None:
    assert not issubclass(GraphInterrupt, Exception)
