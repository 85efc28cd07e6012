"""What a state may be: typed dicts, dataclasses, pydantic models, and whole values."""

from __future__ import annotations

import operator
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated, Any, Required, TypedDict

import pydantic
import pytest

from clew.channels import EphemeralValue, LastValue, Topic, UntrackedValue
from clew.errors import GraphError, InvalidUpdateError
from clew.graph import END, START, StateGraph
from clew.types import Command, Overwrite, Send
from tests.both import Drive, on


class Typed(TypedDict, total=False):
    words: Annotated[list[str], operator.add]
    topic: Required[str]


@dataclass
class Data:
    topic: str
    words: Annotated[list[str], operator.add] = field(default_factory=list)


class Model(pydantic.BaseModel):
    topic: str
    words: Annotated[list[str], operator.add] = []


class Public(TypedDict):
    text: str


class Private(TypedDict):
    draft: str


def longest(kept: str, given: str) -> str:
    return max(kept, given, key=len)


def words_of(state: Any) -> list[str]:
    return state["words"] if isinstance(state, dict) else state.words


def chain(schema: Any, saver: Any = None, seen: list[Any] | None = None) -> Any:
    def first(state: Any) -> Any:
        if seen is not None:
            seen.append(state)
        return {"words": ["first"]}

    def second(state: Any) -> Any:
        return {"words": [f"after {words_of(state)[-1]}"]}

    return StateGraph(schema).add_sequence([first, second]).add_edge(START, "first").compile(checkpointer=saver)


@pytest.mark.parametrize("schema", [Typed, Data, Model])
def test_nodes_read_and_update_fields(drive: Drive, saver: Any, schema: Any) -> None:
    graph = chain(schema, saver)

    state = drive.invoke(graph, {"topic": "sea", "words": ["in"]}, on())

    assert state == {"topic": "sea", "words": ["in", "first", "after first"]}
    assert drive.get_state(graph, on()).values == state


@pytest.mark.parametrize("schema", [Data, Model])
def test_nodes_receive_the_schema_s_own_type(drive: Drive, schema: Any) -> None:
    seen: list[Any] = []
    drive.invoke(chain(schema, seen=seen), {"topic": "sea"})

    assert type(seen[0]) is schema


@pytest.mark.parametrize("schema", [Data, Model])
def test_input_may_be_an_object_of_the_schema(drive: Drive, schema: Any) -> None:
    assert drive.invoke(chain(schema), schema(topic="sea"))["topic"] == "sea"


@pytest.mark.parametrize("schema", [Data, Model])
def test_node_may_return_an_object_of_the_schema(drive: Drive, schema: Any) -> None:
    def node(state: Any) -> Any:
        return schema(topic="land", words=["new"])

    graph = StateGraph(schema).add_node("node", node).add_edge(START, "node").compile()

    assert drive.invoke(graph, {"topic": "sea", "words": ["old"]}) == {"topic": "land", "words": ["old", "new"]}


@pytest.mark.parametrize("schema", [Typed, Data, Model])
def test_v2_output_has_the_schema_s_own_type(drive: Drive, schema: Any) -> None:
    output = drive.invoke(chain(schema), {"topic": "sea"}, version="v2")

    assert type(output.value) is (dict if schema is Typed else schema)
    assert output.interrupts == ()
    assert output["topic"] == "sea"


def test_pydantic_input_is_coerced(drive: Drive) -> None:
    class Count(pydantic.BaseModel):
        count: int

    seen: list[Any] = []

    def node(state: Count) -> Any:
        seen.append(state.count)
        return {"count": state.count + 1}

    graph = StateGraph(Count).add_node("node", node).add_edge(START, "node").compile()

    assert drive.invoke(graph, {"count": "41"}) == {"count": 42}
    assert seen == [41]


def test_pydantic_input_that_is_invalid_is_refused_before_a_node_runs(drive: Drive, saver: Any) -> None:
    seen: list[Any] = []
    graph = chain(Model, saver, seen)

    with pytest.raises(
        InvalidUpdateError, match="field 'topic' is not valid for Model: Input should be a valid string"
    ):
        drive.invoke(graph, {"topic": ["not text"]}, on())

    assert seen == []
    assert drive.get_state_history(graph, on()) == []


# -- whole values ----------------------------------------------------------------------------------------------------


def test_a_dict_is_one_value_that_the_last_write_replaces(drive: Drive, saver: Any) -> None:
    def first(state: Any) -> Any:
        return {**state, "first": True}

    def second(state: Any) -> Any:
        return {"only": "this"}

    graph = StateGraph(dict).add_sequence([first, second]).add_edge(START, "first").compile(checkpointer=saver)

    assert drive.invoke(graph, {"given": 1}, on()) == {"only": "this"}
    assert drive.get_state_history(graph, on())[1].values == {"given": 1, "first": True}


def test_a_list_is_one_value(drive: Drive, saver: Any) -> None:
    graph = StateGraph(list).add_node("grow", lambda state: [*state, "grown"]).add_edge(START, "grow")

    assert drive.invoke(graph.compile(checkpointer=saver), ["in"], on()) == ["in", "grown"]


def test_an_annotated_list_is_reduced(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Annotated[list, operator.add])
    builder.add_node("left", lambda state: ["left"]).add_node("right", lambda state: ["right"])
    graph = builder.add_edge(START, "left").add_edge(START, "right").compile(checkpointer=saver)

    assert drive.invoke(graph, ["in"], on()) == ["in", "left", "right"]
    assert drive.invoke(graph, ["more"], on()) == ["in", "left", "right", "more", "left", "right"]


def test_a_whole_value_can_be_overwritten(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Annotated[list, operator.add]).add_node("reset", lambda state: Overwrite(["new"]))
    graph = builder.add_edge(START, "reset").compile(checkpointer=saver)

    assert drive.invoke(graph, ["old"], on()) == ["new"]


# -- schemas for input, output and single nodes ----------------------------------------------------------------------


def test_input_and_output_schemas_limit_what_goes_in_and_out(drive: Drive, saver: Any) -> None:
    class Question(TypedDict):
        question: str

    class Answer(TypedDict):
        answer: str

    class Everything(Question, Answer):
        notes: str

    def work(state: Question) -> Any:
        return {"notes": "secret", "answer": state["question"].upper()}

    builder = StateGraph(Everything, input_schema=Question, output_schema=Answer).add_node(work)
    graph = builder.add_edge(START, "work").compile(checkpointer=saver)

    assert drive.invoke(graph, {"question": "why", "notes": "ignored"}, on()) == {"answer": "WHY"}
    assert drive.get_state(graph, on()).values == {"question": "why", "answer": "WHY", "notes": "secret"}


def test_nodes_share_private_fields_that_the_state_does_not_have(drive: Drive, saver: Any) -> None:
    def write(state: Public) -> Private:
        return {"draft": f"draft of {state['text']}"}

    def publish(state: Private) -> Any:
        assert set(state) == {"draft"}
        return {"text": state["draft"]}

    graph = StateGraph(Public).add_sequence([write, publish]).add_edge(START, "write").compile(checkpointer=saver)

    assert drive.invoke(graph, {"text": "news"}, on()) == {"text": "draft of news"}


def test_input_schema_of_a_node_selects_what_it_reads(drive: Drive) -> None:
    class Wide(TypedDict):
        a: int
        b: int

    class Narrow(TypedDict):
        a: int

    seen: list[Any] = []

    def node(state: Any) -> None:
        seen.append(dict(state))

    graph = StateGraph(Wide).add_node("node", node, input_schema=Narrow).add_edge(START, "node").compile()
    drive.invoke(graph, {"a": 1, "b": 2})

    assert seen == [{"a": 1}]


def test_unknown_keys_of_input_are_ignored(drive: Drive, saver: Any) -> None:
    state = drive.invoke(chain(Typed, saver), {"topic": "sea", "colour": "blue"}, on())

    assert state == {"topic": "sea", "words": ["first", "after first"]}


def test_unknown_keys_of_an_update_are_ignored(drive: Drive) -> None:
    graph = StateGraph(Typed).add_node("node", lambda state: {"topic": "land", "colour": 1}).add_edge(START, "node")

    assert drive.invoke(graph.compile(), {"topic": "sea"}) == {"topic": "land", "words": []}


# -- channels --------------------------------------------------------------------------------------------------------


def test_a_field_may_name_its_channel(drive: Drive, saver: Any) -> None:
    class State(TypedDict):
        once: Annotated[str, EphemeralValue]
        handle: Annotated[Any, UntrackedValue]
        topics: Annotated[list[str], Topic(str, accumulate=True)]
        plain: Annotated[str, LastValue(str)]

    seen: list[Any] = []

    def first(state: State) -> Any:
        return {"once": "now", "handle": operator.add, "topics": ["a"], "plain": "p"}

    def second(state: State) -> Any:
        seen.append(dict(state))
        return {"topics": ["b"]}

    graph = StateGraph(State).add_sequence([first, second]).add_edge(START, "first").compile(checkpointer=saver)
    drive.invoke(graph, {"plain": "x"}, on())
    kept = drive.get_state(graph, on()).values

    assert seen == [{"once": "now", "handle": operator.add, "topics": ["a"], "plain": "p"}]
    assert kept == {"topics": ["a", "b"], "plain": "p"}


def test_untracked_values_of_parallel_nodes_and_packets_are_not_stored(drive: Drive, saver: Any) -> None:
    class State(TypedDict):
        log: Annotated[list[str], operator.add]
        handle: Annotated[Any, UntrackedValue]

    def left(state: State) -> Any:
        return {"log": ["left"], "handle": operator.add}

    def right(state: State) -> Any:
        return Command(update={"log": ["right"]}, goto=Send("sent", {"log": [], "handle": operator.add}))

    def sent(state: State) -> Any:
        return {"log": ["sent"]}

    builder = StateGraph(State).add_node(left).add_node(right).add_node(sent)
    graph = builder.add_edge(START, "left").add_edge(START, "right").compile(checkpointer=saver)

    assert drive.invoke(graph, {"log": []}, on())["log"] == ["left", "right", "sent"]
    assert drive.get_state(graph, on()).values == {"log": ["left", "right", "sent"]}


def test_reducers_may_be_any_callable_of_two(drive: Drive, saver: Any) -> None:
    class State(TypedDict):
        best: Annotated[str, longest]
        total: Annotated[int, operator.add]
        recent: Annotated[deque[int], lambda kept, given: deque([*kept, *given], maxlen=2)]

    def node(state: State) -> Any:
        return {"best": "abc", "total": 2, "recent": [2, 3]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)

    assert drive.invoke(graph, {"best": "ab", "total": 1, "recent": [1]}, on()) == {
        "best": "abc",
        "total": 3,
        "recent": deque([2, 3], maxlen=2),
    }
    assert drive.get_state(graph, on()).values["recent"].maxlen == 2


def test_two_schemas_may_not_disagree_on_a_reducer() -> None:
    class One(TypedDict):
        words: Annotated[list[str], operator.add]

    class Other(TypedDict):
        words: Annotated[list[str], operator.iadd]

    with pytest.raises(GraphError, match="channel 'words' already exists with a different type: schema 'Other'"):
        StateGraph(One, output_schema=Other)


def test_empty_update_and_none_change_nothing(drive: Drive) -> None:
    builder = StateGraph(Typed).add_node("none", lambda state: None).add_node("empty", lambda state: {})
    graph = builder.add_edge(START, "none").add_edge("none", "empty").add_edge("empty", END).compile()

    assert drive.invoke(graph, {"topic": "sea"}) == {"topic": "sea", "words": []}
