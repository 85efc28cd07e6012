"""Anything a caller can do to threads, in any order, on a real saver and on the reference model at the same time."""

from __future__ import annotations

import asyncio
import itertools
import operator
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import TypedDict

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import EmptyInputError, ThreadConflictError, UnknownInterruptError
from clew.graph import START, StateGraph
from clew.types import Command, interrupt
from tests.faults.parking import Background, Parking, park, settle
from tests.model.reference import NEXT, Checkpoint, Thread, forked, ran, updated, with_input

THREADS = ("one", "two", "three")
names = st.sampled_from(THREADS)
durabilities = st.sampled_from(("sync", "async", "exit"))
words = st.text("xyz", min_size=1, max_size=3)
notes = st.sampled_from(("curious", "quiet"))
RUN: dict[str, Any] = {
    "who": st.integers(0, 1),
    "durability": durabilities,
    "is_async": st.booleans(),
    "dies_at": st.one_of(st.just(0), st.integers(2, 30)),
}


_numbers = itertools.count(1)


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    note: str


def built(saver: Any) -> Any:
    def says(name: str) -> Any:
        return lambda state: {"log": [f"{name}{len(state['log'])}"]}

    def ask(state: Any) -> Any:
        return {"log": ["unasked" if state["note"] == "quiet" else f"answer {interrupt('?')}"]}

    graph = StateGraph(State)
    for name in ("a", "b", "end"):
        graph.add_node(name, says(name))
    graph.add_node("ask", ask)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge(["a", "b"], "ask")
    graph.add_edge("ask", "end")
    return graph.compile(checkpointer=saver)


def config(name: str, checkpoint: Checkpoint | None = None) -> Any:
    at = {} if checkpoint is None else {"checkpoint_id": checkpoint.id}
    return {"configurable": {"thread_id": name, **at}}


class ThreadMachine(RuleBasedStateMachine):
    """Threads on memory; see `FileThreadMachine` for SQLite. After every rule the whole history is compared."""

    def __init__(self) -> None:
        super().__init__()
        self.savers = self.opened()
        self.graphs = [built(saver) for saver in self.savers]
        self.model = {name: Thread() for name in THREADS}
        self.parked: list[tuple[Parking, Background]] = []

    def opened(self) -> list[Any]:
        return [InMemorySaver()]

    def teardown(self) -> None:
        """Runs that were abandoned wake up at last, and find that they are too late, or end."""
        for parking, run in self.parked:
            parking.gate.set()
            assert isinstance(run.join().error, ThreadConflictError | None)

    # Running

    def run(self, who: int, given: Any, at: Any, durability: str, is_async: bool) -> Any:
        graph = self.graphs[who % len(self.graphs)]
        if is_async:
            return asyncio.run(graph.ainvoke(given, at, durability=durability))
        return graph.invoke(given, at, durability=durability)

    def attempt(
        self, name: str, given: Any, at: Any, claimed: Sequence[Checkpoint], base: Checkpoint | None,
        answer: str | None, *, who: int, durability: str, is_async: bool, dies_at: int,
    ) -> None:  # fmt: skip
        """Run, or with `dies_at` abandon the run at that effect; then the model follows.

        `claimed` is the checkpoint that comes with the claim, if any; `base` what the run goes on from otherwise.
        """
        following = ran(claimed[0] if claimed else base, answer) if claimed or base else []
        made = [*claimed, *(following[-1:] if durability == "exit" else following)]
        if not dies_at:
            self.run(who, given, at, durability, is_async)
            self.follow(name, made)
            return
        asked = self.questions(name)
        parking, run = park(lambda: self.run(who, given, at, durability, is_async), dies_at)
        if not parking.at:
            assert run.join().error is None
            self.follow(name, made)
            return
        self.parked.append((parking, run))
        settle(self.savers[who % len(self.savers)])
        self.follow(name, made[: len(self.history(name)) - len(self.model[name].checkpoints)])
        thread = self.model[name]
        if answer is not None and asked and not self.questions(name) and thread.head is base and base is not None:
            thread.checkpoints[-1] = replace(base, answer=answer)

    def follow(self, name: str, made: Sequence[Checkpoint]) -> None:
        """Take checkpoints into the model, with the ids that they got."""
        thread = self.model[name]
        if not made:
            return
        ids = [one.config["configurable"]["checkpoint_id"] for one in self.history(name)]
        assert len(ids) == len(thread.checkpoints) + len(made)
        for one, id in zip(made, reversed(ids[: len(made)]), strict=True):
            parent = one.parent if one.source != "loop" else thread.checkpoints[-1].id
            thread.checkpoints.append(replace(one, id=id, parent=parent))

    def history(self, name: str) -> list[Any]:
        return list(self.graphs[-1].get_state_history(config(name)))

    def questions(self, name: str) -> int:
        return len(self.graphs[0].get_state(config(name)).interrupts)

    # Rules

    @rule(name=names, word=words, note=notes, **RUN)
    def invoke(self, name: str, word: str, note: str, **settings: Any) -> None:
        head = self.model[name].head
        given = {"log": [word], "note": note}
        self.attempt(name, given, config(name), [with_input(head, word, note)], head, None, **settings)

    @rule(name=names, **RUN)
    def go_on(self, name: str, **settings: Any) -> None:
        head = self.model[name].head
        if head is None:
            with pytest.raises(EmptyInputError, match="nothing to continue"):
                self.run(settings["who"], None, config(name), settings["durability"], settings["is_async"])
            return
        self.attempt(name, None, config(name), [], head, None, **settings)

    @rule(name=names, word=words, **RUN)
    def answer(self, name: str, word: str, **settings: Any) -> None:
        head = self.model[name].head
        if head is None or head.phase == "done":
            with pytest.raises(UnknownInterruptError, match="no question that waits"):
                self.run(
                    settings["who"], Command(resume=word), config(name), settings["durability"], settings["is_async"]
                )
        elif head.phase == "ask":
            self.attempt(name, Command(resume=word), config(name), [], head, word, **settings)

    @rule(name=names, where=st.integers(0, 50), **RUN)
    def replay(self, name: str, where: int, **settings: Any) -> None:
        thread = self.model[name]
        if not thread.checkpoints:
            return
        past = thread.checkpoints[where % len(thread.checkpoints)]
        goes_on = past is thread.head and past.source in ("update", "fork")
        if goes_on:
            thread.checkpoints[-1] = past = replace(past, answer=None)
        claimed = [] if goes_on else [forked(past)]
        self.attempt(name, None, config(name, past), claimed, past, None, **settings)

    @rule(name=names, where=st.integers(0, 50), word=words, who=st.integers(0, 1))
    def update(self, name: str, where: int, word: str, who: int) -> None:
        """Of the head, or of any checkpoint of the past."""
        thread = self.model[name]
        past = thread.checkpoints[where % len(thread.checkpoints)] if thread.checkpoints else None
        at = config(name) if past is thread.head else config(name, past)
        self.graphs[who % len(self.graphs)].update_state(at, {"log": [word]}, as_node="end")
        self.follow(name, [updated(past, word)])

    @rule(name=names, keep=st.integers(1, 6), who=st.integers(0, 1))
    def prune(self, name: str, keep: int, who: int) -> None:
        self.savers[who % len(self.savers)].prune([name], keep_last=keep)
        self.model[name] = self.model[name].pruned(keep)

    @rule(name=names, who=st.integers(0, 1))
    def delete(self, name: str, who: int) -> None:
        self.savers[who % len(self.savers)].delete_thread(name)
        self.model[name] = Thread()

    @precondition(lambda self: any(thread.head is None for thread in self.model.values()))
    @rule(source=names, who=st.integers(0, 1))
    def copy(self, source: str, who: int) -> None:
        target = next(name for name, thread in self.model.items() if thread.head is None)
        if self.model[source].head is not None:
            self.savers[who % len(self.savers)].copy_thread(source, target)
            self.model[target] = Thread(list(self.model[source].checkpoints))

    # What must always hold

    @invariant()
    def every_history_is_the_models(self) -> None:
        for name, thread in self.model.items():
            found = [
                {
                    "id": one.config["configurable"]["checkpoint_id"],
                    "parent": one.parent_config and one.parent_config["configurable"]["checkpoint_id"],
                    "values": one.values,
                    "next": one.next,
                    "step": one.metadata["step"],
                    "source": one.metadata["source"],
                }
                for one in self.history(name)
            ]
            expected = [
                {
                    "id": one.id,
                    "parent": one.parent,
                    "values": one.values,
                    "next": NEXT[one.phase],
                    "step": one.step,
                    "source": one.source,
                }
                for one in reversed(thread.checkpoints)
            ]
            assert found == expected

    @invariant()
    def every_chain_is_intact(self) -> None:
        for saver in self.savers:
            report = saver.verify()
            assert report.is_intact, report.problems


def server_machine(savers: tuple[Any, Any]) -> type[ThreadMachine]:
    """Threads in a PostgreSQL database that two savers share, each life in a tenant of its own."""

    class ServerThreadMachine(ThreadMachine):
        def opened(self) -> list[Any]:
            tenant = f"life {next(_numbers)}"
            return [saver.with_tenant(tenant) for saver in savers]

    return ServerThreadMachine


class FileThreadMachine(ThreadMachine):
    """Threads in a SQLite file that two savers share, as two processes would."""

    def opened(self) -> list[Any]:
        self.folder = tempfile.mkdtemp(prefix="clew-model-")
        path = str(Path(self.folder) / "clew.db")
        return [SqliteSaver(path, synchronous="NORMAL"), SqliteSaver(path, synchronous="NORMAL")]

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            for saver in self.savers:
                saver.close()
            shutil.rmtree(self.folder)
