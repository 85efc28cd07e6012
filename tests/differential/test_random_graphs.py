"""Random graphs give the same states, questions and history on both libraries."""

from __future__ import annotations

import asyncio
import operator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from tests.differential.library import library
from tests.differential.observe import Observer, Raised, attempt, differences
from tests.differential.programs_state_api import short

NAMES = ("a", "b", "c", "d", "e")


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    count: Annotated[int, operator.add]


@dataclass(frozen=True)
class Plan:
    """A graph over `NAMES`; edges go from earlier to later names, so that every run ends, but for one loop."""

    edges: frozenset[tuple[str, str]]
    joins: frozenset[tuple[str, str, str]]
    choices: frozenset[tuple[str, str, str]]
    sends: frozenset[tuple[str, str]]
    deferred: frozenset[str]
    asking: frozenset[str]
    goes: frozenset[tuple[str, str]]
    loop: bool
    breakpoints: frozenset[str]
    nested: frozenset[str] = frozenset()

    def starts(self) -> list[str]:
        reached = {end for _, end in self.edges | self.sends | self.goes} | {end for _, _, end in self.joins}
        reached |= {name for _, one, other in self.choices for name in (one, other)}
        return [name for name in NAMES if name not in reached] or ["a"]


def forward(count: int) -> Any:
    names = st.lists(st.sampled_from(NAMES), min_size=count, max_size=count, unique=True).map(sorted).map(tuple)
    return st.frozensets(names, max_size=3)


some = st.frozensets(st.sampled_from(NAMES), max_size=2)
plans = st.builds(
    Plan,
    edges=forward(2).flatmap(lambda first: forward(2).map(first.union)),
    joins=forward(3).filter(lambda joins: len(joins) < 3),
    choices=forward(3).filter(lambda choices: len({one for one, _, _ in choices}) == len(choices)),
    sends=forward(2).filter(lambda sends: len({one for one, _ in sends}) == len(sends) < 3),
    deferred=some,
    asking=some,
    goes=forward(2).filter(lambda goes: len({one for one, _ in goes}) == len(goes) < 3),
    loop=st.booleans(),
    breakpoints=st.one_of(st.just(frozenset()), some),
    nested=st.one_of(st.just(frozenset()), some),
)


def node(lib: Any, plan: Plan, name: str) -> Any:
    goto = [end for start, end in plan.goes if start == name]

    def run(state: Any) -> Any:
        log = [f"{name} {state.get('count', 0)}"]
        if name in plan.asking:
            log.append(lib.interrupt(f"{name}?"))
        update = {"log": log, "count": 1}
        return lib.Command(update=update, goto=goto) if goto else update

    return run


def inner(lib: Any, plan: Plan, name: str) -> Any:
    """A graph of two nodes in the place of a node; the second one asks if the node is to ask."""
    builder = lib.StateGraph(State)
    builder.add_node("first", lambda state: {"log": [f"{name} first"], "count": 1})
    can_ask = name in plan.asking
    builder.add_node("second", lambda state: {"log": [lib.interrupt(f"{name}!") if can_ask else f"{name} second"]})
    builder.add_edge(lib.START, "first").add_edge("first", "second")
    return builder.compile()


def build(lib: Any, plan: Plan) -> Any:
    builder = lib.StateGraph(State)
    for name in NAMES:
        is_nested = name in plan.nested and name not in {start for start, _ in plan.goes}
        action = inner(lib, plan, name) if is_nested else node(lib, plan, name)
        builder.add_node(name, action, defer=name in plan.deferred)
    for name in plan.starts():
        builder.add_edge(lib.START, name)
    for start, end in sorted(plan.edges):
        builder.add_edge(start, end)
    for one, other, end in sorted(plan.joins):
        builder.add_edge([one, other], end)
    for start, one, other in sorted(plan.choices):

        def choose(state: Any, one: str = one, other: str = other) -> str:
            return one if state.get("count", 0) % 2 else other

        builder.add_conditional_edges(start, choose, [one, other])
    for start, end in sorted(plan.sends):

        def send(state: Any, end: str = end) -> list[Any]:
            return [lib.Send(end, {"count": 100}), lib.Send(end, {"count": 200})]

        builder.add_conditional_edges(start, send, [end])
    if plan.loop:

        def again(state: Any) -> str:
            return "a" if state.get("count", 0) < 9 else lib.END

        builder.add_conditional_edges("e", again, ["a", lib.END])
    return builder.compile(checkpointer=lib.InMemorySaver(), interrupt_before=sorted(plan.breakpoints) or None)


def shown(parts: Any) -> Any:
    """The states streamed, and the questions apart: those of parallel nodes come in the order of finishing."""
    states: list[Any] = []
    questions: list[str] = []
    for part in parts:
        questions += [one.value for one in part.get("__interrupt__", ()) if one.value]
        states += [{key: value for key, value in part.items() if key != "__interrupt__"}]
    return [[state for state in states if state], sorted(questions)]


def run(graph: Any, given_now: Any, config: Any, is_async: bool) -> Any:
    options = {"stream_mode": "values", "durability": "sync"}

    async def collect() -> list[Any]:
        return [part async for part in graph.astream(given_now, config, **options)]

    return shown(asyncio.run(collect()) if is_async else graph.stream(given_now, config, **options))


def converse(lib: Any, plan: Plan, *, is_async: bool = False) -> Any:
    """Run until nothing is left to answer or to continue, 12 turns at most; everything that was seen.

    Under durability "sync", as the peer may otherwise save a join's state after the next superstep has changed it.
    """
    config = {**lib.config(), "recursion_limit": 25}
    graph = build(lib, plan)
    given_now: Any = {"log": ["in"]}
    seen: list[Any] = []
    for turn in range(12):
        seen.append(attempt(lambda given=given_now: run(graph, given, config, is_async)))
        state = graph.get_state(config)
        seen.append([state.values, state.next])
        if not state.next:
            break
        answers = {one.id: f"answer {one.value} {turn}" for one in state.interrupts}
        given_now = lib.Command(resume=answers) if answers else None
    seen.append([{**short(past), "tasks": len(past.tasks)} for past in graph.get_state_history(config)])
    return seen


def travel(lib: Any, plan: Plan, place: int) -> Any:
    """Go back to the checkpoint at `place` of a conversation's history: replay it, then fork it with an update."""
    config = {**lib.config(), "recursion_limit": 25}
    graph = build(lib, plan)
    attempt(lambda: run(graph, {"log": ["in"]}, config, False))
    past = list(graph.get_state_history(config))
    there = past[place % len(past)]
    seen: list[Any] = [there.next, attempt(lambda: run(graph, None, there.config, False))]
    seen.append([graph.get_state(config).values, graph.get_state(config).next])
    forked = attempt(lambda: graph.update_state(there.config, {"log": ["forked"]}))
    seen.append(forked if isinstance(forked, Raised) else graph.get_state(forked).next)
    if not isinstance(forked, Raised):
        seen.append(attempt(lambda: run(graph, None, forked, False)))
    seen.append([{**short(one), "tasks": len(one.tasks)} for one in graph.get_state_history(config)])
    return seen


@pytest.mark.filterwarnings("default")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(plans, st.integers(0, 12))
def test_random_graph_is_replayed_and_forked_the_same_on_both(plan: Plan, place: int) -> None:
    peer = Observer().plain(travel(library("langgraph"), plan, place))

    found = list(differences(peer, Observer().plain(travel(library("clew"), plan, place))))

    assert not found, "\n".join(found[:20])


@pytest.mark.filterwarnings("default")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(plans, st.booleans())
def test_random_graph_runs_the_same_on_both(plan: Plan, is_async: bool) -> None:
    peer = Observer().plain(converse(library("langgraph"), plan))

    found = list(differences(peer, Observer().plain(converse(library("clew"), plan, is_async=is_async))))

    assert not found, "\n".join(found[:20])
