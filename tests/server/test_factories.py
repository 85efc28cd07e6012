"""Factories of graphs: what they take, what they are told, and what graphs know of who asks."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langgraph_sdk.runtime import ServerRuntime

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import create_app
from clew.server.factories import ExecutionRuntime, Factory, Purpose, server_runtime
from clew.server.users import USER, User, configurable, user_of, with_user
from clew.store.memory import InMemoryStore
from tests.server.kit import Chat, InProcess, agent, keyed


def called(function: Any, access: Any = "threads.read", user: Any = None, context: Any = None) -> Any:
    """What a factory gives."""
    purpose = Purpose(access, user, context)
    return asyncio.run(Factory("made", function).call({"configurable": {"x": 1}}, purpose, "the store"))


def nothing() -> Any:
    return "nothing"


def a_config(config: Any) -> Any:
    return ("config", config)


def a_runtime(runtime: Any) -> Any:
    return ("runtime", runtime.access_context)


def annotated(told: ServerRuntime[Any]) -> Any:
    return ("runtime", told.access_context)


def in_words(told: "ServerRuntime[Any]", said: "RunnableConfig") -> Any:  # type: ignore[name-defined]  # noqa: F821, UP037
    return ("both", told.access_context, said["configurable"])


def in_order(first: Any, second: Any) -> Any:
    return ("both", second.access_context, first["configurable"])


def by_keyword(*rest: Any, runtime: Any, other: int = 7, **more: Any) -> Any:
    return ("runtime", runtime.access_context, other, rest, more)


async def in_time(config: Any) -> Any:
    return ("config", config)


class Made:
    def __call__(self, runtime: Any) -> Any:
        return ("runtime", runtime.access_context)


def test_a_factory_takes_what_it_names() -> None:
    config = ("config", {"configurable": {"x": 1}})
    assert called(nothing) == "nothing"
    assert called(a_config) == called(in_time) == called(lambda given: ("config", given)) == config
    assert called(a_runtime) == called(annotated) == called(Made()) == ("runtime", "threads.read")
    assert called(in_words) == called(in_order) == ("both", "threads.read", {"x": 1})
    assert called(by_keyword) == ("runtime", "threads.read", 7, (), {})


def test_a_factory_takes_nothing_else() -> None:
    with pytest.raises(TypeError, match="the factory of graph 'made' takes 'c', beside a config and a runtime"):
        Factory("made", lambda a, b, c: None)
    with pytest.raises(TypeError, match="the factory of graph 'made' takes two configs, or two runtimes"):
        Factory("made", _two)


def _two(runtime: Any, told: ServerRuntime[Any]) -> None: ...


@pytest.mark.parametrize("is_installed", [True, False])
def test_a_runtime_says_what_a_graph_is_for(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    if not is_installed:
        monkeypatch.setitem(sys.modules, "langgraph_sdk", None)
    user = user_of("ada")

    runs = server_runtime(Purpose("threads.create_run", user, {"mood": "calm"}), "the store")
    reads = server_runtime(Purpose("threads.read"), None)

    assert (runs.access_context, runs.user, runs.store) == ("threads.create_run", user, "the store")
    assert (runs.execution_runtime, runs.execution_runtime.context) == (runs, {"mood": "calm"})
    assert runs.ensure_user().identity == "ada"
    assert (reads.access_context, reads.user, reads.execution_runtime) == ("threads.read", None, None)
    with pytest.raises(PermissionError):
        reads.ensure_user()
    assert isinstance(runs, ExecutionRuntime) is not is_installed


def test_requests_say_what_they_open_a_graph_for() -> None:
    told: list[Any] = []

    @contextlib.asynccontextmanager
    async def made(runtime: ServerRuntime[Any]) -> AsyncGenerator[Any]:
        told.append((runtime.access_context, runtime.ensure_user().team))
        graph = StateGraph(Chat)
        graph.add_node("reply", lambda chat: {})
        graph.add_edge(START, "reply")
        yield graph
        told.append("closed")

    with asyncio.Runner() as runner, SqliteSaver.from_conn_string(":memory:") as saver:
        app = create_app({"made": made}, saver, store=InMemoryStore(), auth=keyed())
        api = InProcess(app, runner, "ada")
        id = api.threads.create()["thread_id"]
        told.clear()
        api.threads.get_state(id)
        api.threads.update_state(id, {"mood": "calm"}, as_node="reply")
        api.request("GET", "/assistants/made/schemas")

    assert told == [
        ("threads.read", "a"), "closed", ("threads.update", "a"), "closed", ("assistants.read", "a"), "closed",
    ]  # fmt: skip


def test_a_run_knows_its_user() -> None:
    user = user_of({"identity": "ada", "permissions": ("read",), "born": 1815, "tags": {"x"}})

    stored = configurable(user)
    seen = with_user({**stored, "thread_id": "t"})

    assert stored == {
        USER: {
            "identity": "ada", "display_name": "ada", "is_authenticated": True, "permissions": ["read"], "born": 1815,
            "tags": ["x"],
        },
        "langgraph_auth_user_id": "ada",
        "langgraph_auth_permissions": ["read"],
    }  # fmt: skip
    assert (seen[USER].identity, seen[USER]["born"], seen[USER].get("none"), seen["thread_id"]) == (
        "ada",
        1815,
        None,
        "t",
    )
    assert isinstance(seen[USER], User)
    assert dict(seen[USER]) == stored[USER]
    assert (configurable(None), with_user({"thread_id": "t"})) == ({}, {"thread_id": "t"})


def test_agents_are_graphs_and_no_factories() -> None:
    wrong = pytest.raises(TypeError, match="graph 'no' is a int, not a graph or a factory of graphs")
    with SqliteSaver.from_conn_string(":memory:") as saver, wrong:
        create_app({"no": 7, "yes": agent()}, saver)
