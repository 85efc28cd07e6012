"""A drawn graph as data, and its agreement with langchain-core's, which it stands in for."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.graph import CurveStyle as TheirCurve
from langchain_core.runnables.graph import Graph as TheirGraph
from langchain_core.runnables.graph import NodeStyles as TheirStyles
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, SkipValidation

from clew.errors import ClewError, GraphError, MissingExtraError
from clew.graph._drawing import DrawnEdge, DrawnGraph, DrawnNode
from clew.graph._drawing.mermaid import CurveStyle, NodeStyles

Edge = tuple[Any, ...]


def drawn(nodes: list[str], edges: list[Edge], **metadata: dict[str, Any]) -> DrawnGraph:
    graph = DrawnGraph()
    for node in nodes:
        graph.add_node(None, node, metadata=metadata.get(node))
    for source, target, *rest in edges:
        graph.add_edge(graph.nodes[source], graph.nodes[target], *rest)
    return graph


def from_theirs(graph: TheirGraph) -> DrawnGraph:
    return DrawnGraph(
        {key: DrawnNode(*node) for key, node in graph.nodes.items()}, [DrawnEdge(*edge) for edge in graph.edges]
    )


def compiled() -> Any:
    """A graph of LangGraph's with a nested subgraph, conditional and labelled edges, and metadata."""

    def node(state: dict[str, Any]) -> dict[str, Any]:
        return state

    inner = StateGraph(dict).add_node("deep", node).add_node("deeper", node)
    inner.add_edge(START, "deep").add_edge("deep", "deeper").add_conditional_edges(
        "deeper", lambda _: "again", {"again": "deep", "done": END}
    )
    middle = StateGraph(dict).add_node("x one", node).add_node("y", inner.compile()).add_node("_z_", node)
    middle.add_edge(START, "x one").add_edge("x one", "y").add_edge("y", "_z_")
    outer = StateGraph(dict).add_node("a", node, metadata={"team": "red|blue", "tags": ["x", "y"], "skip": object()})
    outer.add_node("b", middle.compile()).add_node("c", node, defer=True).add_edge(START, "a")
    outer.add_conditional_edges("a", lambda _: "b", {"left": "b", "right": "c"})
    outer.add_conditional_edges("c", lambda _: "yes", {"yes": "a", "one two three four five six seven eight nine": END})
    outer.add_edge("b", END)
    return outer.compile(interrupt_before=["c"])


GRAPHS: dict[str, DrawnGraph] = {
    "empty": drawn([], []),
    "one node": drawn(["only"], []),
    "chain": drawn(["__start__", "a", "__end__"], [("__start__", "a"), ("a", "__end__")]),
    "conditional": drawn(
        ["__start__", "a", "b", "__end__"],
        [("__start__", "a"), ("a", "b", None, True), ("a", "__end__", "no need", True), ("b", "a", "back")],
    ),
    "odd names": drawn(["héllo wörld", "_under_", "*star*", "a/b.c"], [("héllo wörld", "a/b.c", 7)]),
    "loop": drawn(["a", "b"], [("a", "a", "again", True), ("a", "b")]),
    "two first nodes": drawn(["a", "b", "c"], [("a", "c"), ("b", "c")]),
    "subgraph": drawn(["s", "g:a", "g:b", "e"], [("s", "g:a"), ("g:a", "g:b"), ("g:b", "e")]),
    "subgraph without edges": drawn(["s", "g:a", "h:b"], [("s", "g:a"), ("g:a", "h:b")]),
    "metadata": drawn(["a", "b"], [("a", "b")], a={"k": "(v) <#>", "n": 1, "t": {"x"}}, b={"no": None}),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("with_styles", [True, False])
def test_mermaid_is_what_langchain_core_writes(name: str, with_styles: bool) -> None:
    graph = GRAPHS[name]

    assert graph.draw_mermaid(with_styles=with_styles) == graph.to_langchain().draw_mermaid(with_styles=with_styles)


@pytest.mark.parametrize("name", GRAPHS)
def test_json_is_what_langchain_core_writes(name: str) -> None:
    graph = GRAPHS[name]

    assert graph.to_json() == graph.to_langchain().to_json()


@pytest.mark.parametrize("xray", [False, True, 1])
def test_graphs_of_langgraph_are_drawn_alike(xray: bool | int) -> None:
    theirs = compiled().get_graph(xray=xray)
    mine = from_theirs(theirs)

    assert mine.draw_mermaid(wrap_label_n_words=3) == theirs.draw_mermaid(wrap_label_n_words=3)
    assert mine.to_json() == theirs.to_json()
    assert mine.to_langchain() == theirs


def test_mermaid_options_mean_the_same() -> None:
    graph = GRAPHS["conditional"]
    config = {
        "config": {"theme": "neutral", "themeVariables": {"primaryColor": "#e2e2e2"}, "flowchart": {"padding": 3}},
        "title": "it's: a 'test'",
        "flags": [True, None, 1.5, "yes"],
    }

    assert graph.draw_mermaid(
        curve_style=CurveStyle.STEP_AFTER, node_colors=NodeStyles(default="fill:red"), frontmatter_config=config
    ) == graph.to_langchain().draw_mermaid(
        curve_style=TheirCurve.STEP_AFTER, node_colors=TheirStyles(default="fill:red"), frontmatter_config=config
    )
    assert graph.draw_mermaid(curve_style=TheirCurve.BASIS) == graph.draw_mermaid(curve_style="basis")


def test_subgraphs_of_one_name_in_two_places_are_drawn() -> None:
    graph = drawn(["a:in:x", "a:in:y", "b:in:x", "b:in:y"], [("a:in:x", "a:in:y"), ("b:in:x", "b:in:y")])

    lines = graph.draw_mermaid(with_styles=False).splitlines()

    assert [line.strip() for line in lines if "subgraph" in line] == [
        "subgraph a",
        "subgraph in",
        "subgraph b",
        r"subgraph b\3ain[in]",
    ]


def test_brackets_in_names_and_labels_are_escaped_for_mermaid() -> None:
    text = drawn(["f(x)", 'say "b"'], [("f(x)", 'say "b"', "x [y]")]).draw_mermaid()

    assert r"f\28x\29([f#40;x#41;]):::first" in text
    assert r"f\28x\29 -- &nbsp;x #91;y#93;&nbsp; --> say\20\22b\22;" in text


def test_json_tells_what_a_node_runs() -> None:
    class Model(BaseModel):
        size: int

    graph = DrawnGraph()
    for name, data in {"work": RunnableLambda(len), "model": Model, "class": dict, "nothing": None}.items():
        graph.add_node(data, name)

    for with_schemas in (False, True):
        told = graph.to_json(with_schemas=with_schemas)
        assert told == graph.to_langchain().to_json(with_schemas=with_schemas)
        assert json.loads(json.dumps(told)) == told


def test_json_names_a_plain_function_as_something_that_runs() -> None:
    def work() -> None: ...

    graph = DrawnGraph()
    graph.add_node(work, "work")

    assert graph.to_json()["nodes"] == [
        {"id": "work", "type": "runnable", "data": {"id": [*__name__.split("."), "work"], "name": "work"}}
    ]


def test_schema_that_has_no_json_form_is_named() -> None:
    class Strange(BaseModel, arbitrary_types_allowed=True):
        thing: Annotated[object, SkipValidation]
        lock: type(lambda: 0)  # type: ignore[valid-type]  # a type that JSON schema cannot say

    graph = DrawnGraph()
    graph.add_node(Strange, "s")

    assert graph.to_json(with_schemas=True)["nodes"] == [{"id": "s", "type": "schema", "data": "Strange"}]


def test_random_ids_are_replaced_by_names() -> None:
    graph = DrawnGraph()
    first, second, third = (graph.add_node(RunnableLambda(work)) for work in (len, len, max))
    graph.add_edge(first, second)
    graph.add_edge(second, third)

    assert list(graph.reid().nodes) == ["len_1", "len_2", "max"]
    assert graph.draw_mermaid() == graph.to_langchain().draw_mermaid()
    assert graph.to_json() == graph.to_langchain().to_json()


def test_first_and_last_node_are_the_only_ones_without_a_way_in_or_out() -> None:
    graph = GRAPHS["chain"]

    assert graph.first_node() == graph.nodes["__start__"]
    assert graph.last_node() == graph.nodes["__end__"]
    assert GRAPHS["two first nodes"].first_node() is None


@pytest.mark.parametrize("name", GRAPHS)
def test_trimming_and_nesting_follow_langchain_core(name: str) -> None:
    mine, theirs = from_theirs(GRAPHS[name].to_langchain()), GRAPHS[name].to_langchain()
    outer, other = DrawnGraph(), TheirGraph()
    for graph in (mine, theirs):
        graph.trim_first_node()
        graph.trim_last_node()

    assert tuple(outer.extend(mine, prefix="p")) == tuple(other.extend(theirs, prefix="p"))
    assert outer.to_langchain() == other


def test_graph_can_be_part_of_a_langchain_graph() -> None:
    theirs = TheirGraph()

    first, last = theirs.extend(GRAPHS["chain"], prefix="sub")  # type: ignore[arg-type]  # the point

    assert first is not None
    assert last is not None
    assert (first.id, last.id) == ("sub:__start__", "sub:__end__")
    assert "subgraph sub" in theirs.draw_mermaid()


def test_what_does_not_fit_together_is_refused() -> None:
    graph = drawn(["a"], [])

    with pytest.raises(GraphError, match="node 'a' is in the graph already"):
        graph.add_node(None, "a")
    with pytest.raises(GraphError, match="node 'b' is not in the graph"):
        graph.add_edge(graph.nodes["a"], DrawnNode("b", "b"))


def test_removed_node_takes_its_edges_along() -> None:
    graph = drawn(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])

    graph.remove_node(graph.nodes["b"])

    assert list(graph.nodes) == ["a", "c"]
    assert graph.edges == [DrawnEdge("a", "c")]


def test_pictures_by_network_services_are_refused_with_the_way_out() -> None:
    with pytest.raises(ClewError, match="external service") as caught:
        GRAPHS["chain"].draw_mermaid_png(max_retries=5)
    assert caught.value.hint is not None
    assert "draw_svg()" in caught.value.hint
    with pytest.raises(ClewError, match="needs Graphviz"):
        GRAPHS["chain"].draw_png("file.png")


def test_graph_is_true_if_it_has_nodes() -> None:
    assert GRAPHS["one node"]
    assert not GRAPHS["empty"]


def test_missing_langchain_core_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core.runnables.graph", None)

    with pytest.raises(MissingExtraError, match=r"to_langchain\(\) needs a package that is not installed") as caught:
        GRAPHS["chain"].to_langchain()
    assert caught.value.hint == "install it with: pip install 'clew[langchain]'"
