"""`clew state`, `clew history`, `clew threads`, `clew doctor`: the commands that only look.

They need no graph: values of types that only the graph knows are shown by their type's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from rich.text import Text
from typer import Argument, Exit, Option

from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.cli import _show as show
from clew.cli._database import open_saver
from clew.cli._problem import CommandError
from clew.cli._run import DEFAULT_DB, Database, Thread, config
from clew.cli._target import load
from clew.cli._values import to_json
from clew.constants import NULL_TASK_ID, TASKS
from clew.graph._drawing.history import HistoryRow, history_tree
from clew.protocols import HistoryQuery, Saved

AsJson = Annotated[bool, Option("--json", help="print JSON")]
Checkpoint = Annotated[str | None, Option(help="a past checkpoint instead of the newest")]
AnyTarget = Annotated[
    str | None, Argument(metavar="[MODULE:GRAPH]", help="the graph: with it, also what runs next and what is asked")
]
_TO_NODE = "branch:to:"


def state(
    thread: Thread,
    target: AnyTarget = None,
    checkpoint: Checkpoint = None,
    db: Database = DEFAULT_DB,
    as_json: AsJson = False,
) -> None:
    """Show a thread's state; without the graph, its stored values."""
    with open_saver(db) as saver:
        if target is None:
            found = stored_facts(saver, thread, checkpoint)
        else:
            found = snapshot_facts(load(target, saver), config(thread, None, checkpoint))
    if found is None:
        what = f"there is no thread {thread!r}" if checkpoint is None else f"thread {thread!r} has no {checkpoint!r}"
        raise CommandError(what, hint="`clew threads` and `clew history` list what there is")
    if as_json:
        show.results.print(to_json(found, indent=2))
        return
    values: Any = found.pop("values")
    for label, value in found.items():
        show.show_fact(label, value if isinstance(value, str) else to_json(value))
    by_name = cast("Mapping[str, Any]", values if isinstance(values, Mapping) else {"value": values})
    for name, value in by_name.items():
        show.results.print(Text.assemble((f"{name}: ", "bold"), to_json(value)))


def history(
    thread: Thread,
    limit: Annotated[int | None, Option(min=1, help="only the newest N checkpoints")] = None,
    db: Database = DEFAULT_DB,
    as_json: AsJson = False,
) -> None:
    """Show a thread's checkpoints as a tree: the oldest on top, forks beside the line to the newest."""
    with open_saver(db) as saver:
        found = saver.run(saver.session(thread).cursor().history(HistoryQuery(limit=limit), opaque=True))
    if not found:
        raise CommandError(f"there is no thread {thread!r}", hint="`clew threads` lists them")
    if as_json:
        rows = [facts(saved) | {"parent": saved.parent_id, "next": next_of(saved)} for saved in found]
        show.results.print(to_json(rows, indent=2))
        return
    show.results.print(Text(thread, style="bold"))
    tree = history_tree(
        HistoryRow(
            saved.checkpoint_id,
            saved.parent_id,
            saved.metadata.get("step"),
            saved.metadata.get("source", ""),
            next_of(saved),
            saved.created_at,
        )
        for saved in found
    )
    show.results.print(tree, end="")


def threads(db: Database = DEFAULT_DB, as_json: AsJson = False) -> None:
    """List the threads in a database: how many steps, and when the last one was."""
    with open_saver(db) as saver:
        found = saver.threads()
    if as_json:
        rows = [{"thread": one.thread_id, "steps": one.steps, "last": one.updated_at} for one in found]
        show.results.print(to_json(rows, indent=2))
        return
    for one in found:
        facts = f"{one.updated_at[:19]}  {one.steps:>6} steps  "
        show.results.print(Text.assemble((facts, "dim"), (one.thread_id, "bold")))
    if not found:
        show.notes.print("no threads")


def doctor(db: Database = DEFAULT_DB, as_json: AsJson = False) -> None:
    """Verify the file and every thread's chain of steps; status 1 if something is broken."""
    with open_saver(db) as saver:
        damage = saver.damage() if isinstance(saver, SqliteSaver) else list[str]()
        found = {one.thread_id: saver.verify(one.thread_id).problems for one in saver.threads()}
    broken = [thread for thread, problems in found.items() if problems]
    if as_json:
        rows: list[dict[str, Any]] = [{"thread": name, "problems": problems} for name, problems in found.items()]
        if damage:
            rows.insert(0, {"thread": None, "problems": [{"message": message} for message in damage]})
        show.results.print(to_json(rows, indent=2))
    else:
        for message in damage:
            show.results.print(Text.assemble(("✗ ", "bold red"), f"file: {message}"))
        for thread, problems in found.items():
            show.results.print(Text.assemble(("✗ ", "bold red") if problems else ("✓ ", "green"), thread))
            for problem in problems:
                place = " ".join(filter(None, (problem.checkpoint_id, problem.ns)))
                show.results.print(f"    {place}{': ' if place else ''}{problem.message}")
        show.results.print(f"{len(found)} threads, {len(broken)} broken")
    if broken or damage:
        raise Exit(1)


def snapshot_facts(graph: Any, where: dict[str, Any]) -> dict[str, Any] | None:
    """What the graph makes of a thread's checkpoint; None if there is none."""
    snapshot = graph.get_state(where)
    if snapshot.created_at is None:
        return None
    metadata: Mapping[str, Any] = snapshot.metadata or {}
    return {
        "checkpoint": snapshot.config["configurable"]["checkpoint_id"],
        "created": snapshot.created_at,
        "step": metadata.get("step"),
        "source": metadata.get("source"),
        "next": list(snapshot.next),
        "questions": [{"id": question.id, "value": question.value} for question in snapshot.interrupts],
        "values": snapshot.values,
    }


def stored_facts(saver: CheckpointSaver, thread: str, checkpoint: str | None) -> dict[str, Any] | None:
    """What storage alone knows of a thread's checkpoint; None if there is none."""
    saved = saver.run(saver.session(thread).cursor().load(checkpoint_id=checkpoint, opaque=True))
    if saved is None:
        return None
    # Names with a colon or double underscores are the graph's own bookkeeping.
    values = {name: value for name, value in saved.values.items() if ":" not in name and not name.startswith("__")}
    return facts(saved) | {"values": values}


def facts(saved: Saved) -> dict[str, Any]:
    return {
        "checkpoint": saved.checkpoint_id,
        "created": saved.created_at,
        "step": saved.metadata.get("step"),
        "source": saved.metadata.get("source"),
    }


def next_of(saved: Saved) -> list[str]:
    """The nodes that ran from a checkpoint, or would: as far as storage knows without the graph."""
    ran = [task.name for task in saved.pending if task.task_id != NULL_TASK_ID and task.name]
    due = [name.removeprefix(_TO_NODE) for name in saved.values if name.startswith(_TO_NODE)]
    sent = [send.node for send in saved.values.get(TASKS, ()) if hasattr(send, "node")]
    return list(dict.fromkeys(ran or [*due, *sent]))
