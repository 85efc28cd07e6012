"""Graphs as SVG and as text: what is in the picture, and that any name can be."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.graph._drawing import DrawnGraph

SVG = "{http://www.w3.org/2000/svg}"


def agent() -> DrawnGraph:
    graph = DrawnGraph()
    for node in ("__start__", "agent", "tools", "__end__"):
        graph.add_node(None, node, metadata={"__interrupt": "before"} if node == "tools" else None)
    for source, target, *rest in (
        ("__start__", "agent"),
        ("agent", "tools", None, True),
        ("agent", "__end__", "done", True),
        ("tools", "agent"),
    ):
        graph.add_edge(graph.nodes[source], graph.nodes[target], *rest)
    return graph


def nested() -> DrawnGraph:
    graph = DrawnGraph()
    for node in ("s", "team:plan", "team:web:search", "e"):
        graph.add_node(None, node)
    for source, target in (("s", "team:plan"), ("team:plan", "team:web:search"), ("team:web:search", "e")):
        graph.add_edge(graph.nodes[source], graph.nodes[target])
    return graph


def elements(svg: str, name: str, kind: str) -> list[ElementTree.Element]:
    return [part for part in ElementTree.fromstring(svg).iter(SVG + name) if kind in part.get("class", "").split()]


def texts(svg: str) -> list[str]:
    return ["".join(part.itertext()) for part in ElementTree.fromstring(svg).iter(SVG + "text")]


def test_picture_shows_nodes_edges_labels_and_notes() -> None:
    svg = agent().draw_svg()

    assert texts(svg) == ["start", "agent", "tools", "pauses before", "end", "done"]
    assert len(elements(svg, "g", "edge")) == 4
    assert len(elements(svg, "g", "conditional")) == 2
    assert [part.get("class") for part in elements(svg, "g", "end")] == ["end", "end"]


def test_subgraphs_are_frames_with_names() -> None:
    svg = nested().draw_svg()

    assert texts(svg) == ["s", "plan", "search", "e", "team", "web"]
    assert len(elements(svg, "rect", "frame")) == 2


def test_picture_suits_light_and_dark_pages_and_needs_nothing_else() -> None:
    svg = agent().draw_svg()

    assert "@media (prefers-color-scheme:dark)" in svg
    assert re.findall(r"(?:href|src|url|@import)", svg) == []
    assert svg.count("http") == 1  # the name space


def test_same_graph_is_drawn_the_same_way() -> None:
    assert agent().draw_svg() == agent().draw_svg()
    assert agent().draw_ascii() == agent().draw_ascii()


def test_notebooks_show_the_picture() -> None:
    assert agent()._repr_svg_() == agent().draw_svg()


def test_loop_is_drawn_beside_its_node_with_its_label() -> None:
    graph = DrawnGraph()
    node = graph.add_node(None, "again")
    graph.add_edge(node, node, "not yet", True)

    assert texts(graph.draw_svg()) == ["again", "not yet"]
    assert graph.draw_ascii().splitlines()[1].strip() == "| again |<.. not yet"


@given(name=st.text(min_size=1), label=st.text(), note=st.text())
def test_any_text_can_be_drawn(name: str, label: str, note: str) -> None:
    graph = DrawnGraph()
    first = graph.add_node(None, "first", metadata={"note": note})
    second = graph.add_node(None, f"second{name}")
    graph.add_edge(first, second, label)

    assert ElementTree.fromstring(graph.draw_svg()).tag == f"{SVG}svg"
    assert graph.draw_ascii().replace("\n", "").isprintable()
    assert graph.draw_mermaid()


def test_markup_in_names_is_text() -> None:
    graph = DrawnGraph()
    graph.add_node(None, '<script>alert("&")</script>')

    svg = graph.draw_svg()

    assert "<script" not in svg
    assert texts(svg) == ['<script>alert("&")</script>']


def test_empty_graph_has_an_empty_picture() -> None:
    assert texts(DrawnGraph().draw_svg()) == []
    assert DrawnGraph().draw_ascii() == "\n"


def drawing(text: str) -> str:
    return dedent(text).lstrip("\n")


def test_text_shows_an_agent(capsys: pytest.CaptureFixture[str]) -> None:
    agent().print_ascii()

    assert capsys.readouterr().out.rstrip("\n") + "\n" == drawing(
        """
                 +-------+
                 | start |
                 +-------+
                     |
                     v
                 +-------+
                 | agent |
                 +-------+
                   : ^ :
               ..... | ........
               : +---+        :
               v |            :
        +---------------+     :
        |     tools     |   done
        | pauses before |     :
        +---------------+     :
                              :
                              v
                           +-----+
                           | end |
                           +-----+
        """
    )


def test_text_shows_subgraphs_as_frames() -> None:
    assert nested().draw_ascii() == drawing(
        """
                +---+
                | s |
                +---+
                  |
                  |
        +-- team -|------+
        |         |      |
        |         v      |
        |     +------+   |
        |     | plan |   |
        |     +------+   |
        |        |       |
        |        |       |
        | +-- web -----+ |
        | |      |     | |
        | |      v     | |
        | | +--------+ | |
        | | | search | | |
        | | +--------+ | |
        | |      |     | |
        | |      |     | |
        | +------|-----+ |
        |        |       |
        |        ++      |
        |         |      |
        |         |      |
        +---------|------+
                  |
                  v
                +---+
                | e |
                +---+
        """
    )


def test_wide_letters_keep_their_frame_straight() -> None:
    graph = DrawnGraph()
    graph.add_node(None, "日本")

    assert graph.draw_ascii() == drawing(
        """
        +------+
        | 日本 |
        +------+
        """
    )


def test_hundred_nodes_are_drawn() -> None:
    graph = DrawnGraph()
    nodes: list[Any] = [graph.add_node(None, f"node{number}") for number in range(100)]
    for number in range(1, 100):
        graph.add_edge(nodes[(number * 7) % number], nodes[number], None, number % 3 == 0)
        graph.add_edge(nodes[number], nodes[number // 2], None, True)

    assert len(elements(graph.draw_svg(), "g", "node")) == 100
    assert graph.draw_ascii().count("node") == 100
