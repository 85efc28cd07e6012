"""`clew run`, `clew resume`, `clew fork`: the commands that move a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Literal, cast

from typer import Argument, Exit, Option

from clew.cli import _show as show
from clew.cli._database import VARIABLES, open_saver
from clew.cli._problem import CommandError
from clew.cli._target import load
from clew.cli._values import read_answer, read_json
from clew.types import Command

Target = Annotated[str, Argument(metavar="MODULE:GRAPH", help="a graph in a module, or in a file: app.py:graph")]
Thread = Annotated[str, Option("--thread", help="the thread's id")]
Database = Annotated[str, Option("--db", envvar=VARIABLES, help="path or URL of the database")]
Durability = Annotated[Literal["sync", "async", "exit"], Option(help="when a step has to be safe")]
Limit = Annotated[int | None, Option("--recursion-limit", min=1, help="at most so many supersteps")]

DEFAULT_DB = "./clew.db"


def run(
    target: Target,
    thread: Thread,
    input: Annotated[str, Option("--input", help="JSON, @FILE, or - for standard input")],
    db: Database = DEFAULT_DB,
    durability: Durability = "async",
    recursion_limit: Limit = None,
) -> None:
    """Run a graph on a thread with new input, and stream what each node wrote."""
    value = read_json(input, "--input")
    with open_saver(db, must_exist=False) as saver:
        graph = load(target, saver)
        until_stopped(stream(graph, value, config(thread, recursion_limit), durability), target, thread, db)


def resume(
    target: Target,
    thread: Thread,
    answer: Annotated[str | None, Option(help="the answer to the one open question: JSON, or plain text")] = None,
    answers: Annotated[str | None, Option(help="answers to several, as JSON: an object by question id")] = None,
    checkpoint: Annotated[str | None, Option(help="run again from this checkpoint, as a branch")] = None,
    db: Database = DEFAULT_DB,
    durability: Durability = "async",
    recursion_limit: Limit = None,
) -> None:
    """Go on with a thread: after a crash, a breakpoint or a question."""
    if answer is not None and answers is not None:
        raise CommandError("--answer and --answers exclude each other")
    value = read_answers(answer, answers)
    with open_saver(db) as saver:
        graph = load(target, saver)
        where = config(thread, recursion_limit, checkpoint)
        until_stopped(check_and_stream(graph, value, where, durability), target, thread, db)


def fork(
    target: Target,
    thread: Thread,
    checkpoint: Annotated[str, Option(help="the checkpoint to branch off from (`clew history` lists them)")],
    values: Annotated[str | None, Option(help="what to write there: JSON, @FILE, or -")] = None,
    as_node: Annotated[str | None, Option(help="the node to write as (default: the one that ran last)")] = None,
    db: Database = DEFAULT_DB,
) -> None:
    """Start a branch at a past checkpoint; the thread goes on from there, and nothing is lost."""
    written = None if values is None else read_json(values, "--values")
    with open_saver(db) as saver:
        graph = load(target, saver)
        where = config(thread, None, checkpoint)
        if graph.get_state(where).created_at is None:
            raise CommandError(f"thread {thread!r} has no checkpoint {checkpoint!r}", hint="`clew history` lists them")
        made = graph.update_state(where, written, as_node="__copy__" if values is None else as_node)
    show.show_fact("forked", f"thread {thread} at {checkpoint}")
    show.show_fact("checkpoint", made["configurable"]["checkpoint_id"])
    show.show_fact("go on", f"clew resume {target} --thread {thread} --db {db}")


def until_stopped(running: Coroutine[Any, Any, None], target: str, thread: str, db: str) -> None:
    """Run to the end; Ctrl-C ends with status 130 and says how to go on."""
    try:
        asyncio.run(running)
    except KeyboardInterrupt:
        go_on = f"clew resume {target} --thread {thread} --db {db}"
        show.notes.print(f"stopped    thread {thread}; `{go_on}` goes on after its last finished step")
        raise Exit(130) from None


def config(thread: str, recursion_limit: int | None = None, checkpoint: str | None = None) -> dict[str, Any]:
    """Where a command works: the thread, and the checkpoint on it if one is named."""
    configurable = {"thread_id": thread} | ({"checkpoint_id": checkpoint} if checkpoint else {})
    return {"configurable": configurable} | ({"recursion_limit": recursion_limit} if recursion_limit else {})


def read_answers(answer: str | None, answers: str | None) -> Command[Any] | None:
    if answer is not None:
        return Command(resume=read_answer(answer))
    if answers is None:
        return None
    by_id: Any = read_json(answers, "--answers")
    if not isinstance(by_id, dict):
        raise CommandError("--answers is not a JSON object of answers by question id")
    return Command(resume=cast("dict[str, Any]", by_id))


async def check_and_stream(graph: Any, value: Command[Any] | None, where: dict[str, Any], durability: str) -> None:
    """Resume, after making sure that there is something to go on with."""
    thread, checkpoint = where["configurable"]["thread_id"], where["configurable"].get("checkpoint_id")
    snapshot = await graph.aget_state(where)
    if snapshot.created_at is None:
        what = f"thread {thread!r} has no checkpoint {checkpoint!r}" if checkpoint else f"there is no thread {thread!r}"
        raise CommandError(what, hint="`clew threads` and `clew history` list what there is")
    if not snapshot.next:
        raise CommandError(f"thread {thread!r} has finished, nothing waits", hint="start again with `clew run`")
    if value is not None and not snapshot.interrupts:
        raise CommandError(f"thread {thread!r} waits for no answer", hint="go on without --answer")
    await stream(graph, value, where, durability)


async def stream(graph: Any, value: Any, where: dict[str, Any], durability: str) -> None:
    """Run on the asyncio driver, which serves sync and async nodes alike, and show what becomes visible."""
    async for update in graph.astream(value, where, stream_mode="updates", durability=durability):
        show.show_update(update)
    thread = where["configurable"]["thread_id"]
    snapshot = await graph.aget_state({"configurable": {"thread_id": thread}})
    show.show_questions(snapshot.interrupts)
    if snapshot.interrupts:
        show.show_fact("waiting", f"thread {thread}; answer with `clew resume ... --answer`")
    elif snapshot.next:
        show.show_fact("paused", f"thread {thread} before {', '.join(snapshot.next)}; go on with `clew resume`")
    else:
        show.show_fact("finished", f"thread {thread}")
