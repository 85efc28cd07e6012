"""How rules and backends talk: a rule is a generator that yields named queries and is sent the rows they give."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")
Row = tuple[Any, ...]


class Query(NamedTuple):
    """A named query and its parameters, in the order of the query's text."""

    name: str
    params: tuple[Any, ...]


class Together(NamedTuple):
    """Queries that do not need each other's answers; a rule that yields them is sent the rows of each, in a list. After
    those that are `last` the rule asks nothing more and does not raise: they may travel with the commit."""

    queries: tuple[Query, ...]
    is_last: bool = False


Steps = Generator[Query, list[Row], T]
"""A rule. One that yields `Together` says so by `ask`."""
Answer = Callable[[str, tuple[Any, ...]], list[Row]]


def ask(*queries: Query, is_last: bool = False) -> Steps[list[list[Row]]]:
    """Ask several things at once; gives the rows of each."""
    return cast("Any", (yield cast("Any", Together(queries, is_last))))


def drive(steps: Steps[T], answer: Answer) -> T:
    """Run a rule to its end on one backend; the only place where rules meet connections."""
    try:
        query: Any = next(steps)
        while True:
            if type(query) is Together:
                query = steps.send(cast("Any", [answer(*each) for each in query.queries]))
            else:
                query = steps.send(answer(query[0], query[1]))
    except StopIteration as stop:
        return stop.value
