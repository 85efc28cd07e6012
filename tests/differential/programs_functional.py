"""`@entrypoint` and `@task`."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.observe import attempt
from tests.differential.program import program
from tests.differential.programs_state_api import short


@program
def entrypoint_calls_tasks(lib: Any) -> Any:
    @lib.task
    def double(number: int) -> int:
        return number * 2

    @lib.entrypoint()
    def work(numbers: list[int]) -> list[int]:
        return [future.result() for future in [double(number) for number in numbers]]

    return [work.invoke([1, 2, 3]), sorted(map(str, work.stream([1, 2], stream_mode="updates")))]


@program
def entrypoint_under_asyncio(lib: Any) -> Any:
    @lib.task
    async def double(number: int) -> int:
        return number * 2

    @lib.entrypoint()
    async def work(numbers: list[int]) -> list[int]:
        return list(await asyncio.gather(*(double(number) for number in numbers)))

    return asyncio.run(work.ainvoke([1, 2, 3]))


@program
def entrypoint_remembers_previous(lib: Any) -> Any:
    @lib.entrypoint(checkpointer=lib.InMemorySaver())
    def count(number: int, *, previous: int | None = None) -> int:
        return (previous or 0) + number

    return [count.invoke(1, lib.config()), count.invoke(2, lib.config()), short(count.get_state(lib.config()))]


@program
def entrypoint_final_saves_another_value(lib: Any) -> Any:
    @lib.entrypoint(checkpointer=lib.InMemorySaver())
    def count(number: int, *, previous: Any = None) -> Any:
        return lib.entrypoint.final(value=previous, save=number)

    return [count.invoke(number, lib.config()) for number in (1, 2, 3)]


@program
def entrypoint_resumes_without_repeating_tasks(lib: Any) -> Any:
    ran: list[str] = []

    @lib.task
    def slow(name: str) -> str:
        ran.append(name)
        return name.upper()

    @lib.entrypoint(checkpointer=lib.InMemorySaver())
    def work(name: str) -> list[Any]:
        first = slow(name).result()
        answer = lib.interrupt(f"{first}?")
        second = slow(answer).result()
        return [first, second, lib.interrupt("sure?")]

    config = lib.config()
    return [
        list(work.stream("ann", config)),
        short(work.get_state(config))["next"],
        list(work.stream(lib.Command(resume="bob"), config)),
        work.invoke(lib.Command(resume="yes"), config),
        ran,
    ]


@program
def entrypoint_failure_keeps_finished_tasks(lib: Any) -> Any:
    ran: list[str] = []

    @lib.task
    def good() -> str:
        ran.append("good")
        return "good"

    @lib.task
    def flaky() -> str:
        ran.append("flaky")
        if ran.count("flaky") == 1:
            raise ArithmeticError("no")
        return "flaky"

    @lib.entrypoint(checkpointer=lib.InMemorySaver())
    def work(start: str) -> list[str]:
        return [good().result(), flaky().result()]

    return [attempt(lambda: work.invoke("x", lib.config())), work.invoke(None, lib.config()), ran]


@program
def task_error_can_be_caught(lib: Any) -> Any:
    @lib.task
    def fail() -> None:
        raise ArithmeticError("no")

    @lib.entrypoint()
    def work(start: str) -> str:
        try:
            fail().result()
        except ArithmeticError as error:
            return f"caught {error}"
        return "not reached"

    return attempt(lambda: work.invoke("x"))


@program
def tasks_called_by_tasks(lib: Any) -> Any:
    @lib.task
    def inner(number: int) -> int:
        return number + 1

    @lib.task
    def outer(number: int) -> int:
        return inner(number).result() * 10

    @lib.entrypoint()
    def work(number: int) -> int:
        return outer(number).result()

    return work.invoke(1)


@program
def tasks_called_in_a_graphs_node(lib: Any) -> Any:
    @lib.task
    def double(number: int) -> int:
        return number * 2

    builder = lib.StateGraph(dict).add_node("a", lambda state: {"n": double(state["n"]).result()})
    graph = builder.add_edge(lib.START, "a").compile()
    return [graph.invoke({"n": 4}), list(graph.stream({"n": 4}, stream_mode="updates"))]


@program
def tasks_interrupted_in_parallel(lib: Any) -> Any:
    @lib.task
    def ask(name: str) -> str:
        return f"{name} {lib.interrupt(f'{name}?')}"

    @lib.entrypoint(checkpointer=lib.InMemorySaver())
    def work(names: list[str]) -> list[str]:
        return [future.result() for future in [ask(name) for name in names]]

    asked = work.invoke(["a", "b"], lib.config())["__interrupt__"]
    resumed = work.invoke(lib.Command(resume={one.id: "x" for one in asked}), lib.config())
    return [sorted(one.value for one in asked), resumed]


@program
def task_with_a_retry_policy(lib: Any) -> Any:
    tries: list[int] = []

    @lib.task(retry_policy=lib.RetryPolicy(initial_interval=0, jitter=False, max_attempts=3, retry_on=KeyError))
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise KeyError("again")
        return len(tries)

    @lib.entrypoint()
    def work(start: str) -> int:
        return flaky().result()

    return work.invoke("x")


@program
def task_with_a_cache(lib: Any) -> Any:
    ran: list[int] = []

    @lib.task(cache_policy=lib.CachePolicy())
    def slow(number: int) -> int:
        ran.append(number)
        return number + 1

    @lib.entrypoint(cache=lib.InMemoryCache())
    def work(number: int) -> int:
        return slow(number).result()

    return [work.invoke(1), work.invoke(1), work.invoke(2), ran]


@program
def entrypoint_gets_store_writer_and_config(lib: Any) -> Any:
    store = lib.InMemoryStore()

    def work(start, *, config, store, writer, previous=None):  # what is injected goes by name
        writer("note")
        store.put(("a",), "k", {"v": start})
        return [config["configurable"]["thread_id"], previous]

    work.__annotations__["writer"] = lib.StreamWriter
    graph = lib.entrypoint(store=store, checkpointer=lib.InMemorySaver())(work)
    parts = list(graph.stream("x", lib.config("t"), stream_mode=["custom", "updates", "values"]))
    return [parts, store.get(("a",), "k").value]
