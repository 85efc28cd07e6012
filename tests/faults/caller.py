"""A caller who tells a story to a saver, and who, after a crash, finds out from the thread where to go on.

Invariant: the caller knows nothing but its own ledger and what the thread shows; it never looks into storage.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clew.errors import ThreadConflictError
from clew.types import Interrupt
from tests.faults.ledger import Ledger, LedgerWorld
from tests.faults.stories import Action, Story

THREAD = "thread"
CONFIG: Any = {"configurable": {"thread_id": THREAD}}
MODES = ["tasks", "values"]


@dataclass
class Caller:
    """Tells `story` through one saver. `is_async`: under the asyncio driver."""

    story: Story
    saver: Any
    ledger: Ledger
    durability: Any = "sync"
    is_async: bool = False
    store: Any = None
    runner: asyncio.Runner | None = None  # the event loop that the saver belongs to, if it belongs to one

    def __post_init__(self) -> None:
        self.world = LedgerWorld(self.ledger)
        self.graph = self.story.build(self.world, self.is_async).compile(checkpointer=self.saver, store=self.store)

    def tell(self) -> None:
        """Go on from wherever the story stands, to its end."""
        done = len(self.ledger.lines("end"))
        for number in range(done, len(self.story.actions)):
            self.act(number, self.story.actions[number])

    def act(self, number: int, action: Action) -> None:
        self.world.is_repaired = self.world.is_repaired or any(
            earlier.repairs for earlier in self.story.actions[: number + 1]
        )
        state = self.state()
        asked: Sequence[Interrupt] = state.interrupts
        begun = [line for line in self.ledger.lines("begin") if line["number"] == number]
        head = state.config["configurable"].get("checkpoint_id")
        if begun and self.was_taken(begun[0], head, [question.id for question in asked]):
            given = None
        else:
            given = action.given(asked)
        self.ledger.add("begin", number=number, head=head, asked=[question.id for question in asked])
        status = self.run(given)
        self.ledger.add("end", number=number, status=status)
        assert status == action.ends, f"action {number} of {self.story.name} ended {status}"

    def state(self) -> Any:
        if self.runner is not None:
            return self.runner.run(self.graph.aget_state(CONFIG))
        return self.graph.get_state(CONFIG)

    def was_taken(self, begun: dict[str, Any], head: Any, asked: list[str]) -> bool:
        """Whether what was given before the crash is in the thread: it has moved, or the questions are answered."""
        return begun["head"] != head or not set(begun["asked"]) <= set(asked)

    def run(self, given: Any) -> str:
        try:
            if self.runner is not None:
                return self.runner.run(self.awatch(given))
            if self.is_async:
                return asyncio.run(self.awatch(given))
            status = "done"
            for mode, data in self.graph.stream(given, CONFIG, stream_mode=MODES, durability=self.durability):
                status = self.see(mode, data, status)
            return status
        except RuntimeError as error:
            if str(error) == "out of order":
                return "failed"
            raise

    async def awatch(self, given: Any) -> str:
        status = "done"
        stream = self.graph.astream(given, CONFIG, stream_mode=MODES, durability=self.durability)
        async for mode, data in stream:
            status = self.see(mode, data, status)
        return status

    def see(self, mode: str, data: Any, status: str) -> str:
        if mode == "tasks" and "result" in data:
            kind = "asked" if data["interrupts"] else "failed" if data["error"] else "seen"
            self.ledger.add(kind, key=data["id"], name=data["name"], ids=[one["id"] for one in data["interrupts"]])
        if mode == "values" and "__interrupt__" in data:
            return "interrupted"
        return status


class Racer(Caller):
    """A caller who shares the thread with others, and gives every one of its inputs until the thread has it."""

    def race(self, names: Sequence[str], *, retries: bool) -> None:
        """Give each name as input, noting what came of every try."""
        for name in names:
            while not self.has(name):
                try:
                    self.run({"log": [name], "total": 1})
                    outcome = "won"
                except ThreadConflictError:
                    outcome = "lost"
                self.ledger.add("raced", name=name, outcome=outcome)
                if not retries:
                    return
                if outcome == "lost":
                    time.sleep(random.uniform(0.0, 0.02))  # else all overtake each other for long

    def has(self, name: str) -> bool:
        return name in self.state().values.get("log", [])
