"""Retries, caches, error handlers, timeouts and limits."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.observe import attempt
from tests.differential.program import program
from tests.differential.programs_basics import Log, chain, say


def quick_retry(lib: Any, **options: Any) -> Any:
    return lib.RetryPolicy(initial_interval=0, jitter=False, **options)


@program
def retries_until_it_works(lib: Any) -> Any:
    tries: list[int] = []

    def flaky(state: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("again")
        return {"log": [f"try {len(tries)}"]}

    builder = lib.StateGraph(Log).add_node("flaky", flaky, retry_policy=quick_retry(lib, max_attempts=3))
    return builder.add_edge(lib.START, "flaky").compile().invoke({})


@program
def retries_give_up(lib: Any) -> Any:
    tries: list[int] = []

    def fail(state: Any) -> Any:
        tries.append(1)
        raise ConnectionError("never")

    builder = lib.StateGraph(Log).add_node("fail", fail, retry_policy=quick_retry(lib, max_attempts=2))
    graph = builder.add_edge(lib.START, "fail").compile()
    return [type(attempt(lambda: graph.invoke({}))).__name__, len(tries)]


@program
def retries_choose_by_the_first_policy_that_matches(lib: Any) -> Any:
    tries: list[str] = []

    def fail(state: Any) -> Any:
        tries.append("try")
        raise (KeyError if len(tries) < 3 else ArithmeticError)("no")

    policies = [
        quick_retry(lib, max_attempts=5, retry_on=KeyError),
        quick_retry(lib, max_attempts=1, retry_on=ValueError),
    ]
    builder = lib.StateGraph(Log).add_node("fail", fail, retry_policy=policies)
    graph = builder.add_edge(lib.START, "fail").compile()
    return [attempt(lambda: graph.invoke({})), len(tries)]


@program
def value_errors_are_not_retried_by_default(lib: Any) -> Any:
    tries: list[int] = []

    def fail(state: Any) -> Any:
        tries.append(1)
        raise ValueError("bug")

    builder = lib.StateGraph(Log).add_node("fail", fail, retry_policy=quick_retry(lib, max_attempts=3))
    graph = builder.add_edge(lib.START, "fail").compile()
    return [attempt(lambda: graph.invoke({})), len(tries)]


@program
def cached_node_is_not_run_again(lib: Any) -> Any:
    ran: list[Any] = []

    def slow(state: Any) -> Any:
        ran.append(state["count"])
        return {"log": [f"slow {state['count']}"]}

    builder = lib.StateGraph(Log).add_node("slow", slow, cache_policy=lib.CachePolicy()).add_edge(lib.START, "slow")
    graph = builder.compile(cache=lib.InMemoryCache())
    outputs = [graph.invoke({"count": count}) for count in (1, 1, 2)]
    streamed = list(graph.stream({"count": 1}, stream_mode="updates"))
    graph.clear_cache(["slow"])
    graph.invoke({"count": 1})
    return [outputs, streamed, ran]


@program
def cache_key_may_be_chosen(lib: Any) -> Any:
    ran: list[Any] = []

    def slow(state: Any) -> Any:
        ran.append(state["count"])
        return {"log": ["slow"]}

    policy = lib.CachePolicy(key_func=lambda state: str(state["count"] % 2))
    builder = lib.StateGraph(Log).add_node("slow", slow, cache_policy=policy).add_edge(lib.START, "slow")
    graph = builder.compile(cache=lib.InMemoryCache())
    for count in (1, 3, 2, 4):
        graph.invoke({"count": count})
    return ran


@program
def error_handler_gives_an_update_or_a_command(lib: Any) -> Any:
    outputs = []
    for handler in (
        lambda state, error: {"log": [f"handled {error.node} {type(error.error).__name__}"]},
        lambda state, error: lib.Command(update={"log": ["handled"]}, goto="other"),
    ):

        def handle(state: Any, error: Any, handler: Any = handler) -> Any:
            return handler(state, error)

        handle.__annotations__["error"] = lib.NodeError

        def fail(state: Any) -> Any:
            raise ArithmeticError("no")

        builder = lib.StateGraph(Log).add_node("fail", fail, error_handler=handle)
        builder.add_node("next", say("next")).add_node("other", say("other"))
        graph = builder.add_edge(lib.START, "fail").add_edge("fail", "next").compile()
        outputs.append(attempt(lambda graph=graph: list(graph.stream({}, stream_mode=["updates", "values"]))))
    return outputs


@program
def error_handler_that_fails(lib: Any) -> Any:
    def fail(state: Any) -> Any:
        raise ArithmeticError("no")

    def handle(state: Any) -> Any:
        raise KeyError("worse")

    builder = lib.StateGraph(Log).add_node("fail", fail, error_handler=handle).add_edge(lib.START, "fail")
    graph = builder.compile()
    return attempt(lambda: graph.invoke({}))


@program
def node_timeout_under_asyncio(lib: Any) -> Any:
    async def slow(state: Any) -> Any:
        await asyncio.Event().wait()

    builder = lib.StateGraph(Log).add_node("slow", slow, timeout=0.01).add_edge(lib.START, "slow")
    graph = builder.compile()
    return attempt(lambda: asyncio.run(graph.ainvoke({})))


@program
def timeout_of_a_sync_node_is_refused(lib: Any) -> Any:
    builder = lib.StateGraph(Log)

    def build() -> Any:
        builder.add_node("slow", say("x"), timeout=1).add_edge(lib.START, "slow")
        return builder.compile()

    return attempt(build)


@program
def recursion_limit(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("a", say("a")).add_edge(lib.START, "a").add_edge("a", "a")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    failed = attempt(lambda: graph.invoke({}, {**lib.config(), "recursion_limit": 3}))
    state = graph.get_state(lib.config())
    return [failed, state.values, state.next, state.metadata["step"]]


@program
def recursion_limit_just_reached(lib: Any) -> Any:
    graph = chain(lib, "a", "b", "c")
    return [attempt(lambda n=n: graph.invoke({}, {"recursion_limit": n})) for n in (2, 3, 4)]


@program
def recursion_limit_below_one(lib: Any) -> Any:
    graph = chain(lib, "a")
    return attempt(lambda: graph.invoke({}, {"recursion_limit": 0}))
