"""The three durabilities: which save is waited for, which is queued, which is held back to the end.

Pure decisions about storage operations; the drivers run them. Invariant: a claim is waited for in every mode, and
saves of a run reach storage in the order in which the engine asked for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from clew.engine import effects as fx
from clew.ids import checkpoint_id
from clew.protocols import Cursor, Op, Step, TaskWrites

_NONE: tuple[Any, ...] = ()


@dataclass(slots=True)
class Plan:
    """What to do for one effect: run `op` and wait, or queue it; answer the engine with `reply`."""

    op: Op[Any] | None = None
    waits: bool = False
    flushes: bool = False
    reply: Any = None


class Saving:
    """The saves of one run in one namespace, under one durability.

    `keeps_quiet`: under `exit`, a subgraph without memory of its own saves only when it is interrupted or fails.
    """

    __slots__ = ("cursor", "durability", "held", "held_id", "held_writes", "keeps_quiet", "last_id")

    def __init__(
        self, cursor: Cursor, durability: Literal["sync", "async", "exit"], *, keeps_quiet: bool = False
    ) -> None:
        self.cursor = cursor
        self.durability = durability
        self.keeps_quiet = keeps_quiet and durability == "exit"
        self.held: Step | None = None
        self.held_id: str | None = None
        self.held_writes: dict[str, TaskWrites] = {}
        self.last_id: str | None = None

    def commit(self, effect: fx.Commit) -> Plan:
        """Save a checkpoint, now or (under `exit`) merged with those that follow."""
        if self.durability == "exit" and not effect.claim:
            self.held = _merged(self.held, effect.step)
            self.held_writes.clear()
            made = checkpoint_id(self.last_id)
            self.held_id = self.last_id = made
            return Plan(reply=fx.Stamp(made, ""))
        committed = self.cursor.commit(effect.step, claim=effect.claim)
        self.last_id = committed.checkpoint_id
        waits = effect.claim or self.durability == "sync"
        return Plan(committed.op, waits, reply=fx.Stamp(committed.checkpoint_id, committed.created_at))

    def claim(self, effect: fx.Claim) -> Plan:
        """Take the thread; always waited for."""
        return Plan(self.cursor.claim(effect.writes), waits=True)

    def save_writes(self, effect: fx.SaveWrites) -> Plan:
        """Save tasks' writes, now or (under `exit`) if the run ends within this superstep.

        Under `exit` even a barrier is held back behind a checkpoint that is: saving it would publish half a run.
        """
        if self.durability == "exit" and (self.held is not None or not effect.is_barrier):
            self.held_writes.update((writes.task_id, writes) for writes in effect.writes)
            return Plan()
        return Plan(self.cursor.save_writes(effect.writes), waits=effect.is_barrier or self.durability == "sync")

    def flush(self, effect: fx.Flush) -> list[Plan]:
        """Make durable what is held back, and wait for all that is queued."""
        plans: list[Plan] = []
        if self.durability == "exit" and not (self.keeps_quiet and not effect.is_failed):
            released = self._release()
            if released.op is not None:
                plans.append(released)
            if self.held_writes:
                plans.append(Plan(self.cursor.save_writes(list(self.held_writes.values())), waits=True))
                self.held_writes.clear()
        plans.append(Plan(flushes=True))
        return plans

    def _release(self) -> Plan:
        if self.held is None:
            return Plan()
        committed = self.cursor.commit(self.held, checkpoint_id=self.held_id)
        self.held = self.held_id = None
        return Plan(committed.op, waits=True)


def _merged(held: Step | None, step: Step) -> Step:
    """One checkpoint instead of two: the later state, with everything that changed since the last saved one."""
    if held is None:
        return replace(step, writes=_NONE)
    changed = {*held.changed, *step.changed}
    earlier = {name: value for name, value in held.values.items() if name not in set(step.changed)}
    return replace(
        step, values={**earlier, **step.values}, changed=changed, ran=_both(held.ran, step.ran), writes=_NONE
    )


def _both(first: Any, second: Any) -> Sequence[str]:
    return list(dict.fromkeys([*first, *second]))
