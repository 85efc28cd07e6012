"""A stand-in for the engine: runs that commit whole states through a saver's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clew.protocols import HistoryQuery, Saved, Step, TaskWrites
from clew.testing._kit import ConformanceError

TASK = "0f0e0d0c-0b0a-4908-8706-050403020100"


class Run:
    """One run on one thread, on one namespace; `state` is what the next commit stores, and may be changed in place."""

    def __init__(
        self, saver: Any, thread: str, ns: str = "", *, at: str | None = None, session: Any = None, run_id: str = ""
    ) -> None:
        self.saver = saver
        self.session = session or saver.session(thread)
        self.cursor = self.session.cursor(ns)
        self.run_id = run_id
        self.loaded: Saved | None = saver.run(self.cursor.load(checkpoint_id=at))
        self.state: dict[str, Any] = {} if self.loaded is None else self.loaded.values
        self.versions: dict[str, Any] = {} if self.loaded is None else dict(self.loaded.versions)
        self.seen: dict[str, dict[str, Any]] = {} if self.loaded is None else dict(self.loaded.seen)
        self.known: set[str] = set(self.state)

    def step(self, changed: Sequence[str] | None = None, *, writes: Sequence[TaskWrites] = (), **metadata: Any) -> Step:
        """The superstep that leads to `state`; all channels changed unless told."""
        names = list(self.known | set(self.state)) if changed is None else list(changed)
        version = max(self.versions.values(), default=0) + 1
        self.versions.update(dict.fromkeys(names, version))
        self.seen["node"] = dict.fromkeys(names[:2], version)
        self.known = set(self.state)
        if self.run_id:
            metadata["run_id"] = self.run_id
        return Step(
            metadata={"source": "loop", "step": version, **metadata},
            values={name: self.state[name] for name in names if name in self.state},
            versions=self.versions,
            seen=self.seen,
            changed=names,
            ran=["node"],
            updated=sorted(names),
            writes=writes,
        )

    def commit(self, changed: Sequence[str] | None = None, *, claim: bool = False, **kwargs: Any) -> str:
        """Commit `state`; gives the checkpoint's id."""
        committed = self.cursor.commit(self.step(changed, **kwargs), claim=claim)
        self.saver.run(committed.op)
        return committed.checkpoint_id

    def submit(self, **kwargs: Any) -> str:
        """Queue a commit of `state`."""
        committed = self.cursor.commit(self.step(**kwargs))
        self.saver.submit(self.session, committed.op)
        return committed.checkpoint_id

    def save(self, *writes: TaskWrites) -> None:
        """Save writes behind where the run stands."""
        self.saver.run(self.cursor.save_writes(writes))


def load(saver: Any, thread: str, ns: str = "", at: str | None = None) -> Saved | None:
    """A checkpoint, read by a session of its own."""
    return saver.run(saver.session(thread).cursor(ns).load(checkpoint_id=at))


def found(saver: Any, thread: str, ns: str = "", at: str | None = None) -> Saved:
    """A checkpoint that must be there, read by a session of its own."""
    saved = load(saver, thread, ns, at)
    if saved is None:
        raise ConformanceError(f"thread {thread!r} has no checkpoint in namespace {ns!r}")
    return saved


def history(saver: Any, thread: str, ns: str = "", **query: Any) -> list[Saved]:
    """A listing, read by a session of its own."""
    return saver.run(saver.session(thread).cursor(ns).history(HistoryQuery(**query)))


def write(value: Any, task_id: str = TASK, channel: str = "messages") -> TaskWrites:
    """One task's single write."""
    return TaskWrites(task_id, [(channel, value)], path=f"path {task_id}", name="node")
