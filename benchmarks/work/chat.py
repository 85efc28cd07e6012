"""A long chat on SQLite: 300 turns of three messages each. What it weighs, whether it slows down, reading it back."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from benchmarks.library import Library
from benchmarks.measure import AtMost, Faster, Row

TURNS = 300
EDGE = 20  # turns at each end that are compared
ROUNDS = 1
ROWS = (
    Row("disk", "300-turn chat, SQLite file: times the messages' own JSON", "x", AtMost(2)),
    Row("payload", "300-turn chat, stored values: times the messages' own JSON", "x"),
    Row("first", f"first {EDGE} turns: per turn", "ms"),
    Row("last", f"last {EDGE} turns: per turn", "ms"),
    Row("slower", "last turns: times the first", "x", AtMost(1.2)),
    Row("history", "reading the full history", "ms", Faster(8)),
)
CONFIG = {"configurable": {"thread_id": "chat"}}


def measure(library: Library) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chat.db"
        with library.sqlite_saver(path) as saver:
            graph = chat(library, saver)
            times, messages = talk(graph)
            start = time.perf_counter()
            history = list(graph.get_state_history(CONFIG))
            history_time = time.perf_counter() - start
            assert len(history) == TURNS * 4
        own = sum(json_size(message) for message in messages)
        disk, payload = sizes(path)
    first, last = sum(times[:EDGE]) / EDGE, sum(times[-EDGE:]) / EDGE
    return {
        "disk": disk / own,
        "payload": payload / own,
        "first": first * 1e3,
        "last": last * 1e3,
        "slower": last / first,
        "history": history_time * 1e3,
    }


def chat(library: Library, saver: Any, schema: Any = None) -> Any:
    """A user's message in, a model's answer and a tool's result out; `schema` is `MessagesState` if not given."""
    words = Words()
    graph = library.state_graph(schema or library.module("graph").MessagesState)
    graph.add_node("model", lambda _: {"messages": [AIMessage(words.text(90))]})
    graph.add_node("tool", lambda _: {"messages": [ToolMessage(words.text(60), tool_call_id=words.identifier())]})
    graph.set_entry_point("model")
    graph.add_edge("model", "tool")
    return graph.compile(checkpointer=saver)


def talk(graph: Any) -> tuple[list[float], list[AnyMessage]]:
    """Every turn's time in seconds, and the messages at the end."""
    words = Words(seed=2)
    times: list[float] = []
    for _ in range(TURNS):
        message = HumanMessage(words.text(30))
        start = time.perf_counter()
        state = graph.invoke({"messages": [message]}, CONFIG)
        times.append(time.perf_counter() - start)
    assert len(state["messages"]) == TURNS * 3
    return times, state["messages"]


class Words:
    """Text that is the same in each run: words of a made-up vocabulary, so that it compresses about as prose does."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        letters = random.Random(0)
        sizes = [letters.randint(2, 10) for _ in range(4_000)]
        self.vocabulary = ["".join(letters.choices("etaoinshrdlucmfw", k=size)) for size in sizes]

    def text(self, words: int) -> str:
        return " ".join(self.random.choices(self.vocabulary, k=words))

    def identifier(self) -> str:
        return f"call_{self.random.getrandbits(96):024x}"


def json_size(message: AnyMessage) -> int:
    """Bytes of the message as JSON, with only those fields that say something."""
    fields = {"type": message.type, **message.model_dump(exclude_defaults=True)}
    return len(json.dumps(fields, ensure_ascii=False).encode())


def sizes(path: Path) -> tuple[int, int]:
    """Bytes on disk once the log is folded into the file, and bytes of all values in all tables."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        payload = sum(table_size(connection, table) for table in tables)
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")), payload


def table_size(connection: sqlite3.Connection, table: str) -> int:
    columns = [row[1] for row in connection.execute(f'pragma table_info("{table}")')]
    total = " + ".join(f'coalesce(length(cast("{column}" as blob)), 0)' for column in columns)
    return connection.execute(f'select coalesce(sum({total}), 0) from "{table}"').fetchone()[0]
