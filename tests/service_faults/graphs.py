"""The graphs that replicas serve: nodes that note what they do outside of the database, and do as their input says."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from clew.config import get_config, get_stream_writer
from clew.graph import START, StateGraph
from clew.types import interrupt
from tests.faults.ledger import Ledger

NODES = ("one", "two", "three")


class Work(TypedDict, total=False):
    """`orders` says for each node what it does besides: `hold` (a file to wait for), `block` (seconds in which nothing
    else happens), `die`, `show` (how many events, of how many bytes), `fail`."""

    orders: dict[str, dict[str, Any]]
    log: Annotated[list[str], operator.add]
    answers: Annotated[list[str], operator.add]


def graphs(ledger: Ledger) -> dict[str, StateGraph[Any]]:
    """Three nodes in a row; two at once; a node with two questions."""
    return {"row": _row(ledger), "wide": _wide(ledger), "ask": _ask(ledger)}


def key(node: str) -> dict[str, Any]:
    """What names an effect, however often it is tried."""
    config = get_config()
    own = config["configurable"]
    return {
        "thread": own["thread_id"], "run": own["run_id"], "node": node,
        "step": config["metadata"]["langgraph_step"], "attempt": config["metadata"].get("run_attempt"),
        "at": time.monotonic(),
    }  # fmt: skip


def _node(ledger: Ledger, name: str) -> Any:
    async def work(state: Work) -> Work:
        orders = (state.get("orders") or {}).get(name, {})
        ledger.add("began", **key(name))
        await _obey(orders)
        named = key(name)
        ledger.add("ran", **named)
        return {"log": [f"{named['run']}:{name}"]}

    return work


async def _obey(orders: dict[str, Any]) -> None:
    if "show" in orders:
        count, size = orders["show"]
        for number in range(count):
            get_stream_writer()(f"{number}:" + "x" * size)
            if number % 16 == 15:
                await asyncio.sleep(0)
    if "hold" in orders:
        while not Path(orders["hold"]).exists():
            await asyncio.sleep(0.01)
    if "sleep" in orders:
        await asyncio.sleep(orders["sleep"])
    if "block" in orders:
        time.sleep(orders["block"])
    if "die" in orders:
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in orders:
        raise ValueError(orders["fail"])


def _row(ledger: Ledger) -> StateGraph[Any]:
    graph = StateGraph(Work)
    for before, name in zip((START, *NODES), NODES, strict=False):
        graph.add_node(name, _node(ledger, name))
        graph.add_edge(before, name)
    return graph


def _wide(ledger: Ledger) -> StateGraph[Any]:
    graph = StateGraph(Work)
    for name in ("one", "two"):
        graph.add_node(name, _node(ledger, name))
        graph.add_edge(START, name)
    graph.add_node("three", _node(ledger, "three"))
    graph.add_edge(["one", "two"], "three")
    return graph


def _ask(ledger: Ledger) -> StateGraph[Any]:
    def ask(_: Work) -> Work:
        first = interrupt("first?")
        second = interrupt("second?")
        ledger.add("answered", answers=[first, second], **key("ask"))
        return {"answers": [first, second]}

    graph = StateGraph(Work)
    graph.add_node("one", _node(ledger, "one"))
    graph.add_node("ask", ask)
    graph.add_node("three", _node(ledger, "three"))
    graph.add_edge(START, "one")
    graph.add_edge("one", "ask")
    graph.add_edge("ask", "three")
    return graph
