"""A program that seeds `random`, as many do, gets no numbers of a thread that another process has made."""

from __future__ import annotations

import random

from clew.checkpoint.postgres import PostgresSaver
from clew.graph import START, StateGraph


def test_threads_of_programs_with_the_same_seed_are_apart(postgres_saver: PostgresSaver) -> None:
    graph = StateGraph(dict)
    graph.add_node("answer", lambda state: {"answer": state["question"]})
    graph.add_edge(START, "answer")
    saver = postgres_saver.with_tenant("seeded")
    compiled = graph.compile(checkpointer=saver)

    state = random.getstate()
    try:
        given = []
        for thread in ("one", "two"):
            random.seed(7)
            given.append(compiled.invoke({"question": thread}, {"configurable": {"thread_id": thread}}))
    finally:
        random.setstate(state)

    assert given == [{"answer": "one"}, {"answer": "two"}]
