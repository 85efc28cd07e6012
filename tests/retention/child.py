"""What a child process does in the tests of retention: shorten threads, or run on them."""

from __future__ import annotations

import operator
import os
import sys
from typing import Annotated, Any, TypedDict

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.retention import Retention


class Count(TypedDict):
    numbers: Annotated[list[int], operator.add]


def build(saver: Any) -> Any:
    """A graph of two nodes, each of which appends the next number."""
    builder = StateGraph(Count)
    builder.add_sequence([("first", following), ("second", following)])
    builder.add_edge(START, "first")
    return builder.compile(checkpointer=saver)


def following(state: Count) -> dict[str, list[int]]:
    return {"numbers": [state["numbers"][-1] + 1]}


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def retain(path: str, keep_last: str, batch: str) -> None:
    """Apply a policy, which a failpoint may end in the middle."""
    with SqliteSaver.from_conn_string(path) as saver:
        saver.retain(Retention(keep_last=int(keep_last)), batch=int(batch))


def run(path: str, stop: str) -> None:
    """Run turns on one thread until the file `stop` is there, and say when each is done."""
    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver:
        graph = build(saver)
        while not os.path.exists(stop):
            graph.invoke({"numbers": []}, {"configurable": {"thread_id": "t"}})
            say("turn")


if __name__ == "__main__":
    {"retain": retain, "run": run}[sys.argv[1]](*sys.argv[2:])
