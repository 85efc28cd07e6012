"""Questions from nodes: asking, answering, and what may not get in their way."""

from __future__ import annotations

import asyncio
import operator
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pydantic
import pytest
from typing_extensions import TypedDict as ValidatedDict

from clew.errors import (
    AmbiguousResumeError,
    EmptyInputError,
    GraphInterrupt,
    NodeError,
    NoSaverError,
    UnknownInterruptError,
    is_invalid_resume,
)
from clew.graph import START, StateGraph
from clew.types import Command, Interrupt, RetryPolicy, Send, interrupt
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def one(node: Any, saver: Any = None, **options: Any) -> Any:
    return StateGraph(Log).add_node("node", node, **options).add_edge(START, "node").compile(checkpointer=saver)


def asking(question: str, drive: Drive | None = None) -> Any:
    def ask(state: Any) -> Any:
        return {"log": [f"{question} {interrupt(question)}"]}

    return drive.node(ask) if drive else ask


def parallel(saver: Any, *questions: str) -> Any:
    builder = StateGraph(Log)
    for question in questions:
        builder.add_node(question, asking(question)).add_edge(START, question)
    return builder.compile(checkpointer=saver)


def strict(thread: str = "t") -> Any:
    return on(thread, __pregel_strict_resume=True)


# -- asking and answering --------------------------------------------------------------------------------------------


def test_question_stops_the_run_and_its_answer_continues_it(drive: Drive, saver: Any) -> None:
    graph = one(asking("name?", drive), saver)

    asked = drive.invoke(graph, {"log": ["in"]}, on())
    assert asked["log"] == ["in"]
    assert asked["__interrupt__"] == [Interrupt("name?", asked["__interrupt__"][0].id)]
    assert drive.get_state(graph, on()).interrupts == tuple(asked["__interrupt__"])
    assert drive.get_state(graph, on()).next == ("node",)

    assert drive.invoke(graph, Command(resume="Ada"), on()) == {"log": ["in", "name? Ada"]}
    assert drive.get_state(graph, on()).interrupts == ()


def test_v2_output_has_the_questions_beside_the_value(drive: Drive, saver: Any) -> None:
    output = drive.invoke(one(asking("?"), saver), {"log": []}, on(), version="v2")

    assert output.value == {"log": []}
    assert [question.value for question in output.interrupts] == ["?"]


def test_falsy_answers_are_answers(drive: Drive, saver: Any) -> None:
    graph = one(lambda state: {"log": [repr(interrupt("?"))]}, saver)

    for index, answer in enumerate([False, 0, "", [], {"a": 1}]):
        drive.invoke(graph, {"log": []}, on(str(index)))
        assert drive.invoke(graph, Command(resume=answer), on(str(index)))["log"] == [repr(answer)]


def test_several_questions_of_one_node_come_one_by_one(drive: Drive, saver: Any) -> None:
    starts: list[int] = []

    def node(state: Log) -> Any:
        starts.append(1)
        first = interrupt("first?")
        second = interrupt(f"second after {first}?")
        return {"log": [first, second, interrupt("third?")]}

    graph = one(drive.node(node), saver)
    asked = [drive.invoke(graph, {"log": []}, on())]
    asked += [drive.invoke(graph, Command(resume=answer), on()) for answer in ("1", "2")]

    assert [state["__interrupt__"][0].value for state in asked] == ["first?", "second after 1?", "third?"]
    assert len({state["__interrupt__"][0].id for state in asked}) == 3
    assert drive.invoke(graph, Command(resume="3"), on())["log"] == ["1", "2", "3"]
    assert len(starts) == 4


def test_answer_may_come_with_an_update(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)
    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, Command(resume="yes", update={"log": ["noted"]}), on())["log"] == ["noted", "? yes"]


def test_question_stays_while_the_thread_is_only_looked_at(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)
    drive.invoke(graph, {"log": []}, on())
    before = drive.get_state(graph, on())

    drive.get_state_history(graph, on())

    assert drive.get_state(graph, on()) == before


def test_continuing_without_an_answer_asks_again(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)
    first = drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, None, on())["__interrupt__"] == first["__interrupt__"]
    assert drive.invoke(graph, Command(resume="yes"), on())["log"] == ["? yes"]


def test_answer_is_kept_when_the_node_fails_after_it(drive: Drive, saver: Any) -> None:
    fails = [True]

    def node(state: Log) -> Any:
        answer = interrupt("?")
        if fails.pop():
            fails.append(False)
            raise RuntimeError("power cut")
        return {"log": [answer]}

    graph = one(drive.node(node), saver)
    drive.invoke(graph, {"log": []}, on())
    with pytest.raises(RuntimeError, match="power cut"):
        drive.invoke(graph, Command(resume="yes"), on())

    assert drive.get_state(graph, on()).interrupts == ()
    assert drive.invoke(graph, None, on())["log"] == ["yes"]


def test_new_input_drops_the_question(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)
    drive.invoke(graph, {"log": ["one"]}, on())
    again = drive.invoke(graph, {"log": ["two"]}, on())

    assert again["log"] == ["one", "two"]
    assert drive.invoke(graph, Command(resume="yes"), on())["log"] == ["one", "two", "? yes"]


# -- several at once -------------------------------------------------------------------------------------------------


def test_questions_of_parallel_nodes_are_answered_by_id(drive: Drive, saver: Any) -> None:
    graph = parallel(saver, "a", "b", "c")
    asked = drive.invoke(graph, {"log": []}, on())["__interrupt__"]

    assert [question.value for question in asked] == ["a", "b", "c"]
    state = drive.invoke(graph, Command(resume={question.id: question.value.upper() for question in asked}), on())

    assert state["log"] == ["a A", "b B", "c C"]


def test_some_answers_leave_the_other_questions(drive: Drive, saver: Any) -> None:
    graph = parallel(saver, "a", "b", "c")
    asked = {question.value: question.id for question in drive.invoke(graph, {"log": []}, on())["__interrupt__"]}

    rest = drive.invoke(graph, Command(resume={asked["b"]: "B"}), on())
    assert [question.value for question in rest["__interrupt__"]] == ["a", "c"]
    assert [question.id for question in rest["__interrupt__"]] == [asked["a"], asked["c"]]
    assert [question.value for question in drive.get_state(graph, on()).interrupts] == ["a", "c"]

    state = drive.invoke(graph, Command(resume={asked["a"]: "A", asked["c"]: "C"}), on())
    assert state["log"] == ["a A", "b B", "c C"]


def test_one_value_for_several_questions_is_refused(drive: Drive, saver: Any) -> None:
    graph = parallel(saver, "a", "b")
    drive.invoke(graph, {"log": []}, on())
    before = drive.get_state(graph, on())

    with pytest.raises(AmbiguousResumeError, match="one resume value was given and 2 interrupts wait") as caught:
        drive.invoke(graph, Command(resume="both"), on())

    assert "must specify the interrupt id when resuming" in str(caught.value)
    assert caught.value.hint is not None
    assert all(question.id in caught.value.hint for question in before.interrupts)
    assert drive.get_state(graph, on()) == before


def test_finished_sibling_of_an_asking_node_is_not_repeated(drive: Drive, saver: Any) -> None:
    ran: list[str] = []

    def work(state: Log) -> Any:
        ran.append("work")
        return {"log": ["work"]}

    builder = StateGraph(Log).add_node("ask", asking("?")).add_node(work)
    graph = builder.add_edge(START, "ask").add_edge(START, "work").compile(checkpointer=saver)

    assert drive.invoke(graph, {"log": []}, on())["log"] == ["work"]
    assert drive.invoke(graph, Command(resume="yes"), on())["log"] == ["? yes", "work"]
    assert ran == ["work"]


def test_sent_tasks_ask_each_for_themselves(drive: Drive, saver: Any) -> None:
    def ask(state: Any) -> Any:
        return {"log": [f"{state['item']} {interrupt(state['item'])}"]}

    builder = StateGraph(Log).add_node(ask)
    builder.add_conditional_edges(START, lambda state: [Send("ask", {"item": item}) for item in "xyz"], ["ask"])
    graph = builder.compile(checkpointer=saver)

    asked = drive.invoke(graph, {"log": []}, on())["__interrupt__"]
    state = drive.invoke(graph, Command(resume={question.id: question.value * 2 for question in asked}), on())

    assert state["log"] == ["x xx", "y yy", "z zz"]


# -- strict resume ---------------------------------------------------------------------------------------------------


def test_strict_resume_refuses_unknown_ids_and_writes_nothing(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)
    pending = drive.invoke(graph, {"log": []}, on())["__interrupt__"][0].id
    before = drive.get_state(graph, on())

    with pytest.raises(UnknownInterruptError, match="unknown or already-consumed interrupt") as caught:
        drive.invoke(graph, Command(resume={"0" * 32: "x"}), strict())

    assert (caught.value.reason, caught.value.interrupt_ids, caught.value.pending_ids) == (
        "not_pending",
        ("0" * 32,),
        (pending,),
    )
    assert drive.get_state(graph, on()) == before


def test_strict_resume_refuses_an_empty_map(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)
    drive.invoke(graph, {"log": []}, on())

    with pytest.raises(UnknownInterruptError, match="the resume map names no interrupt") as caught:
        drive.invoke(graph, Command(resume={}), strict())

    assert caught.value.reason == "empty_map"


def test_strict_resume_refuses_an_answer_given_before(drive: Drive, saver: Any) -> None:
    def node(state: Log) -> Any:
        return {"log": [interrupt("first?"), interrupt("second?")]}

    graph = one(node, saver)
    used = drive.invoke(graph, {"log": []}, on())["__interrupt__"][0].id
    drive.invoke(graph, Command(resume={used: "1"}), strict())

    with pytest.raises(UnknownInterruptError) as caught:
        drive.invoke(graph, Command(resume={used: "again"}), strict())

    assert caught.value.interrupt_ids == (used,)


def test_strict_resume_refuses_one_value_for_several(drive: Drive, saver: Any) -> None:
    graph = parallel(saver, "a", "b")
    drive.invoke(graph, {"log": []}, on())

    with pytest.raises(UnknownInterruptError) as caught:
        drive.invoke(graph, Command(resume="both"), strict())

    assert caught.value.reason == "ambiguous"


def test_resume_with_nothing_pending_says_so(drive: Drive, saver: Any) -> None:
    graph = one(lambda state: {"log": ["done"]}, saver)
    drive.invoke(graph, {"log": []}, on())
    before = drive.get_state(graph, on())

    with pytest.raises(UnknownInterruptError, match="has no question that waits for an answer") as caught:
        drive.invoke(graph, Command(resume="yes"), on())

    assert caught.value.reason == "not_pending"
    assert drive.get_state(graph, on()) == before
    with pytest.raises(UnknownInterruptError, match="has no question that waits for an answer"):
        drive.invoke(graph, Command(resume="yes"), on("never run"))
    with pytest.raises(EmptyInputError):
        drive.invoke(graph, None, on("never run"))


# -- schemas for answers ---------------------------------------------------------------------------------------------


class Person(pydantic.BaseModel):
    age: int


class PersonDict(ValidatedDict):
    age: int


@dataclass
class PersonData:
    age: int


@pytest.mark.parametrize(
    ("schema", "answer", "expected"),
    [
        (Person, {"age": "41"}, Person(age=41)),
        (PersonDict, {"age": 41}, {"age": 41}),
        (PersonData, {"age": 41}, PersonData(41)),
        ({"type": "object"}, {"anything": 1}, {"anything": 1}),
    ],
)
def test_answer_has_the_schema_s_form(drive: Drive, saver: Any, schema: Any, answer: Any, expected: Any) -> None:
    got: list[Any] = []

    def node(state: Log) -> Any:
        got.append(interrupt("who?", response_schema=schema))

    graph = one(drive.node(node), saver)
    asked = drive.invoke(graph, {"log": []}, on())["__interrupt__"][0]
    drive.invoke(graph, Command(resume=answer), on())

    assert got == [expected]
    assert asked.response_schema["type"] == "object"
    assert schema is not Person or asked.response_schema["properties"]["age"]["type"] == "integer"


@pytest.mark.parametrize("schema", [Person, PersonDict, PersonData])
def test_invalid_answer_leaves_the_question_answerable(drive: Drive, saver: Any, schema: Any) -> None:
    def node(state: Log) -> Any:
        answer = interrupt("who?", response_schema=schema)
        return {"log": [str(answer["age"] if isinstance(answer, dict) else answer.age)]}

    graph = one(drive.node(node), saver)
    asked = drive.invoke(graph, {"log": []}, on())["__interrupt__"]

    for _ in range(2):
        with pytest.raises(pydantic.ValidationError, match="age") as caught:
            drive.invoke(graph, Command(resume={"age": "old"}), on())
        assert is_invalid_resume(caught.value)
        assert list(drive.get_state(graph, on()).interrupts) == asked

    assert drive.invoke(graph, Command(resume={"age": 41}), on())["log"] == ["41"]


def test_invalid_answer_inside_a_subgraph_leaves_the_question_answerable(drive: Drive, saver: Any) -> None:
    def ask(state: Log) -> Any:
        return {"log": [str(interrupt("who?", response_schema=Person).age)]}

    inner = StateGraph(Log).add_node(ask).add_edge(START, "ask").compile()

    def call(state: Log) -> Any:
        return {"log": inner.invoke({"log": []})["log"]}

    for thread, graph in (("node", one(inner, saver)), ("call", one(call, saver))):
        asked = drive.invoke(graph, {"log": []}, on(thread))["__interrupt__"]
        with pytest.raises(pydantic.ValidationError, match="age"):
            drive.invoke(graph, Command(resume={"age": "old"}), on(thread))

        assert list(drive.get_state(graph, on(thread)).interrupts) == asked
        assert drive.invoke(graph, Command(resume={"age": 41}), on(thread))["log"] == ["41"]


def test_invalid_answer_to_a_second_question_keeps_the_first_answer(drive: Drive, saver: Any) -> None:
    def node(state: Log) -> Any:
        return {"log": [interrupt("name?"), str(interrupt("who?", response_schema=Person).age)]}

    graph = one(node, saver)
    drive.invoke(graph, {"log": []}, on())
    drive.invoke(graph, Command(resume="Ada"), on())
    with pytest.raises(pydantic.ValidationError):
        drive.invoke(graph, Command(resume={"age": "old"}), on())

    assert [question.value for question in drive.get_state(graph, on()).interrupts] == ["who?"]
    assert drive.invoke(graph, Command(resume={"age": 41}), on())["log"] == ["Ada", "41"]


def test_invalid_answer_is_not_a_matter_of_retries_or_handlers(drive: Drive, saver: Any) -> None:
    def node(state: Log) -> Any:
        return {"log": [str(interrupt("who?", response_schema=Person).age)]}

    policy = RetryPolicy(initial_interval=0, retry_on=lambda error: True)
    graph = one(node, saver, retry_policy=policy, error_handler=lambda state: {"log": ["handled"]})
    drive.invoke(graph, {"log": []}, on())
    with pytest.raises(pydantic.ValidationError):
        drive.invoke(graph, Command(resume={"age": "old"}), on())

    assert drive.invoke(graph, Command(resume={"age": 41}), on())["log"] == ["41"]


# -- what may not get in the way -------------------------------------------------------------------------------------


def test_except_exception_does_not_swallow_a_question(drive: Drive, saver: Any) -> None:
    def node(state: Log) -> Any:
        try:
            answer = interrupt("?")
        except Exception:
            answer = "swallowed"
        return {"log": [answer]}

    graph = one(drive.node(node), saver)
    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, Command(resume="heard"), on())["log"] == ["heard"]


def test_retries_and_error_handlers_ignore_questions(drive: Drive, saver: Any) -> None:
    calls: list[str] = []

    def node(state: Log) -> Any:
        calls.append("node")
        return {"log": [interrupt("?")]}

    def handle(state: Log, error: NodeError) -> Any:
        calls.append("handled")
        return {"log": ["handled"]}

    policy = RetryPolicy(initial_interval=0, retry_on=lambda error: True)
    graph = one(drive.node(node), saver, retry_policy=policy, error_handler=handle)
    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, Command(resume="yes"), on())["log"] == ["yes"]
    assert calls == ["node", "node"]


def test_error_handler_may_ask(drive: Drive, saver: Any) -> None:
    fails: list[int] = []

    def node(state: Log) -> Any:
        fails.append(1)
        raise RuntimeError("broken")

    def handle(state: Log, error: NodeError) -> Any:
        return {"log": [f"{error.error}: {interrupt('what now?')}"]}

    graph = one(node, saver, error_handler=handle)
    asked = drive.invoke(graph, {"log": []}, on())

    assert [question.value for question in asked["__interrupt__"]] == ["what now?"]
    assert list(drive.get_state(graph, on()).interrupts) == asked["__interrupt__"]
    assert drive.invoke(graph, Command(resume="go on"), on())["log"] == ["broken: go on"]
    assert fails == [1]


def test_questions_of_a_task_group_are_all_asked(saver: Any) -> None:
    async def node(state: Log) -> Any:
        async def ask(question: str) -> None:
            raise GraphInterrupt([Interrupt(question)])

        async with asyncio.TaskGroup() as group:
            group.create_task(ask("one?"))
            group.create_task(ask("two?"))

    state = asyncio.run(one(node, saver).ainvoke({"log": []}, on()))

    assert sorted(question.value for question in state["__interrupt__"]) == ["one?", "two?"]


def test_a_question_beside_an_error_in_a_task_group_fails(saver: Any) -> None:
    async def node(state: Log) -> Any:
        raise BaseExceptionGroup("both", [GraphInterrupt([Interrupt("?")]), ValueError("broken")])

    with pytest.raises(BaseExceptionGroup, match="both"):
        asyncio.run(one(node, saver).ainvoke({"log": []}, on()))


def test_batch_collects_questions(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)

    states = drive.batch(graph, [{"log": ["a"]}, {"log": ["b"]}], [on("a"), on("b")])

    assert [state["__interrupt__"][0].value for state in states] == ["?", "?"]


# -- where one cannot ask --------------------------------------------------------------------------------------------


def test_asking_without_a_checkpointer_says_so(drive: Drive) -> None:
    with pytest.raises(NoSaverError, match=r"interrupt\(\)") as caught:
        drive.invoke(one(asking("?")), {"log": []})

    assert "checkpointer" in str(caught.value) + str(caught.value.hint)


def test_asking_without_a_thread_id_says_so(drive: Drive, saver: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(NoSaverError, match="thread id") as caught:
            drive.invoke(one(asking("?"), saver), {"log": []})

    assert "thread_id" in str(caught.value) + str(caught.value.hint)


def test_asking_outside_of_a_run_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"interrupt\(\)"):
        interrupt("?")


# -- streams ---------------------------------------------------------------------------------------------------------


def test_streams_show_questions(drive: Drive, saver: Any) -> None:
    graph = one(asking("?"), saver)

    updates = list(drive.stream(graph, {"log": []}, on("u"), stream_mode="updates"))
    values = list(drive.stream(graph, {"log": []}, on("v"), stream_mode="values"))

    assert [question.value for question in updates[-1]["__interrupt__"]] == ["?"]
    assert [question.value for question in values[-1]["__interrupt__"]] == ["?"]
