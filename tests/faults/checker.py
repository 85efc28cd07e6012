"""The invariants of a thread after crashes, checked in one place against the ledger.

The numbers are those that the tests speak of: I1 a gapless chain whose every parent exists; I2 what was acknowledged
is there; I3 writes are reduced once; I4 a task is repeated at most once per crash, under the same key; I5 a task
whose end was stored is never repeated; I8 an answer counts once; I9 every checkpoint reads back as it was stored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from clew.engine.project import output_of
from tests.faults.caller import CONFIG, THREAD
from tests.faults.ledger import Ledger, LedgerWorld, attempts
from tests.faults.stories import Story


@dataclass(frozen=True)
class Stored:
    """What a thread holds at some moment: ids of tasks whose end is stored, and checkpoint ids, newest first."""

    finished: frozenset[str]
    chain: tuple[str, ...]


def stored(saver: Any) -> Stored:
    """Look into storage, in every namespace."""
    finished: set[str] = set()
    chain: tuple[str, ...] = ()
    for found in saver.list(None):
        by_task: dict[str, list[Any]] = {}
        for task_id, channel, value in found.pending_writes or ():
            by_task.setdefault(task_id, []).append((channel, value))
        finished |= {task_id for task_id, writes in by_task.items() if output_of(writes)}
        if not found.config["configurable"]["checkpoint_ns"]:
            chain = (*chain, found.config["configurable"]["checkpoint_id"])
    return Stored(frozenset(finished), chain)


@dataclass
class Checker:
    """Checks one story on one saver. `plain` is how often each node works when nothing goes wrong."""

    story: Story
    saver: Any
    ledger: Ledger
    durability: str
    plain: Counter[str]

    def after_crash(self) -> Stored:
        """What must hold at once after a process has died."""
        self.intact()
        found = stored(self.saver)
        if self.durability == "sync":
            has_caller = any(
                line["name"] == "caller" and line["key"] in found.finished for line in self.ledger.lines("ran")
            )
            unsaved = [
                line["name"]
                for line in self.ledger.lines("seen")
                if line["key"] not in found.finished and not (has_caller and line["name"] in self.story.children)
            ]  # a child task's result is dropped with the superstep that consumed its caller's
            assert not unsaved, f"I2: {unsaved} were shown as finished and are not stored"
        return found

    def at_end(self, crashes: int, *, before: Stored, seen_before: int) -> None:
        """What must hold when the story has been told to its end; `before` is what was stored after the crash."""
        self.intact()
        self.chain(before)
        self.values()
        self.attempts(crashes)
        ran_again = [line["name"] for line in self.ledger.lines("ran")[seen_before:] if line["key"] in before.finished]
        assert not ran_again, f"I5: {ran_again} had finished, and ran again"
        statuses = [line["status"] for line in self.ledger.lines("end")]
        assert statuses == [action.ends for action in self.story.actions]

    def intact(self) -> None:
        report = self.saver.verify(THREAD)
        assert report.is_intact, f"I1, I9: {report.problems}"

    def graph(self) -> Any:
        return self.story.build(LedgerWorld(self.ledger), False).compile(checkpointer=self.saver)

    def chain(self, before: Stored) -> None:
        """I1: one line of checkpoints, each the child of the one before, and what was there is still there."""
        history = list(self.graph().get_state_history(CONFIG))
        ids = [one.config["configurable"]["checkpoint_id"] for one in history]
        parents = [one.parent_config and one.parent_config["configurable"]["checkpoint_id"] for one in history]
        assert parents == [*ids[1:], None], "I1: the history is not one chain"
        assert tuple(ids[-len(before.chain) :] if before.chain else ()) == before.chain, "I1: history was rewritten"
        if self.durability != "exit":
            assert [one.metadata["step"] for one in history][::-1] == list(range(-1, len(ids) - 1))
        assert ids == sorted(ids, reverse=True)

    def values(self) -> None:
        """I3 and I8: every write in the final state is there once, answers among them."""
        state = self.graph().get_state(CONFIG)
        assert state.values == self.story.final
        assert not state.next
        assert not state.interrupts

    def attempts(self, crashes: int) -> None:
        """I4. A run that fails interrupts its other nodes as a crash does, where they cannot be saved any more."""
        crashes += sum(action.ends == "failed" for action in self.story.actions)
        for name, count in attempts(self.ledger, "name").items():
            assert count <= self.plain[name] * (1 + crashes), f"I4: {name} worked {count} times"
        assert set(attempts(self.ledger, "name")) == set(self.plain), "I4: a node never worked"
        if self.durability == "sync":
            for key, count in attempts(self.ledger).items():
                assert count <= 1 + crashes, f"I4: {key} worked {count} times"
            assert len(attempts(self.ledger)) == self.plain.total(), "I4: a task was repeated under another key"
