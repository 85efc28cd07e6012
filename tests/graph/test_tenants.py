"""Tenants: nothing of one is ever found by another, whichever call asks and however it names its tenant."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import langchain_core.runnables.config  # noqa: F401 - what it knows of the caller must not lead a run astray
import pytest

from clew.cache.memory import InMemoryCache
from clew.checkpoint.memory import InMemorySaver
from clew.config import get_config
from clew.errors import CheckpointNotFoundError, InvalidTenantError, UnknownInterruptError
from clew.graph import START, StateGraph
from clew.ids import checkpoint_id
from clew.types import CachePolicy, Command, interrupt
from tests.both import Drive, on


@pytest.fixture
def saver(own_saver: Any) -> Any:
    """These tests name their tenants themselves."""
    return own_saver


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def of(tenant: str | None, thread: str = "t", **configurable: Any) -> dict[str, Any]:
    """The config of a tenant's thread."""
    named = {} if tenant is None else {"checkpoint_tenant": tenant}
    return on(thread, **named, **configurable)


def logging(saver: Any, word: str = "ran") -> Any:
    builder = StateGraph(Log).add_node("node", lambda state: {"log": [word]})
    return builder.add_edge(START, "node").compile(checkpointer=saver)


def asking(saver: Any) -> Any:
    builder = StateGraph(Log).add_node("ask", lambda state: {"log": [interrupt("which?")]})
    return builder.add_edge(START, "ask").compile(checkpointer=saver)


def nested(saver: Any, *, inner: Any = None) -> Any:
    """A graph whose node is a graph that asks."""
    inside = StateGraph(Log).add_node("ask", lambda state: {"log": [interrupt("which?")]}).add_edge(START, "ask")
    builder = StateGraph(Log).add_node("sub", inside.compile(checkpointer=inner))
    return builder.add_edge(START, "sub").compile(checkpointer=saver)


def test_one_thread_id_is_one_thread_per_tenant(drive: Drive, saver: Any) -> None:
    graph = logging(saver)
    for tenant in (None, "acme", "acme-corp", "Acme"):
        drive.invoke(graph, {"log": [str(tenant)]}, of(tenant))

    for tenant in (None, "acme", "acme-corp", "Acme"):
        assert drive.get_state(graph, of(tenant)).values == {"log": [str(tenant), "ran"]}
        assert len(drive.get_state_history(graph, of(tenant))) == 3
    assert drive.get_state(graph, of("acme_corp")).created_at is None


def test_configs_that_a_tenant_gets_lead_back_to_its_thread(drive: Drive, saver: Any) -> None:
    graph = logging(saver)
    drive.invoke(graph, {"log": ["in"]}, of("acme"))

    snapshots = drive.get_state_history(graph, of("acme"))
    updated = drive.update_state(graph, snapshots[-1].config, {"log": ["late"]}, as_node="node")

    configs = [config for one in snapshots for config in (one.config, one.parent_config) if config is not None]
    assert {config["configurable"]["checkpoint_tenant"] for config in [*configs, updated]} == {"acme"}
    assert drive.get_state(graph, updated).values == {"log": ["late"]}
    assert drive.get_state(graph, of(None)).created_at is None


def test_configs_name_no_tenant_that_the_saver_knows(drive: Drive, saver: Any) -> None:
    for graph in (logging(saver), logging(saver.with_tenant("acme"))):
        drive.invoke(graph, {"log": ["in"]}, on())

        for snapshot in drive.get_state_history(graph, on()):
            assert "checkpoint_tenant" not in snapshot.config["configurable"]


def test_streamed_checkpoints_name_the_tenant(drive: Drive, saver: Any) -> None:
    chunks = list(drive.stream(nested(saver), {"log": []}, of("acme"), stream_mode="checkpoints", subgraphs=True))

    configs = [chunk["config"] for _, chunk in chunks] + [
        task["state"] for _, chunk in chunks for task in chunk["tasks"] if task["state"]
    ]
    assert len(configs) > 3
    assert {config["configurable"]["checkpoint_tenant"] for config in configs} == {"acme"}


def test_the_tenant_is_no_metadata(drive: Drive, saver: Any) -> None:
    graph = logging(saver)
    drive.invoke(graph, {"log": ["in"]}, of("acme", user="u1"))

    metadata = drive.get_state(graph, of("acme")).metadata

    assert metadata["user"] == "u1"
    assert "checkpoint_tenant" not in metadata


def test_a_checkpoint_of_another_tenant_does_not_exist(drive: Drive, saver: Any) -> None:
    graph = logging(saver)
    drive.invoke(graph, {"log": ["in"]}, of("acme"))
    drive.invoke(graph, {"log": ["in"]}, of("other"))
    stolen = drive.get_state(graph, of("acme")).config["configurable"]["checkpoint_id"]

    for tenant in (None, "other"):
        for call in (
            lambda where: drive.get_state(graph, where),
            lambda where: drive.invoke(graph, None, where),
            lambda where: drive.update_state(graph, where, {"log": ["x"]}),
        ):
            with pytest.raises(CheckpointNotFoundError, match="has no checkpoint"):
                call(of(tenant, checkpoint_id=stolen))
    assert drive.get_state(graph, of("acme")).values == {"log": ["in", "ran"]}


def test_a_question_of_another_tenant_cannot_be_answered(drive: Drive, saver: Any) -> None:
    graph = asking(saver)
    question = drive.invoke(graph, {"log": []}, of("acme"))["__interrupt__"][0]
    drive.invoke(graph, {"log": []}, of("other"))

    for tenant in (None, "other"):
        strict = of(tenant, __pregel_strict_resume=True)
        with pytest.raises(UnknownInterruptError):
            drive.invoke(graph, Command(resume={question.id: "stolen"}), strict)

    assert drive.invoke(graph, Command(resume={question.id: "mine"}), of("acme"))["log"] == ["mine"]


@pytest.mark.parametrize("inner", [None, True])
def test_subgraphs_keep_their_threads_with_the_tenant(drive: Drive, saver: Any, inner: Any) -> None:
    graph = nested(saver, inner=inner)
    drive.invoke(graph, {"log": ["in"]}, of("acme"))

    inside = drive.get_state(graph, of("acme"), subgraphs=True).tasks[0].state
    assert inside.config["configurable"]["checkpoint_tenant"] == "acme"
    assert inside.values == {"log": ["in"]}
    assert drive.get_state(graph, inside.config).next == ("ask",)
    assert [one.config["configurable"]["thread_id"] for one in saver.list(None)] == []

    outside = {**inside.config["configurable"]}
    del outside["checkpoint_tenant"], outside["checkpoint_id"], outside["checkpoint_map"]
    assert drive.get_state(graph, {"configurable": outside}).created_at is None
    assert drive.invoke(graph, Command(resume="yes"), of("acme"))["log"] == ["in", "in", "yes"]


def test_batches_take_each_config_s_own_tenant(drive: Drive, saver: Any) -> None:
    graph = logging(saver)
    tenants = [f"tenant {number}" for number in range(5)]

    drive.batch(graph, [{"log": [tenant]} for tenant in tenants], [of(tenant) for tenant in tenants])

    assert [drive.get_state(graph, of(tenant)).values["log"][0] for tenant in tenants] == tenants


def test_a_graph_that_a_node_runs_on_a_thread_of_its_own_stays_with_the_tenant(drive: Drive, saver: Any) -> None:
    other = logging(saver, "other")

    def node(state: Log) -> dict[str, Any]:
        other.invoke({"log": []}, on("own"))
        return {"log": [str(get_config()["configurable"]["checkpoint_tenant"])]}

    builder = StateGraph(Log).add_node("node", node).add_edge(START, "node")
    graph = builder.compile(checkpointer=saver)

    assert drive.invoke(graph, {"log": []}, of("acme"))["log"] == ["acme"]
    assert drive.get_state(other, of("acme", "own")).values == {"log": ["other"]}
    assert drive.get_state(other, of(None, "own")).created_at is None


def test_a_node_may_run_a_graph_for_another_tenant(drive: Drive, saver: Any) -> None:
    other = logging(saver, "other")

    def node(state: Log) -> dict[str, Any]:
        other.invoke({"log": []}, of("partner", "t"))
        return {"log": ["done"]}

    builder = StateGraph(Log).add_node("node", node).add_edge(START, "node")
    graph = builder.compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, of("acme", "t"))

    assert drive.get_state(other, of("partner")).values == {"log": ["other"]}
    assert drive.get_state(graph, of("acme")).values == {"log": ["done"]}


def test_a_saver_that_is_bound_to_a_tenant_serves_no_other(drive: Drive, saver: Any) -> None:
    graph = logging(saver.with_tenant("acme"))
    drive.invoke(graph, {"log": ["in"]}, on())

    assert drive.get_state(logging(saver), of("acme")).values == {"log": ["in", "ran"]}
    assert drive.get_state(graph, of("acme")).values == {"log": ["in", "ran"]}
    for tenant in ("other", ""):
        for call in (
            lambda where: drive.invoke(graph, {"log": []}, where),
            lambda where: drive.get_state(graph, where),
            lambda where: drive.get_state_history(graph, where),
            lambda where: drive.update_state(graph, where, {"log": []}),
        ):
            with pytest.raises(InvalidTenantError, match="the saver is bound to 'acme'") as caught:
                call(of(tenant))
            assert "with_tenant" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("tenant", "message"),
    [
        ("a\x00b", "tenant holds a NUL character"),
        ("\ud800", "holds a lone surrogate"),
        ("x" * 256, "tenant has 256 characters, over the limit of 255"),
        ("x" * 1_000_000, "over the limit of 255"),
        (7, "tenant is of type 'int', not text"),
        (["acme"], "tenant is of type 'list', not text"),
        (True, "tenant is of type 'bool', not text"),
    ],
)
def test_bad_tenant_is_refused_before_anything_runs(drive: Drive, saver: Any, tenant: Any, message: str) -> None:
    graph = logging(saver)
    for call in (
        lambda: drive.invoke(graph, {"log": []}, of(tenant)),
        lambda: list(drive.stream(graph, {"log": []}, of(tenant))),
        lambda: drive.get_state(graph, of(tenant)),
        lambda: drive.update_state(graph, of(tenant), {"log": []}),
        lambda: saver.get_tuple(of(tenant)),
        lambda: list(saver.list(of(tenant))),
        lambda: saver.with_tenant(tenant),
        lambda: InMemorySaver(tenant=tenant),
    ):
        with pytest.raises(InvalidTenantError, match=message):
            call()


def test_every_text_is_a_tenant_of_its_own(saver: Any) -> None:
    tenants = ["\u00e9", "e\u0301", "ACME", "acme", "a/b", "../a", "%", "_", " ", "\U0001f9f6", "'; drop table x --"]
    graph = logging(saver)
    for tenant in tenants:
        graph.invoke({"log": [tenant]}, of(tenant), durability="exit")

    for tenant in tenants:
        assert [one.checkpoint["channel_values"]["log"] for one in saver.list(of(tenant), limit=1)] == [[tenant, "ran"]]


def test_cached_results_are_a_tenant_s_own(drive: Drive, saver: Any) -> None:
    ran: list[str] = []

    def node(state: Log) -> dict[str, Any]:
        ran.append(get_config()["configurable"].get("checkpoint_tenant", ""))
        return {"log": ["ran"]}

    builder = StateGraph(Log).add_node("node", node, cache_policy=CachePolicy()).add_edge(START, "node")
    graph = builder.compile(checkpointer=saver, cache=InMemoryCache())
    for thread in ("one", "two"):
        for tenant in (None, "acme", "other"):
            drive.invoke(graph, {"log": ["in"]}, of(tenant, thread))
    bound = builder.compile(checkpointer=saver.with_tenant("acme"), cache=graph.cache)
    drive.invoke(bound, {"log": ["in"]}, on("three"))

    assert ran == ["", "acme", "other"]


# The saver's own methods


def threads_of(saver: Any) -> list[str]:
    return sorted({one.config["configurable"]["thread_id"] for one in saver.list(None)})


def test_maintenance_reaches_one_tenant_alone(saver: Any) -> None:
    graph = logging(saver)
    run = "00000000-0000-4000-8000-000000000001"
    for tenant in (None, "acme", "other"):
        for thread in ("one", "two", "three"):
            graph.invoke({"log": ["in"]}, {**of(tenant, thread), "run_id": run})
    acme = saver.with_tenant("acme")

    acme.delete_thread("one")
    acme.prune(["two"])
    acme.copy_thread("two", "four")
    assert threads_of(acme) == ["four", "three", "two"]
    acme.delete_for_runs([run])

    assert threads_of(acme) == []
    assert acme.verify().problems == []
    for tenant in ("", "other"):
        others = saver.with_tenant(tenant)
        assert threads_of(others) == ["one", "three", "two"]
        assert len(list(others.list(None))) == 9
        assert others.verify().problems == []


def test_the_face_by_id_reads_and_writes_the_tenant_it_is_told(saver: Any) -> None:
    graph = logging(saver)
    graph.invoke({"log": ["in"]}, of("acme"))
    newest = saver.get_tuple(of("acme"))
    assert newest is not None
    assert newest.config["configurable"]["checkpoint_tenant"] == "acme"
    assert newest.parent_config["configurable"]["checkpoint_tenant"] == "acme"

    saver.put_writes(newest.config, [("log", ["waits"])], "task")
    later = checkpoint_id(newest.checkpoint["id"])
    stored = saver.put(newest.config, {**newest.checkpoint, "id": later}, {}, {})

    assert stored["configurable"]["checkpoint_tenant"] == "acme"
    assert [channel for _, channel, _ in saver.get_tuple(newest.config).pending_writes] == ["log"]
    assert "checkpoint_tenant" not in saver.get_tuple(stored).metadata
    bound = saver.with_tenant("acme")
    assert bound.get_tuple(on()).checkpoint == saver.get_tuple(stored).checkpoint
    assert "checkpoint_tenant" not in bound.get_tuple(on()).config["configurable"]
    for config in (newest.config, stored):
        unnamed = {key: value for key, value in config["configurable"].items() if key != "checkpoint_tenant"}
        assert saver.get_tuple({"configurable": unnamed}) is None
        assert saver.get_tuple({"configurable": {**unnamed, "checkpoint_tenant": "other"}}) is None
    assert list(saver.list(None)) == []


def test_closing_a_clone_closes_nothing(saver: Any) -> None:
    clone = saver.with_tenant("acme")
    with clone.with_tenant("other"), saver.with_allowlist([("operator", "add")]):
        pass

    logging(clone).invoke({"log": []}, on())

    assert saver.with_tenant("acme").get_tuple(on()) is not None
