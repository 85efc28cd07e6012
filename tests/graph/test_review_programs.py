"""Programs made by hand: channels, and nodes that subscribe to them and write to them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from clew.channels import BinaryOperatorAggregate, EphemeralValue, LastValue, Topic
from clew.checkpoint.memory import InMemorySaver
from clew.errors import GraphError
from clew.pregel import NodeBuilder, Pregel

THREAD: dict[str, Any] = {"configurable": {"thread_id": "1"}}


def twice(text: str) -> str:
    return text + text


def program(**parts: Any) -> Pregel:
    return Pregel(
        **{"nodes": {}, "channels": {"a": LastValue(int)}, "input_channels": "a", "output_channels": "a"} | parts
    )


def test_nodes_run_when_the_channel_they_subscribe_to_is_written() -> None:
    graph = program(
        nodes={
            "first": NodeBuilder().subscribe_only("a").do(twice).write_to("b", "c"),
            "second": NodeBuilder().subscribe_to("b").do(lambda read: twice(read["b"])).write_to("c"),
        },
        channels={"a": EphemeralValue(str), "b": LastValue(str), "c": Topic(str, accumulate=True)},
        input_channels=["a"],
        output_channels=["b", "c"],
    )
    assert graph.invoke({"a": "x"}) == {"b": "xx", "c": ["xx", "xxxx"]}


def test_a_reducer_channel_folds_what_nodes_write() -> None:
    graph = program(
        nodes={
            "one": NodeBuilder().subscribe_only("a").write_to("total"),
            "ten": NodeBuilder().subscribe_only("a").do(lambda number: number * 10).write_to("total"),
        },
        channels={"a": EphemeralValue(int), "total": BinaryOperatorAggregate(int, lambda left, right: left + right)},
        output_channels="total",
    )
    assert graph.invoke(3) == 33


def test_a_node_reads_further_channels_and_writes_constants_and_what_functions_make() -> None:
    node = NodeBuilder().subscribe_to("a").read_from("memory").do(dict).write_to(seen=sorted, constant=5)
    graph = program(
        nodes={"node": node},
        channels={
            "a": EphemeralValue(str),
            "memory": LastValue(str),
            "seen": LastValue(list),
            "constant": LastValue(int),
        },
        input_channels=["a", "memory"],
        output_channels=["seen", "constant"],
        checkpointer=InMemorySaver(),
    )
    assert graph.invoke({"a": "1", "memory": "m"}, THREAD) == {"seen": ["a", "memory"], "constant": 5}
    graph.invoke({"a": "2"}, THREAD)
    assert graph.get_state(THREAD).values == {"memory": "m", "seen": ["a", "memory"], "constant": 5}


def test_snapshots_and_streams_show_every_channel_unless_told_which() -> None:
    parts: dict[str, Any] = {
        "nodes": {"node": NodeBuilder().subscribe_only("a").do(lambda number: number + 1).write_to("b")},
        "channels": {"a": LastValue(int), "b": LastValue(int)},
        "output_channels": "b",
    }
    modes = ["values", "updates"]
    assert list(program(**parts).stream(2, stream_mode=modes)) == [
        ("updates", {"node": {"b": 3}}),
        ("values", {"a": 2, "b": 3}),
    ]
    assert list(program(**parts, stream_channels="b").stream(2, stream_mode=modes)) == [
        ("updates", {"node": 3}),
        ("values", 3),
    ]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"nodes": {"node": NodeBuilder().subscribe_only("b")}}, "node 'node' subscribes to unknown channel 'b'"),
        ({"nodes": {"node": NodeBuilder().subscribe_to("a").read_from("b")}}, "node 'node' reads unknown channel 'b'"),
        ({"input_channels": ["b"]}, "input channel 'b' of graph 'LangGraph' does not exist"),
        ({"output_channels": "b"}, "output channel 'b' of graph 'LangGraph' does not exist"),
        ({"stream_channels": ["a", "b"]}, "stream channel 'b' of graph 'LangGraph' does not exist"),
    ],
)
def test_a_channel_that_does_not_exist_is_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        program(**parts)
    assert caught.value.hint == "the channels are: a"


def test_blocking_steps_of_a_node_do_not_run_on_the_event_loops_thread() -> None:
    threads: list[int] = []

    def blocking(number: int) -> int:
        threads.append(threading.get_ident())
        return number + 1

    async def waiting(number: int) -> int:
        return number * 10

    for steps in ([blocking, blocking], [blocking, waiting]):
        node = NodeBuilder().subscribe_only("a")
        for step in steps:
            node.do(step)
        graph = program(
            nodes={"node": node.write_to("b")},
            channels={"a": EphemeralValue(int), "b": LastValue(int)},
            output_channels="b",
        )
        assert asyncio.run(graph.ainvoke(1)) == (3 if waiting not in steps else 20)
    assert len(threads) == 3
    assert threading.get_ident() not in threads
