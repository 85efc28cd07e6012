"""How rules and backends talk: a rule is a generator that yields named queries and is sent the rows they give."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Row = tuple[Any, ...]


class Query(NamedTuple):
    """A named query and its parameters, in the order of the query's text."""

    name: str
    params: tuple[Any, ...]


Steps = Generator[Query, list[Row], T]
Answer = Callable[[str, tuple[Any, ...]], list[Row]]


def drive(steps: Steps[T], answer: Answer) -> T:
    """Run a rule to its end on one backend; the only place where rules meet connections."""
    try:
        query = next(steps)
        while True:
            query = steps.send(answer(query[0], query[1]))
    except StopIteration as stop:
        return stop.value
