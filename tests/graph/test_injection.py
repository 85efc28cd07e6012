"""What a node may ask for by name: config, runtime, store, writer, context, managed values."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pydantic
import pytest

from clew.config import get_config, get_store, get_stream_writer
from clew.graph import START, StateGraph
from clew.managed import IsLastStep, RemainingSteps
from clew.runtime import Runtime, get_runtime
from clew.store.memory import InMemoryStore
from clew.types import Send, StreamWriter
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@dataclass
class Context:
    user: str
    limit: int = 3


class ContextModel(pydantic.BaseModel):
    user: str
    limit: int = 3


class ContextDict(TypedDict, total=False):
    user: str


def one(node: Any, **options: Any) -> Any:
    context = options.pop("context_schema", None)
    return StateGraph(Log, context).add_node("node", node).add_edge(START, "node").compile(**options)


def test_node_gets_what_its_parameters_name(drive: Drive, saver: Any) -> None:
    got: dict[str, Any] = {}
    store = InMemoryStore()

    def node(state: Log, config: Any, *, runtime: Runtime[Context], store: Any, writer: StreamWriter) -> Any:
        got.update(config=config, runtime=runtime, store=store, writer=writer)

    graph = one(drive.node(node), checkpointer=saver, store=store, context_schema=Context)
    drive.invoke(graph, {"log": []}, on("t", extra=1), context=Context("ada"))

    assert got["config"]["configurable"]["thread_id"] == "t"
    assert got["config"]["configurable"]["extra"] == 1
    assert got["store"] is store
    assert got["runtime"].store is store
    assert got["runtime"].context == Context("ada")
    assert callable(got["writer"])


def test_what_is_not_named_is_not_passed(drive: Drive) -> None:
    def node(state: Log, **others: Any) -> Any:
        return {"log": sorted(others)}

    assert drive.invoke(one(node), {"log": []})["log"] == []


@pytest.mark.parametrize("schema", [Context, ContextModel])
def test_context_may_be_given_as_a_dict(drive: Drive, schema: Any) -> None:
    got: list[Any] = []

    def node(state: Log, runtime: Runtime) -> None:
        got.append(runtime.context)

    drive.invoke(one(node, context_schema=schema), {"log": []}, context={"user": "ada"})

    assert got == [schema(user="ada", limit=3)]


def test_context_may_be_a_typed_dict(drive: Drive) -> None:
    got: list[Any] = []

    def node(state: Log, runtime: Runtime[ContextDict]) -> None:
        got.append(runtime.context)

    drive.invoke(one(node, context_schema=ContextDict), {"log": []}, context={"user": "ada"})

    assert got == [{"user": "ada"}]


def test_context_reaches_subgraphs_and_paths(drive: Drive) -> None:
    def inner_node(state: Log, runtime: Runtime[Context]) -> Any:
        return {"log": [f"inner {runtime.context.user}"]}

    inner = StateGraph(Log, Context).add_node("inner", inner_node).add_edge(START, "inner").compile()

    def path(state: Log, runtime: Runtime[Context]) -> str:
        return "sub" if runtime.context.user == "ada" else "other"

    builder = StateGraph(Log, Context).add_node("sub", inner).add_node("other", lambda state: {"log": ["other"]})
    graph = builder.add_conditional_edges(START, path, ["sub", "other"]).compile()

    assert drive.invoke(graph, {"log": []}, context=Context("ada"))["log"] == ["inner ada"]
    assert drive.invoke(graph, {"log": []}, context=Context("bob"))["log"] == ["other"]


def test_functions_give_what_parameters_give(drive: Drive, saver: Any) -> None:
    store = InMemoryStore()
    seen: list[bool] = []

    def node(state: Log, runtime: Runtime) -> Any:
        seen.extend(
            [
                get_config()["configurable"]["thread_id"] == "t",
                get_store() is store,
                get_runtime().execution_info == runtime.execution_info,
                callable(get_stream_writer()),
            ]
        )

    drive.invoke(one(drive.node(node), checkpointer=saver, store=store), {"log": []}, on())

    assert seen == [True] * 4


def test_functions_outside_of_a_run_say_so() -> None:
    with pytest.raises(RuntimeError, match="outside"):
        get_config()


def test_execution_info_says_where_a_node_runs(drive: Drive, saver: Any) -> None:
    got: list[Any] = []

    def node(state: Log, runtime: Runtime) -> None:
        got.append(runtime.execution_info)

    graph = one(node, checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())
    info = got[0]

    assert info.thread_id == "t"
    assert info.node_attempt == 1
    assert info.task_id
    assert info.checkpoint_ns.startswith("node:")
    assert info.checkpoint_id in [
        snapshot.config["configurable"]["checkpoint_id"] for snapshot in drive.get_state_history(graph, on())
    ]


def test_store_is_shared_by_threads(drive: Drive, saver: Any) -> None:
    def node(state: Log, runtime: Runtime) -> Any:
        seen = [item.key for item in runtime.store.search(("notes",))]
        runtime.store.put(("notes",), f"n{len(seen)}", {"text": "x"})
        return {"log": sorted(seen)}

    graph = one(node, checkpointer=saver, store=InMemoryStore())
    drive.invoke(graph, {"log": []}, on("a"))

    assert drive.invoke(graph, {"log": []}, on("b"))["log"] == ["n0"]


def test_managed_values_tell_how_many_steps_remain(drive: Drive) -> None:
    class State(TypedDict):
        log: Annotated[list[str], operator.add]
        remaining: RemainingSteps
        is_last: IsLastStep

    def node(state: State) -> Any:
        return {"log": [f"{state['remaining']} {state['is_last']}"]}

    builder = StateGraph(State).add_node("a", node).add_node("b", node).add_edge(START, "a").add_edge("a", "b")
    graph = builder.compile()

    assert drive.invoke(graph, {"log": []}, {"recursion_limit": 3}) == {"log": ["2 False", "1 True"]}


def test_managed_values_reach_paths_and_sent_tasks(drive: Drive) -> None:
    class State(TypedDict):
        log: Annotated[list[str], operator.add]
        remaining: RemainingSteps

    def path(state: State) -> Any:
        return [Send("node", {"log": [str(state["remaining"])]})]

    builder = StateGraph(State).add_node("node", lambda state: {"log": state["log"]})
    graph = builder.add_conditional_edges(START, path, ["node"]).compile()

    assert len(drive.invoke(graph, {"log": []}, {"recursion_limit": 9})["log"]) == 1


def test_config_of_the_compiled_graph_and_of_the_call_are_merged(drive: Drive) -> None:
    got: list[Any] = []

    def node(state: Log, config: Any) -> None:
        got.append(config)

    graph = one(node).with_config({"tags": ["a"], "metadata": {"m": 1}, "configurable": {"x": 1}})
    drive.invoke(graph, {"log": []}, {"tags": ["b"], "metadata": {"n": 2}, "configurable": {"y": 2}})

    assert set(got[0]["tags"]) >= {"a", "b"}
    assert got[0]["metadata"].items() >= {"m": 1, "n": 2}.items()
    assert got[0]["configurable"].items() >= {"x": 1, "y": 2}.items()


def test_scalars_of_the_config_are_kept_in_the_checkpoint_s_metadata(drive: Drive, saver: Any) -> None:
    graph = one(lambda state: {"log": ["x"]}, checkpointer=saver)
    config = {**on("t", user="ada", __secret="no"), "metadata": {"source_system": "crm", "complex": {"a": 1}}}
    drive.invoke(graph, {"log": []}, config)

    metadata = drive.get_state(graph, on()).metadata

    assert metadata["user"] == "ada"
    assert metadata["source_system"] == "crm"
    assert "complex" not in metadata
    assert "__secret" not in metadata
