"""One storage operation, built and ready to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from clew.storage.query import Steps

if TYPE_CHECKING:
    from clew.storage.log import NewStep
    from clew.storage.session import LogSession

T = TypeVar("T")


class LogOp(Generic[T]):
    """One operation: `steps()` makes the rule anew for each attempt, `finish` turns its result into what is given.

    `done` runs after a write is durable. `size` is about how many bytes it keeps in memory while it waits. `append` is
    the step to write if the operation does nothing but append one to the root namespace's newest branch, the commonest
    by far: a backend may take that in one go, where the session's fence and the step's hold.
    """

    __slots__ = ("append", "done", "finish", "is_write", "kind", "session", "size", "steps")

    def __init__(
        self,
        session: LogSession,
        steps: Callable[[], Steps[Any]],
        *,
        kind: str,
        finish: Callable[[Any], T] | None = None,
        done: Callable[[], None] | None = None,
        size: int = 0,
        append: NewStep | None = None,
    ) -> None:
        self.append = append
        self.session = session
        self.steps = steps
        self.kind = kind
        self.is_write = kind != "read"
        self.finish = finish
        self.done = done
        self.size = size
