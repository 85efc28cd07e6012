"""One leg of the run, in a process of its own: start, go on, or answer. What happens is printed, one JSON line each.

The process knows nothing that is not in the database, the folder or its arguments; it may be killed at any moment.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from clew.checkpoint.sqlite import SqliteSaver
from clew.types import Command
from examples.report.graph import Office, build
from examples.report.ledger import Ledger
from examples.report.model import extractive, plugged_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("start", "continue", "answer"))
    parser.add_argument("--work", type=Path, required=True, help="the folder of the database and the ledger")
    parser.add_argument("--thread", required=True)
    parser.add_argument("--folder")
    parser.add_argument("--output")
    parser.add_argument("--answer")
    parser.add_argument("--model")
    parser.add_argument("--pace", type=float, default=0.0)
    options = parser.parse_args()
    try:
        model = plugged_in(options.model) if options.model else extractive(options.pace)
    except ValueError as error:
        parser.error(str(error))
    ledger = Ledger(options.work / "ledger.jsonl")
    inputs: dict[str, Any] = {
        "start": {"folder": options.folder, "output": options.output},
        "continue": None,
        "answer": Command(resume=options.answer),
    }
    with SqliteSaver.from_conn_string(str(options.work / "report.db")) as saver:
        graph = build(Office(model, ledger)).compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": options.thread}, "max_concurrency": 4}
        for update in graph.stream(inputs[options.action], config, stream_mode="updates", durability="sync"):
            for node, value in update.items():
                if node != "__metadata__":
                    tell(node, value, ledger)


def run() -> None:
    """`main`, with what is wrong with the documents as a message: a traceback would not help."""
    try:
        main()
    except ValueError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        raise SystemExit(f"error: {error}{notes}") from None


def tell(node: str, value: Any, ledger: Ledger) -> None:
    """Print what became visible: a question, or that a task is done (by this process, or by one before it)."""
    match node:
        case "__interrupt__":
            line = {"event": "question", **value[0].value}
        case "summarise":
            [(document, summary)] = value["summaries"].items()
            what = f"summarise: {document}, attempt {summary.attempt}"
            line = {"event": "done" if what in ledger.ran else "kept", "what": what}
        case "check":
            line = {"event": "done", "what": "check", "detail": f"{len(value['rejected'])} to do again"}
        case "plan":
            line = {"event": "done", "what": "plan", "detail": f"{len(value['documents'])} documents"}
        case _:
            line = {"event": "done", "what": node}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run()
