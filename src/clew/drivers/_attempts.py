"""What both drivers share about one attempt at a task: how its end is reported, and cutting engine frames."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import cast

from clew.engine import effects as fx
from clew.engine.task import Task
from clew.errors import GraphInterrupt, NodeCancelledError
from clew.types import Interrupt

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def ended(task: Task, error: BaseException, *, is_cancelled: bool = False) -> fx.Event:
    """The event for a task that raised."""
    questions = questions_of(error)
    if questions is not None:
        return fx.Interrupted(task, questions)
    asyncio = sys.modules.get("asyncio")  # not imported here for start-up time; what was never imported was not raised
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        if is_cancelled:
            return fx.Cancelled(task)
        error = NodeCancelledError(task.name)
    return fx.Failed(task, error.with_traceback(without_engine_frames(error.__traceback__)))


def questions_of(error: BaseException) -> tuple[Interrupt, ...] | None:
    """What an interrupt asks, or a group of nothing but interrupts; None for any other error."""
    if isinstance(error, GraphInterrupt):
        return tuple(error.interrupts)
    peer = sys.modules.get("langgraph.errors")  # never imported by clew: but its `RemoteGraph` may be a node here
    if peer is not None and isinstance(error, peer.GraphInterrupt):
        return tuple(Interrupt(each.value, each.id) for each in error.args[0])
    if not isinstance(error, BaseExceptionGroup):
        return None
    found: list[Interrupt] = []
    for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
        questions = questions_of(inner)
        if questions is None:
            return None
        found.extend(questions)
    return tuple(found)


def without_engine_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not clew's own; all of it when every frame is."""
    inner = traceback
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_HERE):
        inner = inner.tb_next
    return inner if inner is not None else traceback
