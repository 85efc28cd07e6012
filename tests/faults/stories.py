"""Small workflows with a known end, told in actions, that every fault test interrupts somewhere.

Each node notes in a world outside of the thread that it ran, under its task's id: what the thread remembers is compared
with what really happened. Invariant: a story's final state does not depend on who finishes first, and every write in
it is unique, so that a write that was lost or reduced twice shows in the state.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from typing_extensions import TypedDict

from clew.func import task
from clew.graph import END, START, StateGraph
from clew.runtime import Runtime
from clew.types import Command, Interrupt, RetryPolicy, Send, interrupt


class World(Protocol):
    """What is outside of the thread. `is_repaired` is what a person changes between two runs."""

    is_repaired: bool

    def note(self, key: str, name: str) -> None:
        """A node called `name` did its work for the task `key`."""
        ...


@dataclass
class Notes:
    """A world in memory."""

    ran: list[tuple[str, str]] = field(default_factory=list)
    is_repaired: bool = False

    def note(self, key: str, name: str) -> None:
        self.ran.append((key, name))


class Log(TypedDict):
    log: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]


Asked = Sequence[Interrupt]


@dataclass(frozen=True)
class Action:
    """One thing a caller does. `given` makes the input from the questions that wait.

    `ends`: the status the run has when nothing interrupts it. `repairs`: the world is repaired before it.
    """

    given: Callable[[Asked], Any]
    ends: str = "done"
    repairs: bool = False


@dataclass(frozen=True)
class Story:
    """`build(world, is_async)` gives an uncompiled graph; `final` is the state at the end."""

    name: str
    build: Callable[[World, bool], Any]
    actions: tuple[Action, ...]
    final: dict[str, Any]
    children: tuple[str, ...] = ()
    has_subgraph: bool = False
    needs_store: bool = False


def begin(ends: str = "done", **given: Any) -> Action:
    return Action(lambda _: {"log": ["in"], "total": 1, **given}, ends)


def answer(value: Callable[[Interrupt], Any], ends: str = "done", pick: slice = slice(None)) -> Action:
    """Answer the questions that `pick` selects, in the order of their values."""

    def given(asked: Asked) -> Any:
        chosen = sorted(asked, key=lambda question: str(question.value))[pick]
        return Command(resume={question.id: value(question) for question in chosen})

    return Action(given, ends)


def say(world: World, name: str, **more: Any) -> Callable[..., Any]:
    """A node that writes its name."""

    def node(state: Any, runtime: Runtime[Any]) -> Any:
        world.note(runtime.execution_info.task_id, name)
        return {"log": [name], "total": 10, **more}

    return node


def counter(world: World, name: str) -> Callable[..., Any]:
    """A node that writes how much it sees."""

    def node(state: Any, runtime: Runtime[Any]) -> Any:
        world.note(runtime.execution_info.task_id, name)
        return {"log": [f"{name}{len(state['log'])}:{state['total']}"], "total": 100}

    return node


def _parallel(world: World, is_async: bool) -> Any:
    graph = StateGraph(Log)
    for name in "abc":
        graph.add_node(name, say(world, name))
        graph.add_edge(START, name)
    graph.add_node("late", say(world, "late"))
    graph.add_edge("a", "late")
    graph.add_node("join", counter(world, "join"))
    graph.add_edge(["late", "b", "c"], "join")
    return graph


def _fan_out(world: World, is_async: bool) -> Any:
    def work(given: Any, runtime: Runtime[Any]) -> Any:
        world.note(runtime.execution_info.task_id, f"work{given['n']}")
        return {"log": [f"w{given['n']}"], "total": given["n"]}

    def spread(state: Any) -> list[Send]:
        return [Send("work", {"n": n}) for n in range(4)]

    graph = StateGraph(Log)
    graph.add_node("plan", say(world, "plan"))
    graph.add_node("work", work)
    graph.add_node("gather", counter(world, "gather"))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", spread, ["work"])
    graph.add_edge("work", "gather")
    return graph


def _loop(world: World, is_async: bool) -> Any:
    def again(state: Any) -> str:
        return "left" if state["total"] < 400 else END

    graph = StateGraph(Log)
    graph.add_node("left", counter(world, "l"))
    graph.add_node("right", counter(world, "r"))
    graph.add_edge(START, "left")
    graph.add_edge("left", "right")
    graph.add_conditional_edges("right", again, ["left", END])
    return graph


def _commands(world: World, is_async: bool) -> Any:
    def decide(state: Any, runtime: Runtime[Any]) -> Any:
        world.note(runtime.execution_info.task_id, "decide")
        return Command(update={"log": ["decide"]}, goto=["x", Send("y", {"log": ["sent"]})])

    def sent(state: Any, runtime: Runtime[Any]) -> Any:
        world.note(runtime.execution_info.task_id, "y")
        return {"log": [f"y<{state['log'][0]}>"]}

    graph = StateGraph(Log)
    graph.add_node("decide", decide)
    graph.add_node("x", say(world, "x"))
    graph.add_node("y", sent)
    graph.add_edge(START, "decide")
    return graph


def _questions(world: World, is_async: bool) -> Any:
    def twice(state: Any, runtime: Runtime[Any]) -> Any:
        first = interrupt("1st")
        second = interrupt("3rd")
        world.note(runtime.execution_info.task_id, "twice")
        return {"log": [f"twice:{first}{second}"]}

    def once(state: Any, runtime: Runtime[Any]) -> Any:
        value = interrupt("2nd")
        world.note(runtime.execution_info.task_id, "once")
        return {"log": [f"once:{value}"]}

    graph = StateGraph(Log)
    graph.add_node("twice", twice)
    graph.add_node("once", once)
    graph.add_node("plain", say(world, "plain"))
    graph.add_node("end", counter(world, "end"))
    for name in ("twice", "once", "plain"):
        graph.add_edge(START, name)
    graph.add_edge(["twice", "once", "plain"], "end")
    return graph


def _approval(world: World, is_async: bool) -> Any:
    def approve(state: Any, runtime: Runtime[Any]) -> Any:
        value = interrupt("go on?")
        world.note(runtime.execution_info.task_id, "approve")
        return {"log": [f"approved:{value}"]}

    graph = StateGraph(Log)
    graph.add_node("draft", say(world, "draft"))
    graph.add_node("approve", approve)
    graph.add_node("send", counter(world, "send"))
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "approve")
    graph.add_edge("approve", "send")
    return graph


def _handler(world: World, is_async: bool) -> Any:
    def breaks(state: Any, runtime: Runtime[Any]) -> Any:
        world.note(runtime.execution_info.task_id, "breaks")
        raise ValueError("broken")

    def mend(state: Any, runtime: Runtime[Any], error: Any) -> Any:
        world.note(runtime.execution_info.task_id, "mend")
        return {"log": [f"mended {error.node}"]}

    graph = StateGraph(Log)
    graph.add_node("breaks", breaks, error_handler=mend)
    graph.add_node("well", say(world, "well"))
    graph.add_node("end", counter(world, "end"))
    graph.add_edge(START, "breaks")
    graph.add_edge(START, "well")
    graph.add_edge("well", "end")
    return graph


def _retries(world: World, is_async: bool) -> Any:
    def shaky(state: Any, runtime: Runtime[Any]) -> Any:
        if runtime.execution_info.node_attempt < 3:
            raise ConnectionError("not yet")
        world.note(runtime.execution_info.task_id, "shaky")
        return {"log": ["shaky"]}

    graph = StateGraph(Log)
    policy = RetryPolicy(initial_interval=0.0, max_attempts=3, jitter=False)
    graph.add_node("shaky", shaky, retry_policy=policy)
    graph.add_node("calm", say(world, "calm"))
    graph.add_node("end", counter(world, "end"))
    graph.add_edge(START, "shaky")
    graph.add_edge(START, "calm")
    graph.add_edge(["shaky", "calm"], "end")
    return graph


def _repair(world: World, is_async: bool) -> Any:
    def breaks(state: Any, runtime: Runtime[Any]) -> Any:
        if not world.is_repaired:
            raise RuntimeError("out of order")
        world.note(runtime.execution_info.task_id, "breaks")
        return {"log": ["breaks"]}

    graph = StateGraph(Log)
    graph.add_node("breaks", breaks)
    for name in "ab":
        graph.add_node(name, say(world, name))
        graph.add_edge(START, name)
    graph.add_node("end", counter(world, "end"))
    graph.add_edge(START, "breaks")
    graph.add_edge(["a", "b", "breaks"], "end")
    return graph


def _children(world: World, is_async: bool) -> Any:
    @task
    def double(n: int, *, runtime: Runtime[Any]) -> int:
        world.note(runtime.execution_info.task_id, f"double{n}")
        return 2 * n

    def caller(state: Any, runtime: Runtime[Any]) -> Any:
        first = double(1).result()
        both = double(first + 1), double(first + 2)
        world.note(runtime.execution_info.task_id, "caller")
        return {"log": [f"calls:{first},{both[0].result()},{both[1].result()}"]}

    async def acaller(state: Any, runtime: Runtime[Any]) -> Any:
        first = await double(1)
        both = double(first + 1), double(first + 2)
        second, third = await both[0], await both[1]
        world.note(runtime.execution_info.task_id, "caller")
        return {"log": [f"calls:{first},{second},{third}"]}

    graph = StateGraph(Log)
    graph.add_node("caller", acaller if is_async else caller)
    graph.add_node("other", say(world, "other"))
    graph.add_node("end", counter(world, "end"))
    graph.add_edge(START, "caller")
    graph.add_edge(START, "other")
    graph.add_edge(["caller", "other"], "end")
    return graph


def _asking_child(world: World, is_async: bool) -> Any:
    @task
    def prepare(n: int, *, runtime: Runtime[Any]) -> int:
        world.note(runtime.execution_info.task_id, f"prepare{n}")
        return n + 1

    @task
    def ask(n: int, *, runtime: Runtime[Any]) -> str:
        value = interrupt(f"is it {n}?")
        world.note(runtime.execution_info.task_id, "ask")
        return f"{n}:{value}"

    def caller(state: Any, runtime: Runtime[Any]) -> Any:
        said = ask(prepare(1).result()).result()
        world.note(runtime.execution_info.task_id, "caller")
        return {"log": [said]}

    async def acaller(state: Any, runtime: Runtime[Any]) -> Any:
        said = await ask(await prepare(1))
        world.note(runtime.execution_info.task_id, "caller")
        return {"log": [said]}

    graph = StateGraph(Log)
    graph.add_node("caller", acaller if is_async else caller)
    graph.add_node("end", counter(world, "end"))
    graph.add_edge(START, "caller")
    graph.add_edge("caller", "end")
    return graph


def _subgraph(world: World, is_async: bool) -> Any:
    def ask(state: Any, runtime: Runtime[Any]) -> Any:
        value = interrupt("inside?")
        world.note(runtime.execution_info.task_id, "ask")
        return {"log": [f"asked:{value}"]}

    inner = StateGraph(Log)
    inner.add_node("first", say(world, "first"))
    inner.add_node("second", say(world, "second"))
    inner.add_node("ask", ask)
    inner.add_edge(START, "first")
    inner.add_edge(START, "second")
    inner.add_edge(["first", "second"], "ask")
    outer = StateGraph(Log)
    compiled = inner.compile()

    def inside(state: Any, runtime: Runtime[Any]) -> Any:
        made = compiled.invoke({"log": [], "total": 0})
        world.note(runtime.execution_info.task_id, "inside")
        return made

    async def ainside(state: Any, runtime: Runtime[Any]) -> Any:
        made = await compiled.ainvoke({"log": [], "total": 0})
        world.note(runtime.execution_info.task_id, "inside")
        return made

    outer.add_node("inside", ainside if is_async else inside)
    outer.add_node("beside", say(world, "beside"))
    outer.add_node("end", counter(world, "end"))
    outer.add_edge(START, "inside")
    outer.add_edge(START, "beside")
    outer.add_edge(["inside", "beside"], "end")
    return outer


def _scopes(world: World, is_async: bool) -> Any:
    """Three subgraphs side by side: saved for the run, saved for good, and not saved at all."""

    def ask(state: Any, runtime: Runtime[Any]) -> Any:
        value = interrupt("inside?")
        world.note(runtime.execution_info.task_id, "ask")
        return {"log": [f"asked:{value}"]}

    passing = StateGraph(Log)
    passing.add_node("first", say(world, "first"))
    passing.add_node("second", say(world, "second"))
    passing.add_edge(START, "first")
    passing.add_edge("first", "second")
    kept = StateGraph(Log)
    kept.add_node("third", say(world, "third"))
    kept.add_node("ask", ask)
    kept.add_edge(START, "third")
    kept.add_edge("third", "ask")
    unsaved = StateGraph(Log)  # its tasks have other ids in each attempt
    unsaved.add_node("fourth", lambda state: {"log": ["fourth"]})
    unsaved.add_edge(START, "fourth")

    def calling(name: str, compiled: Any) -> Any:
        def inside(state: Any, runtime: Runtime[Any]) -> Any:
            made = compiled.invoke({"log": [], "total": 0})
            world.note(runtime.execution_info.task_id, name)
            return made

        async def ainside(state: Any, runtime: Runtime[Any]) -> Any:
            made = await compiled.ainvoke({"log": [], "total": 0})
            world.note(runtime.execution_info.task_id, name)
            return made

        return ainside if is_async else inside

    outer = StateGraph(Log)
    outer.add_node("a_passing", calling("a_passing", passing.compile()))
    outer.add_node("b_kept", calling("b_kept", kept.compile(checkpointer=True)))
    outer.add_node("c_unsaved", calling("c_unsaved", unsaved.compile(checkpointer=False)))
    outer.add_node("end", counter(world, "end"))
    for name in ("a_passing", "b_kept", "c_unsaved"):
        outer.add_edge(START, name)
    outer.add_edge(["a_passing", "b_kept", "c_unsaved"], "end")
    return outer


def _storing(world: World, is_async: bool) -> Any:
    def puts(state: Any, runtime: Runtime[Any]) -> Any:
        assert runtime.store is not None
        key = runtime.execution_info.task_id
        known = runtime.store.search(("done",))
        assert [item.key for item in known] in ([], [key])
        runtime.store.put(("done",), key, {"times": 1 + sum(item.value["times"] for item in known)})
        world.note(key, "puts")
        return {"log": ["puts"]}

    def looks(state: Any, runtime: Runtime[Any]) -> Any:
        assert runtime.store is not None
        world.note(runtime.execution_info.task_id, "looks")
        return {"log": [f"{len(runtime.store.search(('done',)))} item"]}

    graph = StateGraph(Log)
    graph.add_node("puts", puts)
    graph.add_node("looks", looks)
    graph.add_edge(START, "puts")
    graph.add_edge("puts", "looks")
    return graph


STORIES = (
    Story("parallel", _parallel, (begin(),), {"log": ["in", "a", "b", "c", "late", "join5:41"], "total": 141}),
    Story(
        "fan_out", _fan_out, (begin(),), {"log": ["in", "plan", "w0", "w1", "w2", "w3", "gather6:17"], "total": 117}
    ),
    Story(
        "loop", _loop, (begin(),), {"log": ["in", "l1:1", "r2:101", "l3:201", "r4:301"], "total": 401},
    ),
    Story("commands", _commands, (begin(),), {"log": ["in", "decide", "x", "y<sent>"], "total": 11}),
    Story(
        "approval",
        _approval,
        (begin("interrupted"), Action(lambda _: Command(resume="yes"))),
        {"log": ["in", "draft", "approved:yes", "send3:11"], "total": 111},
    ),
    Story(
        "questions",
        _questions,
        (
            begin("interrupted"),
            answer(lambda q: q.value[0], "interrupted", slice(0, 2)),
            Action(lambda _: Command(resume="x")),
        ),
        {"log": ["in", "once:2", "plain", "twice:1x", "end4:11"], "total": 111},
    ),
    Story("handler", _handler, (begin(),), {"log": ["in", "mended breaks", "well", "end3:11"], "total": 111}),
    Story("retries", _retries, (begin(),), {"log": ["in", "calm", "shaky", "end3:11"], "total": 111}),
    Story(
        "repair",
        _repair,
        (begin("failed"), Action(lambda _: None, repairs=True)),
        {"log": ["in", "a", "b", "breaks", "end4:21"], "total": 121},
    ),
    Story(
        "children", _children, (begin(),), {"log": ["in", "calls:2,6,8", "other", "end3:11"], "total": 111},
        children=("double",),
    ),
    Story(
        "asking_child",
        _asking_child,
        (begin("interrupted"), Action(lambda _: Command(resume="ok"))),
        {"log": ["in", "2:ok", "end2:1"], "total": 101},
        children=("prepare", "ask"),
    ),
    Story(
        "subgraph",
        _subgraph,
        (begin("interrupted"), Action(lambda _: Command(resume="ok"))),
        {"log": ["in", "beside", "first", "second", "asked:ok", "end5:31"], "total": 131},
        has_subgraph=True,
    ),
    Story(
        "scopes",
        _scopes,
        (begin("interrupted"), Action(lambda _: Command(resume="ok"))),
        {"log": ["in", "first", "second", "third", "asked:ok", "fourth", "end6:31"], "total": 131},
        has_subgraph=True,
    ),
    Story("storing", _storing, (begin(),), {"log": ["in", "puts", "1 item"], "total": 1}, needs_store=True),
)  # fmt: skip
BY_NAME = {story.name: story for story in STORIES}
