"""A long chat on PostgreSQL: the chat of `chat`, and beside it LangGraph with its opt-in `DeltaChannel`.

Bytes on disk are what the chat added to the tables and indexes, which take some pages when they are empty.
`DeltaChannel` (in beta there) stores what was written and a whole value every 100th time. clew needs no such choice:
its figures are the same in both sets of rows.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage

from benchmarks import postgres
from benchmarks.library import CLEW, Library
from benchmarks.measure import AtMost, Faster, Row
from benchmarks.work import chat

EDGE = chat.EDGE
ROUNDS = 1
POSTGRES = True
_DELTA = "DeltaChannel:"
ROWS = (
    Row("disk", f"{chat.TURNS}-turn chat, PostgreSQL tables and indexes: times the messages' own JSON", "x", AtMost(2)),
    Row("payload", f"{chat.TURNS}-turn chat, stored values: times the messages' own JSON", "x"),
    Row("first", f"first {EDGE} turns: per turn", "ms"),
    Row("last", f"last {EDGE} turns: per turn", "ms", Faster(8)),
    Row("slower", "last turns: times the first", "x", AtMost(1.2)),
    Row("history", "reading the full history", "ms", Faster(8)),
    Row("delta_disk", f"{_DELTA} tables and indexes: times the messages' own JSON", "x", AtMost(2)),
    Row("delta_payload", f"{_DELTA} stored values: times the messages' own JSON", "x"),
    Row("delta_first", f"{_DELTA} first {EDGE} turns: per turn", "ms"),
    Row("delta_last", f"{_DELTA} last {EDGE} turns: per turn", "ms"),
    Row("delta_history", f"{_DELTA} reading the full history", "ms"),
)


def measure(library: Library) -> dict[str, float]:
    figures = measure_chat(library)
    delta = figures if library.prefix == CLEW else measure_chat(library, delta_state(library))
    return {**figures, **{f"delta_{key}": figure for key, figure in delta.items() if key != "slower"}}


def measure_chat(library: Library, schema: Any = None) -> dict[str, float]:
    prefix = "clew_" if library.prefix == CLEW else "checkpoint"
    with postgres.database() as database:
        with library.postgres_saver(database.near, connections=2) as saver:
            empty, _ = database.size(prefix)
            graph = chat.chat(library, saver, schema)
            times, messages = chat.talk(graph)
            start = time.perf_counter()
            history = list(graph.get_state_history(chat.CONFIG))
            history_time = time.perf_counter() - start
            assert len(history) == chat.TURNS * 4
        disk, payload = database.size(prefix)
    own = sum(chat.json_size(message) for message in messages)
    first, last = sum(times[:EDGE]) / EDGE, sum(times[-EDGE:]) / EDGE
    return {
        "disk": (disk - empty) / own,
        "payload": payload / own,
        "first": first * 1e3,
        "last": last * 1e3,
        "slower": last / first,
        "history": history_time * 1e3,
    }


def delta_state(library: Library) -> Any:
    """The state of a chat as LangGraph documents it for `DeltaChannel`."""
    channel = library.module("channels").DeltaChannel(library.module("graph.message")._messages_delta_reducer)
    return TypedDict("DeltaState", {"messages": Annotated[list[AnyMessage], channel]})
