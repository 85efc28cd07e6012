"""What these tests talk to: one service in this process, and one behind a real port; each request has its owner."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import httpx
from fastapi import FastAPI, Request
from langgraph_sdk import Auth
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient

from clew.graph import START, StateGraph
from clew.graph.message import add_messages
from clew.server import Owner, create_app
from clew.types import interrupt

AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"  # the platform's id of the assistant of a graph called "agent"


class Chat(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    mood: str


class Inner(TypedDict, total=False):
    mood: str


def reply(chat: Chat) -> Chat:
    return {"messages": [("ai", f"you said {chat['messages'][-1].content}")], "mood": "calm"}


def ask(chat: Inner) -> Inner:
    return {"mood": interrupt("how are you?")}


def agent() -> StateGraph[Any]:
    """A reply, and then a question from a nested graph."""
    inner = StateGraph(Inner)
    inner.add_node("ask", ask)
    inner.add_node("listen", lambda chat: {"mood": chat["mood"]})
    inner.add_edge(START, "ask")
    inner.add_edge("ask", "listen")
    graph = StateGraph(Chat)
    graph.add_node("reply", reply)
    graph.add_node("talk", inner.compile())
    graph.add_edge(START, "reply")
    graph.add_edge("reply", "talk")
    return graph


async def owner_of(request: Request) -> Owner:
    """Everyone is who they say they are: the owner is the request's key."""
    return Owner(request.headers["x-api-key"])


def keyed() -> Auth:
    """An `Auth` that lets everyone be who they say they are: `x-api-key: name` or `name permission permission`."""
    auth = Auth()

    @auth.authenticate
    async def authenticate(headers: dict[Any, Any]) -> Any:
        if "x-api-key" not in headers:
            raise Auth.exceptions.HTTPException(401, "who are you?", headers={"www-authenticate": "Key"})
        name, *permissions = headers["x-api-key"].split(" ")
        return {"identity": name, "permissions": permissions, "team": name[:1]}

    return auth


def owners_only() -> Auth:
    """The field's usual handlers: what a user makes bears their name, and everything is looked for by it."""
    auth = keyed()

    @auth.on
    async def own(ctx: Any, value: Any) -> Any:
        value.setdefault("metadata", {})["owner"] = ctx.user.identity
        return {"owner": ctx.user.identity}

    @auth.on.store
    async def own_items(ctx: Any, value: Any) -> None:
        value["namespace"] = (ctx.user.identity.replace(".", "-"), *(value["namespace"] or ()))

    return auth


def make_app(saver: Any, store: Any, **settings: Any) -> FastAPI:
    """A service with two graphs, one of them from a factory."""
    graphs = {"agent": agent(), "made": lambda config: agent().compile()}
    return create_app(graphs, saver, store=store, **{"auth": owner_of, **settings})


class _Room:
    """One room of the asyncio client, each method waited for."""

    def __init__(self, room: Any, run: Callable[..., Any]) -> None:
        self._room = room
        self._run = run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._room, name)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            return iter(self._run(_all(answer))) if hasattr(answer, "__aiter__") else self._run(answer)

        return call


async def _all(parts: Any) -> list[Any]:
    return [part async for part in parts]


class InProcess:
    """A service in this process, through the asyncio client."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner, user: str) -> None:
        self.app = app
        self.runner = runner
        self.user = user
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://clew", headers={"x-api-key": user})
        client = LangGraphClient(self._http)
        self.threads = _Room(client.threads, runner.run)
        self.assistants = _Room(client.assistants, runner.run)
        self.store = _Room(client.store, runner.run)
        self.runs = _Room(client.runs, runner.run)
        self.crons = _Room(client.crons, runner.run)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.runner.run(self.app.state.clew.drain(0))

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return self.runner.run(self._http.request(method, path, **kwargs))

    def of(self, user: str) -> InProcess:
        """The same service for somebody else."""
        return InProcess(self.app, self.runner, user)


class Remote:
    """A service in a process of its own, through the blocking client."""

    def __init__(self, url: str, user: str) -> None:
        self.url = url
        self._others: list[Remote] = []
        self.user = user
        self._http = httpx.Client(base_url=url, headers={"x-api-key": user})
        client = SyncLangGraphClient(self._http)
        self.threads, self.assistants, self.store = client.threads, client.assistants, client.store
        self.runs, self.crons = client.runs, client.crons

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return self._http.request(method, path, **kwargs)

    def of(self, user: str) -> Remote:
        """The same service for somebody else."""
        self._others.append(Remote(self.url, user))
        return self._others[-1]

    def close(self) -> None:
        for other in self._others:
            other.close()
        self._http.close()


Api = InProcess | Remote
Serve = Callable[..., InProcess]


def said(text: str, as_node: str = "__start__") -> dict[str, Any]:
    """A superstep in which a human says something."""
    return {"updates": [{"values": {"messages": [{"role": "user", "content": text}]}, "as_node": as_node}]}


def answered(text: str) -> dict[str, Any]:
    """A superstep in which the agent answers."""
    values = {"messages": [{"role": "ai", "content": text}], "mood": "calm"}
    return {"updates": [{"values": values, "as_node": "reply"}]}
