"""A service behind a real port, on a thread of this process, and both of the field's clients for it.

What its graphs do can be held at a gate, so that a test says when they go on. Nobody sleeps.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self, TypedDict

import httpx
import uvicorn
from fastapi import FastAPI
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from clew.config import get_stream_writer
from clew.graph import START, StateGraph
from clew.graph.message import add_messages
from clew.server import create_app
from clew.types import Command, interrupt
from tests.server.kit import owner_of

SECONDS = 20.0  # after which something that should have happened has not

_names = itertools.count(1)


class Gate:
    """Where a node is held. `reached` is set when it has come there."""

    known: dict[str, Gate] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.name = f"gate {next(_names)}"
        self.reached = threading.Event()
        self.times = 0
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.known[self.name] = self

    async def passed(self) -> None:
        """Wait until it is open."""
        self.times += 1
        if not self._is_open:
            event = asyncio.Event()
            self._waiting.append((asyncio.get_running_loop(), event))
            self.reached.set()
            await event.wait()

    def wait(self) -> Self:
        """Wait until a node is held."""
        assert self.reached.wait(SECONDS), f"no node came to {self.name}"
        return self

    def open(self) -> None:
        """Let those who wait pass, and all who come."""
        self._is_open = True
        while self._waiting:
            loop, event = self._waiting.pop()
            loop.call_soon_threadsafe(event.set)


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    gate: str | None
    who: str


class Talk(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


class Inner(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


async def second(state: Log) -> Log:
    if state.get("gate"):
        await Gate.known[str(state["gate"])].passed()
    return {"log": ["b"]}


def pair() -> Any:
    """Two nodes: one that says "a", one that is held at the input's gate, and says "b"."""
    graph = StateGraph(Log)
    graph.add_node("first", lambda state: {"log": ["a"]})
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    return graph.compile()


def asking() -> Any:
    """Asks, and says what was answered; then asks again if the answer is "again"."""

    def ask(state: Log) -> Any:
        answer = interrupt({"question": "how many?"})
        return Command(update={"log": [answer]}, goto="ask" if answer == "again" else "tell")

    graph = StateGraph(Log)
    graph.add_node("ask", ask, destinations=("ask", "tell"))
    graph.add_node("tell", lambda state: {"log": ["told"]})
    graph.add_edge(START, "ask")
    return graph.compile()


def failing() -> Any:
    """A node that works, and one that fails while "mend" is not in the log."""

    def fail(state: Log) -> Log:
        if "mend" not in state["log"]:
            raise ValueError("boom!")
        return {"log": ["mended"]}

    graph = StateGraph(Log)
    graph.add_node("work", lambda state: {"log": ["work"]})
    graph.add_node("fail", fail)
    graph.add_edge(START, "work")
    graph.add_edge("work", "fail")
    return graph.compile()


def talking() -> Any:
    """A model that streams two words, and a writer of one's own."""

    def speak(state: Talk) -> Talk:
        model = GenericFakeChatModel(messages=iter([AIMessage("hello world", id="said")]))
        get_stream_writer()({"mood": "calm"})
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(Talk)
    graph.add_node("speak", speak)
    graph.add_edge(START, "speak")
    return graph.compile()


def nesting() -> Any:
    """A graph in a graph in a graph; the innermost writes of its own."""

    def deep(state: Inner) -> Inner:
        get_stream_writer()("deep")
        return {"log": ["deep"]}

    innermost = StateGraph(Inner)
    innermost.add_node("deep", deep)
    innermost.add_edge(START, "deep")
    inner = StateGraph(Inner)
    inner.add_node("below", innermost.compile())
    inner.add_edge(START, "below")
    graph = StateGraph(Log)
    graph.add_node("top", lambda state: {"log": ["top"]})
    graph.add_node("sub", inner.compile())
    graph.add_edge(START, "top")
    graph.add_edge("top", "sub")
    return graph.compile()


def telling() -> Any:
    """Tells what its config says."""
    graph = StateGraph(dict)
    graph.add_node("tell", _config_of)
    graph.add_edge(START, "tell")
    return graph.compile()


@dataclass
class Tuning:
    """A context with defaults."""

    model: str = "small"
    warmth: int = 1


def tuned() -> Any:
    """Tells the context that its schema makes, and what its config says of the same."""
    graph = StateGraph(dict, context_schema=Tuning)
    graph.add_node("tell", _tuning_of)
    graph.add_edge(START, "tell")
    return graph.compile()


class SilentError(Exception):
    """An error that has no message."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


def _looping() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


ODD: dict[str, Any] = {
    "bytes": b"\xff\0",
    "no number": [float("nan"), float("inf"), -0.0],
    "lone surrogate": "\ud800",
    "nul": "a\0b",
    "huge": 10**40,
    "set and tuple": [{1}, (1, 2)],
    "keys": {1: "one", "\ud800": 1},
    "loop": _looping(),
}
ERRORS: dict[str, Exception] = {
    "error with nul": ValueError("a\0b"), "error with surrogate": ValueError("a\ud800b"), "silent error": SilentError(),
}  # fmt: skip


def odd() -> Any:
    """Writes, returns or raises what its input names: values and errors that JSON or a database has trouble with."""

    def act(state: Log) -> Log:
        name = state["log"][0]
        if name in ERRORS:
            raise ERRORS[name]
        get_stream_writer()(ODD[name])
        return {"log": [ODD[name]]}

    graph = StateGraph(Log)
    graph.add_node("act", act)
    graph.add_edge(START, "act")
    return graph.compile()


def _config_of(state: Any, config: Any, *, runtime: Any = None) -> Any:
    said = {key: value for key, value in config["configurable"].items() if not key.startswith("__")}
    user = said.pop("langgraph_auth_user", None)
    return {
        "configurable": said,
        "user": user and user.identity,
        "context": runtime.context,
        "tags": config.get("tags"),
        "metadata": config.get("metadata"),
        "limit": config.get("recursion_limit"),
    }


def _tuning_of(state: Any, config: Any, *, runtime: Any = None) -> Any:
    said = {key: config["configurable"][key] for key in ("model", "warmth", "secret") if key in config["configurable"]}
    return {"context": asdict(runtime.context), "configurable": said}


GRAPHS: dict[str, Callable[[], Any]] = {
    "pair": pair, "asking": asking, "failing": failing, "talking": talking, "nesting": nesting, "telling": telling,
    "odd": odd, "tuned": tuned,
}  # fmt: skip


class Live:
    """A service on a port of its own; a context manager."""

    def __init__(self, saver: Any, store: Any = None, graphs: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.app = self.application(saver, store, graphs, **settings)
        self._port = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._port.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning", lifespan="on"))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="service", daemon=True)

    @staticmethod
    def application(saver: Any, store: Any, graphs: Mapping[str, Any] | None = None, **settings: Any) -> FastAPI:
        """What it serves: by default all graphs of this module."""
        given = {name: make() for name, make in GRAPHS.items()} if graphs is None else graphs
        return create_app(given, saver, store=store, **{"auth": owner_of, **settings})

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.server.serve(sockets=[self._port]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self._thread.join(SECONDS)
        self._port.close()
        assert not self._thread.is_alive()


class Blocking:
    """The blocking client."""

    def __init__(self, url: str, user: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"x-api-key": user}, timeout=SECONDS)
        client = SyncLangGraphClient(self.http)
        self.runs: Any = client.runs
        self.threads: Any = client.threads
        self.assistants: Any = client.assistants
        self.store: Any = client.store

    def close(self) -> None:
        self.http.close()


class _Room:
    """One room of the asyncio client, each method waited for; streams come as they do."""

    def __init__(self, room: Any, run: Callable[[Any], Any]) -> None:
        self._room = room
        self._run = run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._room, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            if not hasattr(answer, "__aiter__"):
                answer = self._run(answer)
            return self._each(answer) if hasattr(answer, "__aiter__") else answer

        return call

    def _each(self, parts: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    part = self._run(anext(parts))
                except StopAsyncIteration:
                    return
                yield part
        finally:
            self._run(parts.aclose())


class Asyncio:
    """The asyncio client, on an event loop of its own."""

    def __init__(self, url: str, user: str) -> None:
        self.runner = asyncio.Runner()
        http = httpx.AsyncClient(base_url=url, headers={"x-api-key": user}, timeout=SECONDS)
        self._http = http
        client = LangGraphClient(http)
        self.runs, self.threads = _Room(client.runs, self.runner.run), _Room(client.threads, self.runner.run)
        self.assistants, self.store = _Room(client.assistants, self.runner.run), _Room(client.store, self.runner.run)

    def close(self) -> None:
        self.runner.run(self._http.aclose())
        self.runner.close()


Client = Blocking | Asyncio


def values(parts: Any) -> list[Any]:
    """The data of the events called values."""
    return [part.data for part in parts if part.event == "values"]


def messages(text: str) -> dict[str, Any]:
    """An input in which a human says something."""
    return {"messages": [{"role": "user", "content": text}]}
