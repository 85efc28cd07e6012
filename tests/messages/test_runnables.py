"""A compiled graph where a `Runnable` is expected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda

from clew import _langchain
from clew._langchain import adopt, as_runnable, compose, is_runnable
from tests.messages.small_driver import arun_nodes, run_nodes


async def _shout(value: Any, config: Any) -> str:
    return shout(value, config)


def shout(value: Any, config: Any) -> str:
    text = value if isinstance(value, str) else value.to_string()
    return text.upper()


class Graph(_langchain.RunnableFace):
    """The part of a compiled graph that matters here."""

    name = "shouter"

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return run_nodes(config or {}, [("shout", shout)], input)

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return await arun_nodes(config or {}, [("shout", _shout)], input)

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
        yield self.invoke(input, config)

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        yield await self.ainvoke(input, config)


class Adopted(Graph):
    """A graph class that counts as a `Runnable`."""


adopt(Adopted)
adopt(Adopted)

prompt = PromptTemplate.from_template("say {word}")


def test_wrapped_graph_invokes_and_streams_like_the_graph() -> None:
    runnable = as_runnable(Graph())

    assert isinstance(runnable, Runnable)
    assert runnable.get_name() == "shouter"
    assert runnable.invoke("a") == "A"
    assert asyncio.run(runnable.ainvoke("a")) == "A"
    assert list(runnable.stream("a")) == ["A"]
    assert runnable.batch(["a", "b"]) == ["A", "B"]


def test_what_is_no_graph_is_coerced_by_langchain_core() -> None:
    lambda_ = RunnableLambda(str)

    assert as_runnable(lambda_) is lambda_
    assert as_runnable(len).invoke("abc") == 3
    assert as_runnable({"length": len}).invoke("abc") == {"length": 3}


def test_graph_composes_on_both_sides() -> None:
    assert (Graph() | len).invoke("abc") == 3
    assert ((lambda text: text + "!") | Graph()).invoke("a") == "A!"
    assert compose(prompt, Graph()).invoke({"word": "x"}) == "SAY X"
    assert asyncio.run((Graph() | Graph()).ainvoke("a")) == "A"


def test_adopted_graph_composes_behind_a_runnable() -> None:
    chain = prompt | Adopted() | len

    assert chain.invoke({"word": "x"}) == 5
    assert asyncio.run(chain.ainvoke({"word": "x"})) == 5
    assert list((prompt | Adopted()).stream({"word": "x"})) == ["SAY X"]


def test_adopted_graph_has_the_other_methods_of_a_runnable() -> None:
    graph = Adopted()

    assert is_runnable(graph)
    assert not is_runnable(Graph())
    assert graph.with_retry().invoke("a") == "A"
    assert graph.get_name() == "shouter"
    assert not hasattr(graph, "no_such_method")
    assert as_runnable(graph).invoke("a") == "A"


def test_events_of_graph_and_of_nodes_with_their_output_are_streamed() -> None:
    async def events() -> list[tuple[str, str, Any]]:
        return [
            (event["event"], event["name"], event["data"].get("chunk"))
            async for event in as_runnable(Graph()).astream_events("a", version="v2")
        ]

    assert asyncio.run(events()) == [
        ("on_chain_start", "graph", None),
        ("on_chain_start", "shout", None),
        ("on_chain_stream", "shout", "A"),
        ("on_chain_end", "shout", None),
        ("on_chain_end", "graph", None),
    ]
