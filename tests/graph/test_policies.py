"""Retries, caches, timeouts, error handlers, defaults, limits and drains."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from clew.cache.memory import InMemoryCache
from clew.cache.sqlite import SqliteCache
from clew.errors import (
    GraphDrained,
    GraphError,
    GraphRecursionError,
    NodeCancelledError,
    NodeError,
    NodeTimeoutError,
    StepTimeoutError,
)
from clew.graph import START, StateGraph
from clew.runtime import RunControl, Runtime
from clew.types import CachePolicy, Command, RetryPolicy, Send, TimeoutPolicy
from tests.both import Drive, on

AT_ONCE = RetryPolicy(initial_interval=0, jitter=False, retry_on=lambda error: True)


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


class Failing:
    """Fails the first `times` calls, then notes how often it was called."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.error = error or ConnectionError("lost")
        self.calls = 0

    def __call__(self, state: Any) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return {"log": [f"call {self.calls}"]}


def one(node: Any, saver: Any = None, *, cache: Any = None, **options: Any) -> Any:
    builder = StateGraph(Log).add_node("node", node, **options).add_edge(START, "node")
    return builder.compile(checkpointer=saver, cache=cache)


# -- retries ---------------------------------------------------------------------------------------------------------


def test_node_is_retried_until_it_works(drive: Drive, saver: Any) -> None:
    failing = Failing(2)

    assert drive.invoke(one(failing, saver, retry_policy=AT_ONCE), {"log": []}, on())["log"] == ["call 3"]


def test_attempts_are_limited(drive: Drive, saver: Any) -> None:
    failing = Failing(9)
    graph = one(failing, saver, retry_policy=AT_ONCE._replace(max_attempts=2))

    with pytest.raises(ConnectionError, match="lost"):
        drive.invoke(graph, {"log": []}, on())

    assert failing.calls == 2
    assert drive.get_state(graph, on()).next == ("node",)
    assert drive.get_state(graph, on()).tasks[0].error == "ConnectionError('lost')"


@pytest.mark.parametrize(
    ("retry_on", "calls"),
    [(KeyError, 1), (ConnectionError, 2), ((KeyError, ConnectionError), 2), (lambda error: "lost" in str(error), 2)],
)
def test_errors_to_retry_are_chosen(drive: Drive, retry_on: Any, calls: int) -> None:
    failing = Failing(9)
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=2, retry_on=retry_on)

    with pytest.raises(ConnectionError):
        drive.invoke(one(failing, retry_policy=policy), {"log": []})

    assert failing.calls == calls


@pytest.mark.parametrize(("error", "calls"), [(ConnectionError("x"), 2), (ValueError("x"), 1), (Exception("x"), 2)])
def test_default_retries_what_looks_passing(drive: Drive, error: Exception, calls: int) -> None:
    failing = Failing(9, error)
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=2)

    with pytest.raises(type(error)):
        drive.invoke(one(failing, retry_policy=policy), {"log": []})

    assert failing.calls == calls


def test_first_matching_policy_of_several_counts(drive: Drive) -> None:
    failing = Failing(9)
    policies = [AT_ONCE._replace(retry_on=KeyError, max_attempts=9), AT_ONCE._replace(max_attempts=3)]

    with pytest.raises(ConnectionError):
        drive.invoke(one(failing, retry_policy=policies), {"log": []})

    assert failing.calls == 3


def test_retry_drops_what_the_failed_attempt_wrote(drive: Drive) -> None:
    attempts: list[int] = []

    def node(state: Log, runtime: Runtime) -> Any:
        attempts.append(runtime.execution_info.node_attempt)
        if len(attempts) == 1:
            raise ConnectionError("lost")
        return {"log": ["second"]}

    assert drive.invoke(one(node, retry_policy=AT_ONCE), {"log": []})["log"] == ["second"]
    assert attempts == [1, 2]


def test_finished_sibling_of_a_failed_node_is_not_repeated(drive: Drive, saver: Any) -> None:
    ran: list[str] = []
    is_done = threading.Event()

    def good(state: Log) -> Any:
        ran.append("good")
        is_done.set()
        return {"log": ["good"]}

    def bad(state: Log) -> Any:
        is_done.wait(20)
        ran.append("bad")
        if ran.count("bad") == 1:
            raise RuntimeError("once")
        return {"log": ["bad"]}

    builder = StateGraph(Log).add_node(good).add_node(bad).add_edge(START, "good").add_edge(START, "bad")
    graph = builder.compile(checkpointer=saver)
    with pytest.raises(RuntimeError, match="once"):
        drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, None, on())

    assert state["log"] in (["bad", "good"], ["good", "bad"])
    assert ran == ["good", "bad", "bad"]


# -- caches ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return InMemoryCache() if request.param == "memory" else SqliteCache(path=str(tmp_path / "cache.db"))


def test_cached_node_does_not_run_again_for_the_same_input(drive: Drive, cache: Any) -> None:
    node = Failing(0)
    graph = one(node, cache=cache, cache_policy=CachePolicy())

    outputs = [drive.invoke(graph, {"log": [word]})["log"][-1] for word in ("a", "a", "b")]

    assert outputs == ["call 1", "call 1", "call 2"]


def test_stream_says_that_an_update_came_from_the_cache(drive: Drive, cache: Any) -> None:
    graph = one(Failing(0), cache=cache, cache_policy=CachePolicy())
    drive.invoke(graph, {"log": []})

    chunks = list(drive.stream(graph, {"log": []}, stream_mode="updates"))

    assert chunks == [{"node": {"log": ["call 1"]}, "__metadata__": {"cached": True}}]


def test_key_function_decides_what_is_the_same(drive: Drive, cache: Any) -> None:
    node = Failing(0)
    graph = one(node, cache=cache, cache_policy=CachePolicy(key_func=lambda state: str(len(state["log"]))))

    for word in ("a", "b"):
        drive.invoke(graph, {"log": [word]})

    assert node.calls == 1


def test_clearing_the_cache_runs_the_node_again(drive: Drive, cache: Any) -> None:
    node = Failing(0)
    graph = one(node, cache=cache, cache_policy=CachePolicy())
    drive.invoke(graph, {"log": []})
    drive.clear_cache(graph, ["node"])
    drive.invoke(graph, {"log": []})

    assert node.calls == 2


def test_failures_are_not_cached(drive: Drive, cache: Any) -> None:
    node = Failing(1)
    graph = one(node, cache=cache, cache_policy=CachePolicy())
    with pytest.raises(ConnectionError):
        drive.invoke(graph, {"log": []})

    assert drive.invoke(graph, {"log": []})["log"] == ["call 2"]


def test_sent_tasks_are_cached_each_by_its_input(drive: Drive, cache: Any) -> None:
    seen: list[str] = []

    def node(state: Any) -> Any:
        seen.append(state["item"])
        return {"log": [state["item"]]}

    builder = StateGraph(Log).add_node("node", node, cache_policy=CachePolicy())
    builder.add_conditional_edges(START, lambda state: [Send("node", {"item": item}) for item in "xyx"], ["node"])
    graph = builder.compile(cache=cache)
    for _ in range(2):
        assert drive.invoke(graph, {"log": []})["log"] == ["x", "y", "x"]

    assert sorted(seen) == ["x", "x", "y"]  # the first run starts both, the second none


# -- timeouts --------------------------------------------------------------------------------------------------------


async def never(state: Any) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("timeout", [0.02, timedelta(milliseconds=20), TimeoutPolicy(run_timeout=0.02)])
def test_node_that_runs_too_long_fails(saver: Any, timeout: Any) -> None:
    graph = one(never, saver, timeout=timeout)

    with pytest.raises(NodeTimeoutError, match=r"node 'node' exceeded its run timeout of 0\.020s") as caught:
        asyncio.run(graph.ainvoke({"log": []}, on()))

    assert (caught.value.kind, caught.value.timeout, caught.value.node) == ("run", 0.02, "node")


def test_silent_node_is_idle(saver: Any) -> None:
    with pytest.raises(NodeTimeoutError, match="exceeded its idle timeout") as caught:
        asyncio.run(one(never, saver, timeout=TimeoutPolicy(idle_timeout=0.02)).ainvoke({"log": []}, on()))

    assert caught.value.kind == "idle"


def test_heartbeats_keep_a_node_from_being_idle() -> None:
    async def node(state: Log, runtime: Runtime) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.3
        while loop.time() < end:
            runtime.heartbeat()
            await asyncio.sleep(0.005)
        return {"log": ["alive"]}

    policy = TimeoutPolicy(idle_timeout=0.15, refresh_on="heartbeat")

    assert asyncio.run(one(node, timeout=policy).ainvoke({"log": []}))["log"] == ["alive"]


def test_timeout_is_retried_without_the_writes_of_the_lost_attempt() -> None:
    attempts: list[int] = []

    async def node(state: Log) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            await never(state)
        return {"log": ["in time"]}

    graph = one(node, timeout=0.05, retry_policy=RetryPolicy(initial_interval=0, jitter=False))

    assert asyncio.run(graph.ainvoke({"log": []}))["log"] == ["in time"]


def test_timeout_of_a_sync_node_is_refused_when_building() -> None:
    with pytest.raises(GraphError, match="'node' is sync and cannot have a timeout") as caught:
        one(lambda state: None, timeout=1)

    assert "async" in str(caught.value.hint)


def test_send_may_have_a_timeout_of_its_own() -> None:
    builder = StateGraph(Log).add_node("never", never)
    builder.add_conditional_edges(START, lambda state: [Send("never", {}, timeout=0.02)], ["never"])

    with pytest.raises(NodeTimeoutError):
        asyncio.run(builder.compile().ainvoke({"log": []}))


def test_step_timeout_stops_the_superstep(saver: Any) -> None:
    is_stopped: list[bool] = []

    async def slow(state: Log) -> Any:
        try:
            await never(state)
        finally:
            is_stopped.append(True)

    graph = one(slow, saver)
    graph = graph.copy({"program": _with_step_timeout(graph.program, 0.02)})

    with pytest.raises(StepTimeoutError, match=r"superstep 1 took longer than the step timeout of 0\.02s"):
        asyncio.run(graph.ainvoke({"log": []}, on()))

    assert is_stopped == [True]


def _with_step_timeout(program: Any, seconds: float) -> Any:
    return dataclasses.replace(program, step_timeout=seconds)


def test_node_that_cancels_itself_is_an_error() -> None:
    async def node(state: Log) -> Any:
        raise asyncio.CancelledError

    with pytest.raises(NodeCancelledError, match=r"node 'node' raised asyncio\.CancelledError"):
        asyncio.run(one(node).ainvoke({"log": []}))


# -- error handlers --------------------------------------------------------------------------------------------------


def handled(state: Log, error: NodeError) -> Any:
    return {"log": [f"{error.node}: {error.error}"]}


def test_handler_runs_once_retries_are_used_up(drive: Drive, saver: Any) -> None:
    failing = Failing(9)
    graph = one(failing, saver, retry_policy=AT_ONCE._replace(max_attempts=2), error_handler=handled)

    assert drive.invoke(graph, {"log": []}, on())["log"] == ["node: lost"]
    assert failing.calls == 2


def test_handler_may_go_elsewhere(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("node", Failing(9), error_handler=lambda state: Command(goto="rescue"))
    builder.add_node("rescue", lambda state: {"log": ["rescued"]}).add_edge(START, "node")

    assert drive.invoke(builder.compile(checkpointer=saver), {"log": []}, on())["log"] == ["rescued"]


def test_edges_of_the_failed_node_are_not_followed(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("node", Failing(9), error_handler=handled)
    builder.add_node("next", lambda state: {"log": ["next"]}).add_edge(START, "node").add_edge("node", "next")

    log = drive.invoke(builder.compile(checkpointer=saver), {"log": []}, on())["log"]

    assert log[0] == "node: lost"


def test_failing_handler_fails_the_run(drive: Drive, saver: Any) -> None:
    def handler(state: Log, error: NodeError) -> Any:
        raise KeyError("worse") from error.error

    graph = one(Failing(9), saver, error_handler=handler)

    with pytest.raises(KeyError, match="worse"):
        drive.invoke(graph, {"log": []}, on())

    assert drive.get_state(graph, on()).next == ("node",)


def test_after_a_failed_handler_only_the_handler_runs_again(drive: Drive, saver: Any) -> None:
    failing = Failing(9)
    tries: list[str] = []

    def handler(state: Log, error: NodeError) -> Any:
        tries.append(str(error.error))
        if len(tries) == 1:
            raise KeyError("worse")
        return {"log": ["handled"]}

    graph = one(failing, saver, error_handler=handler)
    with pytest.raises(KeyError):
        drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, None, on())["log"] == ["handled"]
    assert failing.calls == 1
    assert len(tries) == 2


def test_after_a_crash_between_failure_and_handler_only_the_handler_runs(drive: Drive, saver: Any) -> None:
    class PowerCut(BaseException):
        pass

    failing = Failing(9)
    cuts = [True]

    def handler(state: Log, error: NodeError) -> Any:
        if cuts.pop():
            cuts.append(False)
            raise PowerCut
        return {"log": [f"handled {error.node}: {error.error}"]}

    graph = one(failing, saver, error_handler=handler)
    with pytest.raises(PowerCut):
        drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, None, on())["log"] == ["handled node: lost"]
    assert failing.calls == 1


def test_finished_handler_does_not_run_again_when_its_sibling_failed(drive: Drive, saver: Any) -> None:
    handled_times: list[int] = []
    is_handled = threading.Event()

    def handler(state: Log, error: NodeError) -> Any:
        handled_times.append(1)
        is_handled.set()
        return {"log": ["handled"]}

    sibling_calls: list[int] = []

    def sibling(state: Log) -> Any:
        is_handled.wait(20)
        sibling_calls.append(1)
        if len(sibling_calls) == 1:
            raise RuntimeError("power cut")
        return {"log": ["sibling"]}

    failing = Failing(9)
    builder = StateGraph(Log).add_node("node", failing, error_handler=handler).add_node(sibling)
    graph = builder.add_edge(START, "node").add_edge(START, "sibling").compile(checkpointer=saver)
    with pytest.raises(RuntimeError, match="power cut"):
        drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, None, on())

    assert sorted(state["log"]) == ["handled", "sibling"]
    assert (failing.calls, len(handled_times)) == (1, 1)


def test_defaults_hold_for_nodes_without_policies_of_their_own(drive: Drive) -> None:
    first, second = Failing(2), Failing(9)
    builder = StateGraph(Log).set_node_defaults(retry_policy=AT_ONCE, error_handler=handled)
    builder.add_node("first", first).add_node("second", second, retry_policy=AT_ONCE._replace(max_attempts=1))
    graph = builder.add_edge(START, "first").add_edge("first", "second").compile()

    assert drive.invoke(graph, {"log": []})["log"] == ["call 3", "second: lost"]
    assert (first.calls, second.calls) == (3, 1)


# -- limits and drains -----------------------------------------------------------------------------------------------


def looping(saver: Any = None) -> Any:
    builder = StateGraph(Log).add_node("node", lambda state: {"log": ["x"]}).add_edge(START, "node")
    return builder.add_edge("node", "node").compile(checkpointer=saver)


def test_cycle_past_the_limit_stops_and_is_saved(drive: Drive, saver: Any) -> None:
    graph = looping(saver)

    with pytest.raises(GraphRecursionError, match=r"recursion limit of 5 reached .* on thread 't'") as caught:
        drive.invoke(graph, {"log": []}, {**on(), "recursion_limit": 5})

    assert "recursion_limit" in str(caught.value.hint)
    saved = drive.get_state(graph, on())
    assert (saved.values["log"], saved.next) == (["x"] * 5, ("node",))
    with pytest.raises(GraphRecursionError):
        drive.invoke(graph, None, {**on(), "recursion_limit": 3})
    assert len(drive.get_state(graph, on()).values["log"]) > 5


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_has_to_be_positive(drive: Drive, limit: int) -> None:
    with pytest.raises(ValueError, match="recursion_limit"):
        drive.invoke(looping(), {"log": []}, {"recursion_limit": limit})


def test_drain_stops_at_the_next_superstep_and_the_thread_goes_on(drive: Drive, saver: Any) -> None:
    control = RunControl()

    def first(state: Log) -> Any:
        control.request_drain("deploy")
        return {"log": ["first"]}

    builder = StateGraph(Log).add_sequence([first, ("second", lambda state: {"log": ["second"]})])
    graph = builder.add_edge(START, "first").compile(checkpointer=saver)
    with pytest.raises(GraphDrained, match="graph drained: deploy") as caught:
        drive.invoke(graph, {"log": []}, on(), control=control)

    assert caught.value.reason == "deploy"
    assert drive.get_state(graph, on()).next == ("second",)
    assert drive.invoke(graph, None, on())["log"] == ["first", "second"]


def test_drain_reaches_into_subgraphs(drive: Drive, saver: Any) -> None:
    control = RunControl()

    def first(state: Log, runtime: Runtime) -> Any:
        assert runtime.control is control
        control.request_drain()
        return {"log": ["first"]}

    inner = StateGraph(Log).add_sequence([first, ("second", lambda state: {"log": ["second"]})])
    graph = one(inner.add_edge(START, "first").compile(), saver)
    with pytest.raises(GraphDrained):
        drive.invoke(graph, {"log": []}, on(), control=control)

    assert drive.invoke(graph, None, on())["log"] == ["first", "second"]
