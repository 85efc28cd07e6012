"""Matching answers to questions. Pure.

Invariant: an answer reaches exactly one question, once; an answer that matches nothing is never silently taken by
another question.

Stored form, per task: `(__interrupt__, [questions asked last])`, `(__resume__, [answers to its own questions])` and,
when a subgraph inside of it asked, `(__resume__, {"__answers__": {question id: answer}})`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from clew.constants import INTERRUPT, RESUME
from clew.engine.program import Write
from clew.engine.project import interrupts_of, output_of
from clew.engine.task import Task
from clew.errors import AmbiguousResumeError, UnknownInterruptError
from clew.types import Interrupt, interrupt_id

_ID = re.compile(r"[0-9a-f]{32}\Z")
_INSIDE = "__answers__"
Pending = Mapping[str, Sequence[Write]]


def is_answer_map(resume: Any) -> bool:
    """Whether a resume value maps interrupt ids to answers (an empty dict does)."""
    if not isinstance(resume, dict):
        return False
    keys = cast("dict[Any, Any]", resume)  # user data
    return all(isinstance(key, str) and _ID.match(key) for key in keys)


def given_answers(stored: Sequence[Write]) -> tuple[list[Any], dict[str, Any]]:
    """A task's stored answers: to its own questions in order, and by id to those asked inside of it."""
    own: list[Any] = []
    inside: dict[str, Any] = {}
    for channel, value in stored:
        if channel == RESUME:
            answers: Any = value
            if isinstance(value, dict) and _INSIDE in value:
                inside.update(answers[_INSIDE])
            else:
                own = list(answers)
    return own, inside


def waiting(ns: str, stored: Sequence[Write]) -> tuple[Interrupt, ...]:
    """The questions of the task with namespace `ns` that wait for an answer; none when it has finished."""
    if output_of(stored):
        return ()
    asked = interrupts_of(stored)
    if not asked:
        return ()
    own, inside = given_answers(stored)
    answered = {interrupt_id(ns, index) for index in range(len(own))} | inside.keys()
    return tuple(question for question in asked if question.id not in answered)


def answer_map(
    resume: Any, tasks: Iterable[Task], pending: Pending, thread_id: str, *, is_strict: bool
) -> dict[str, Any]:
    """Which question each answer is for.

    Raises `AmbiguousResumeError` for one value when several questions wait, and under strict resume
    `UnknownInterruptError` for whatever does not match exactly.
    """
    ids = list(dict.fromkeys(q.id for task in tasks for q in waiting(task.ns, pending.get(task.id, ()))))
    if is_answer_map(resume):
        if is_strict and not resume:
            raise UnknownInterruptError("the resume map names no interrupt", reason="empty_map", pending_ids=ids)
        unknown = sorted(resume.keys() - set(ids))
        if is_strict and unknown:
            raise UnknownInterruptError(
                f"unknown or already-consumed interrupt {unknown[0]} on thread {thread_id!r}",
                reason="not_pending",
                interrupt_ids=unknown,
                pending_ids=ids,
            )
        return dict(resume)
    if len(ids) > 1:
        message = f"one resume value was given and {len(ids)} interrupts wait on thread {thread_id!r}"
        if is_strict:
            raise UnknownInterruptError(message, reason="ambiguous", pending_ids=ids)
        raise AmbiguousResumeError(
            f"{message}: when there are multiple pending interrupts, you must specify the interrupt id when resuming",
            hint="resume with Command(resume={interrupt_id: value, ...}); waiting ids: " + ", ".join(ids),
        )
    return {ids[0]: resume} if ids else {}


def without(stored: Sequence[Write], ns: str, refused: str) -> list[Write]:
    """A task's stored questions and answers, but for the answer to `refused` and those to its later questions."""
    own, inside = given_answers(stored)
    ids = [interrupt_id(ns, index) for index in range(len(own))]
    if refused in ids:
        own = own[: ids.index(refused)]
    writes = [write for write in stored if write[0] == INTERRUPT]
    if own:
        writes.append((RESUME, own))
    inside = {id: value for id, value in inside.items() if id != refused}
    if inside:
        writes.append((RESUME, {_INSIDE: inside}))
    return writes


def answered(ns: str, stored: Sequence[Write], answers: Mapping[str, Any]) -> list[Write] | None:
    """A task's stored writes with those of `answers` that are for it or for a subgraph inside; None when none is.

    `ns` is the namespace the task had when it asked.
    """
    own, inside = given_answers(stored)
    next_id = interrupt_id(ns, len(own))
    asked = {question.id for question in interrupts_of(stored)}
    news = {id: value for id, value in answers.items() if id in asked and id != next_id and id not in inside}
    if next_id not in answers and not news:
        return None
    if next_id in answers:
        own = [*own, answers[next_id]]
    inside = {**inside, **news}
    writes: list[Write] = [(INTERRUPT, list(interrupts_of(stored)))] if asked else []
    if own:
        writes.append((RESUME, own))
    if inside:
        writes.append((RESUME, {_INSIDE: inside}))
    return writes
