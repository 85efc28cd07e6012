"""What a thread should be, in a few lines: a list of checkpoints in the order in which they were committed.

The graph is fixed: `a` and `b` run beside each other, `ask` may ask a question, `end` ends. A checkpoint's phase says
what runs next; everything else follows from it and the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

NEXT = {"start": ("__start__",), "first": ("a", "b"), "ask": ("ask",), "end": ("end",), "done": ()}


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. `given` is input that was claimed and not yet applied; `id` is known once it was committed."""

    log: tuple[str, ...]
    note: str | None
    phase: str
    step: int
    source: str
    parent: str | None
    given: tuple[str, str] = ("", "")
    answer: str | None = None
    id: str = ""

    @property
    def values(self) -> dict[str, Any]:
        return {"log": list(self.log)} | ({} if self.note is None else {"note": self.note})


@dataclass
class Thread:
    """A thread's checkpoints, oldest first."""

    checkpoints: list[Checkpoint] = field(default_factory=list)

    @property
    def head(self) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None

    def pruned(self, keep: int) -> Thread:
        kept = self.checkpoints[-keep:]
        ids = {one.id for one in kept}
        return Thread([one if one.parent in ids else replace(one, parent=None) for one in kept])


def with_input(base: Checkpoint | None, word: str, note: str) -> Checkpoint:
    """Input drops what was still to run."""
    if base is None:
        return Checkpoint((), None, "start", -1, "input", None, (word, note))
    return Checkpoint(base.log, base.note, "start", base.step + 1, "input", base.id, (word, note))


def forked(base: Checkpoint) -> Checkpoint:
    """A copy of a checkpoint as its own child; an answer that it had been given is not taken along."""
    return replace(base, step=base.step + 1, source="fork", parent=base.id, answer=None, id="")


def updated(base: Checkpoint | None, word: str) -> Checkpoint:
    """An update as the last node: what was triggered by an edge is dropped, what waits at a join goes on waiting."""
    if base is None:
        return Checkpoint((word,), None, "done", 0, "update", None)
    phase = "ask" if base.phase == "ask" else "done"
    return Checkpoint((*base.log, word), base.note, phase, base.step + 1, "update", base.id)


def ran(base: Checkpoint, answer: str | None = None) -> list[Checkpoint]:
    """The checkpoints that a run makes after `base`, until it is done or asks; parents are filled in when known."""
    made: list[Checkpoint] = []
    now = base
    while (following := _step(now, answer)) is not None:
        made.append(following)
        now = following
    return made


def _step(now: Checkpoint, answer: str | None) -> Checkpoint | None:
    count = len(now.log)
    answer = now.answer if now.answer is not None else answer
    match now.phase:
        case "start":
            word, note = now.given
            log, phase, now = (*now.log, word), "first", replace(now, note=note)
        case "first":
            log, phase = (*now.log, f"a{count}", f"b{count}"), "ask"
        case "ask" if now.note == "quiet":
            log, phase = (*now.log, "unasked"), "end"
        case "ask" if answer is not None:
            log, phase = (*now.log, f"answer {answer}"), "end"
        case "end":
            log, phase = (*now.log, f"end{count}"), "done"
        case _:
            return None
    return Checkpoint(log, now.note, phase, now.step + 1, "loop", None)
