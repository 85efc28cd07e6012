"""Questions to people, breakpoints, and every way to answer."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from typing_extensions import TypedDict

from tests.differential.observe import Raised, attempt
from tests.differential.program import differing, program
from tests.differential.programs_basics import Log, chain
from tests.differential.programs_state_api import history, short


class Answers(TypedDict, total=False):
    answers: Annotated[list[Any], operator.add]


def asking(lib: Any, *questions: str, **options: Any) -> Any:
    """One node that asks all questions in turn."""

    def ask(state: Any) -> Any:
        return {"answers": [lib.interrupt(question) for question in questions]}

    builder = lib.StateGraph(Answers).add_node("ask", ask).add_edge(lib.START, "ask")
    return builder.compile(checkpointer=lib.InMemorySaver(), **options)


@program
def interrupt_and_resume(lib: Any) -> Any:
    graph = asking(lib, "name?")
    return [
        graph.invoke({"answers": ["in"]}, lib.config()),
        short(graph.get_state(lib.config())),
        graph.invoke(lib.Command(resume="Ann"), lib.config()),
        history(graph, lib.config()),
    ]


@program
def several_questions_in_one_node(lib: Any) -> Any:
    graph = asking(lib, "name?", "age?", "town?")
    seen = [graph.invoke({}, lib.config())]
    for answer in ("Ann", 7, ""):
        seen.append(graph.invoke(lib.Command(resume=answer), lib.config()))
        seen.append(short(graph.get_state(lib.config())))
    return seen


@program
def interrupted_again_without_an_answer(lib: Any) -> Any:
    graph = asking(lib, "name?")
    return [graph.invoke({}, lib.config()), graph.invoke(None, lib.config()), history(graph, lib.config())]


@program
def new_input_drops_the_question(lib: Any) -> Any:
    graph = asking(lib, "name?")
    graph.invoke({"answers": ["one"]}, lib.config())
    return [graph.invoke({"answers": ["two"]}, lib.config()), history(graph, lib.config())]


def parallel(lib: Any) -> Any:
    builder = lib.StateGraph(Answers)
    for name in ("a", "b"):
        builder.add_node(name, lambda state, name=name: {"answers": [f"{name} {lib.interrupt(f'{name}?')}"]})
        builder.add_edge(lib.START, name)
    builder.add_node("c", lambda state: {"answers": ["c"]}).add_edge(lib.START, "c")
    return builder.compile(checkpointer=lib.InMemorySaver())


@program
def parallel_questions_answered_by_id(lib: Any) -> Any:
    graph = parallel(lib)
    asked = graph.invoke({}, lib.config())["__interrupt__"]
    by_value = {one.value: one.id for one in asked}
    state = short(graph.get_state(lib.config()))
    one = graph.invoke(lib.Command(resume={by_value["b?"]: "B"}), lib.config())
    return [
        sorted(by_value),
        state["values"],
        state["next"],
        [one.get("answers"), [item.value for item in one["__interrupt__"]]],
        graph.get_state(lib.config()).next,
        graph.invoke(lib.Command(resume={by_value["a?"]: "A"}), lib.config()),
    ]


@program
def parallel_questions_answered_together(lib: Any) -> Any:
    graph = parallel(lib)
    asked = graph.invoke({}, lib.config())["__interrupt__"]
    return graph.invoke(lib.Command(resume={one.id: one.value.upper() for one in asked}), lib.config())


@program
def one_answer_to_two_questions_is_refused(lib: Any) -> Any:
    graph = parallel(lib)
    graph.invoke({}, lib.config())
    return [attempt(lambda: graph.invoke(lib.Command(resume="x"), lib.config())), graph.get_state(lib.config()).next]


@program
def sends_that_ask(lib: Any) -> Any:
    builder = lib.StateGraph(Answers)
    builder.add_node("one", lambda item: {"answers": [f"{item} {lib.interrupt(f'{item}?')}"]})
    builder.add_conditional_edges(lib.START, lambda state: [lib.Send("one", n) for n in (1, 2)], ["one"])
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    asked = graph.invoke({}, lib.config())["__interrupt__"]
    tasks = [
        [task.name, task.path, [one.value for one in task.interrupts]] for task in graph.get_state(lib.config()).tasks
    ]
    return [tasks, graph.invoke(lib.Command(resume={one.id: f"answer {one.value}" for one in asked}), lib.config())]


@program
def resume_with_an_update(lib: Any) -> Any:
    graph = asking(lib, "name?")
    graph.invoke({"answers": ["in"]}, lib.config())
    return [
        graph.invoke(lib.Command(resume="Ann", update={"answers": ["put"]}), lib.config()),
        history(graph, lib.config()),
    ]


@program
def answers_may_be_falsy(lib: Any) -> Any:
    outputs = []
    for answer in (0, "", False, [], {}):
        graph = asking(lib, "value?")
        graph.invoke({}, lib.config())
        outputs.append(
            attempt(lambda graph=graph, answer=answer: graph.invoke(lib.Command(resume=answer), lib.config()))
        )
    return outputs


@program
def breakpoints_before_and_after(lib: Any) -> Any:
    graph = chain(lib, "a", "b", "c", checkpointer=lib.InMemorySaver(), interrupt_before=["b"], interrupt_after=["b"])
    seen = [graph.invoke({"log": ["in"]}, lib.config())]
    for _ in range(3):
        seen.append(graph.get_state(lib.config()).next)
        seen.append(graph.invoke(None, lib.config()))
    return seen


@program
def breakpoints_given_with_the_call(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    return [
        list(graph.stream({"log": ["in"]}, lib.config(), interrupt_before="*", stream_mode=["updates", "values"])),
        list(graph.stream(None, lib.config(), interrupt_after=["a"], stream_mode="updates")),
        graph.get_state(lib.config()).next,
        list(graph.stream(None, lib.config(), stream_mode="updates")),
    ]


@program
def update_at_a_breakpoint(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver(), interrupt_before=["b"])
    graph.invoke({"log": ["in"]}, lib.config())
    graph.update_state(lib.config(), {"log": ["edited"]})
    return [graph.get_state(lib.config()).next, graph.invoke(None, lib.config()), history(graph, lib.config())]


@program
def time_travel_asks_again(lib: Any) -> Any:
    graph = asking(lib, "name?")
    graph.invoke({}, lib.config())
    graph.invoke(lib.Command(resume="Ann"), lib.config())
    past = next(one for one in graph.get_state_history(lib.config()) if one.next == ("ask",))
    again = graph.invoke(None, past.config)
    return [again, graph.invoke(lib.Command(resume="Bob"), lib.config())]


@program
def interrupt_in_a_loop_over_turns(lib: Any) -> Any:
    builder = lib.StateGraph(Answers)
    builder.add_node("ask", lambda state: {"answers": [lib.interrupt(f"turn {len(state.get('answers', []))}")]})
    builder.add_edge(lib.START, "ask")
    builder.add_conditional_edges("ask", lambda state: "ask" if len(state["answers"]) < 3 else lib.END)
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    return [graph.invoke({}, lib.config())] + [
        graph.invoke(lib.Command(resume=answer), lib.config()) for answer in ("x", "y", "z")
    ]


@program
def interrupts_under_asyncio(lib: Any) -> Any:
    async def ask(state: Any) -> Any:
        return {"answers": [lib.interrupt("one?"), lib.interrupt("two?")]}

    async def converse() -> Any:
        builder = lib.StateGraph(Answers).add_node("ask", ask).add_edge(lib.START, "ask")
        graph = builder.compile(checkpointer=lib.InMemorySaver())
        first = await graph.ainvoke({}, lib.config())
        second = [part async for part in graph.astream(lib.Command(resume=1), lib.config(), stream_mode="updates")]
        third = await graph.ainvoke(lib.Command(resume=2), lib.config())
        return [first, second, third, (await graph.aget_state(lib.config())).next]

    return asyncio.run(converse())


@program
def invoke_v2_gives_interrupts_apart(lib: Any) -> Any:
    graph = asking(lib, "name?")
    return [
        graph.invoke({"answers": ["in"]}, lib.config(), version="v2"),
        graph.invoke(lib.Command(resume="Ann"), lib.config(), version="v2"),
    ]


@differing(
    "a question needs a checkpointer to remember its place", clew=lambda peer: Raised(frozenset({"RuntimeError"}))
)
def interrupt_without_a_checkpointer(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("ask", lambda state: {"log": [lib.interrupt("?")]})
    graph = builder.add_edge(lib.START, "ask").compile()
    return attempt(lambda: graph.invoke({}))


@program
def node_before_an_interrupt_is_not_run_again(lib: Any) -> Any:
    ran: list[str] = []

    def work(state: Any) -> Any:
        ran.append("work")
        return {"answers": ["work"]}

    def ask(state: Any) -> Any:
        ran.append("ask")
        return {"answers": [lib.interrupt("?")]}

    builder = lib.StateGraph(Answers).add_node("work", work).add_node("ask", ask)
    graph = builder.add_edge(lib.START, "work").add_edge(lib.START, "ask").compile(checkpointer=lib.InMemorySaver())
    graph.invoke({}, lib.config())
    output = graph.invoke(lib.Command(resume="x"), lib.config())
    return [sorted(ran), output]


@program
def answer_of_none_by_id(lib: Any) -> Any:
    graph = asking(lib, "value?")
    asked = graph.invoke({}, lib.config())["__interrupt__"][0]
    return attempt(lambda: graph.invoke(lib.Command(resume={asked.id: None}), lib.config()))


@differing("an answer to nothing is an error", clew=lambda peer: Raised(frozenset({"UnknownInterruptError"})))
def nothing_pending_to_resume(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    return attempt(lambda: graph.invoke(lib.Command(resume="x"), lib.config()))
