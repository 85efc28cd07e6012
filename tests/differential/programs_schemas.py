"""State, input, output and private schemas, in every form a schema may have."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, Required

from pydantic import BaseModel
from typing_extensions import TypedDict

from tests.differential.observe import Raised, attempt
from tests.differential.program import differing, program


class In(TypedDict):
    question: str


class Out(TypedDict):
    answer: str


class Full(In, Out):
    notes: Annotated[list[str], operator.add]


class Private(TypedDict):
    secret: str


@program
def input_output_and_private_schemas(lib: Any) -> Any:
    def think(state: In) -> Private:
        return {"secret": state["question"].upper(), "notes": [str(sorted(state))]}  # type: ignore[typeddict-unknown-key]

    def speak(state: Private) -> Out:
        return {"answer": state["secret"] + "!", "notes": [str(sorted(state))]}  # type: ignore[typeddict-unknown-key]

    def look(state: Full) -> Any:
        return {"notes": [str(sorted(state))]}

    builder = lib.StateGraph(Full, input_schema=In, output_schema=Out)
    builder.add_node(think).add_node(speak).add_node(look)
    builder.add_edge(lib.START, "think").add_edge("think", "speak").add_edge("speak", "look")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    return [
        graph.invoke({"question": "hm", "other": 1}, lib.config()),
        list(graph.stream({"question": "hm"}, lib.config("2"), stream_mode="values")),
        graph.get_state(lib.config()).values,
    ]


@dataclass
class Data:
    text: str = "default"
    log: Annotated[list[str], operator.add] = field(default_factory=list)


@program
def dataclass_state(lib: Any) -> Any:
    builder = lib.StateGraph(Data)
    builder.add_node("a", lambda state: {"log": [type(state).__name__, state.text]})
    builder.add_node("b", lambda state: Data(text="new", log=["b"]))
    builder.add_edge(lib.START, "a").add_edge("a", "b")
    graph = builder.compile()
    return [
        graph.invoke({"text": "in"}),
        graph.invoke(Data(text="in")),
        list(graph.stream({"text": "x"}, stream_mode="updates")),
        graph.invoke({"text": "v2"}, version="v2"),
    ]


class Model(BaseModel):
    number: int = 3
    log: Annotated[list[str], operator.add] = []


@program
def pydantic_state(lib: Any) -> Any:
    builder = lib.StateGraph(Model)
    builder.add_node("a", lambda state: {"log": [type(state).__name__, repr(state.number)]})
    builder.add_node("b", lambda state: Model(number=9, log=["b"]))
    builder.add_edge(lib.START, "a").add_edge("a", "b")
    graph = builder.compile()
    return [
        graph.invoke({"number": "7"}),
        graph.invoke(Model(number=5)),
        graph.invoke({}),
        list(graph.stream({"number": 1}, stream_mode="values")),
    ]


@differing(
    "a bad value is refused when it is written, before any node runs",
    clew=lambda peer: Raised(frozenset({"InvalidUpdateError"})),
)
def invalid_pydantic_input(lib: Any) -> Any:
    builder = lib.StateGraph(Model).add_node("a", lambda state: {"log": ["a"]}).add_edge(lib.START, "a")
    graph = builder.compile()
    return attempt(lambda: graph.invoke({"number": "seven"}))


@program
def whole_value_states(lib: Any) -> Any:
    added = lib.StateGraph(Annotated[list, operator.add])
    added.add_node("a", lambda state: [len(state)]).add_node("b", lambda state: [len(state)])
    added.add_edge(lib.START, "a").add_edge("a", "b")
    last = lib.StateGraph(dict)
    last.add_node("a", lambda state: {**state, "a": 1}).add_node("b", lambda state: {"only": sorted(state)})
    last.add_edge(lib.START, "a").add_edge("a", "b")
    number = lib.StateGraph(int)
    number.add_node("double", lambda state: state * 2).add_edge(lib.START, "double")
    return [
        added.compile().invoke([7]),
        list(added.compile().stream([7], stream_mode="updates")),
        last.compile().invoke({"x": 1}),
        list(last.compile().stream({"x": 1}, stream_mode="updates")),
        list(last.compile().stream({"x": 1}, stream_mode="values")),
        number.compile().invoke(4),
    ]


class Marked(TypedDict, total=False):
    needed: Required[int]
    maybe: NotRequired[Annotated[list[int], operator.add]]


@program
def required_and_not_required_fields(lib: Any) -> Any:
    builder = lib.StateGraph(Marked)
    builder.add_node("a", lambda state: {"maybe": [state["needed"]]}).add_edge(lib.START, "a")
    return builder.compile().invoke({"needed": 1, "maybe": [0]})


@program
def messages_state(lib: Any) -> Any:
    builder = lib.StateGraph(lib.MessagesState)
    builder.add_node("answer", lambda state: {"messages": [("ai", f"{len(state['messages'])} so far")]})
    builder.add_edge(lib.START, "answer")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    graph.invoke({"messages": "hello"}, lib.config())
    graph.invoke({"messages": [{"role": "user", "content": "again"}]}, lib.config())
    messages = graph.get_state(lib.config()).values["messages"]
    return [[type(message).__name__, message.content, bool(message.id)] for message in messages]


@dataclass
class Ctx:
    user: str
    limit: int = 5


@program
def context_is_coerced_to_its_schema(lib: Any) -> Any:
    def node(state: Any, runtime: Any) -> Any:
        return {"log": [repr(runtime.context), runtime.context.user]}

    node.__annotations__["runtime"] = lib.Runtime
    builder = lib.StateGraph(Data, context_schema=Ctx).add_node("node", node).add_edge(lib.START, "node")
    graph = builder.compile()
    return [graph.invoke({}, context={"user": "u"}), graph.invoke({}, context=Ctx("v", 1))]
