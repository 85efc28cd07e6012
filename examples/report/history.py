"""A thread's history as a tree, newest first, from the public state API."""

from __future__ import annotations

from pathlib import Path

from clew.checkpoint.sqlite import SqliteSaver
from examples.report.graph import graph


def print_history(database: Path, thread: str) -> None:
    with SqliteSaver.from_conn_string(str(database)) as saver:
        program = graph().compile(checkpointer=saver)
        history = list(program.get_state_history({"configurable": {"thread_id": thread}}))
    for place, snapshot in enumerate(history):
        branch = "└─" if place == len(history) - 1 else "├─"
        upcoming = ", ".join(dict.fromkeys(snapshot.next)) or "end"
        metadata = snapshot.metadata or {}
        print(f"  {branch} step {metadata.get('step', '?'):>2}  {metadata.get('source', '?'):6}  then {upcoming}")
