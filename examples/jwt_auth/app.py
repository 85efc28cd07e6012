"""A graph that knows who it talks to, behind JSON Web Tokens: python -m examples.jwt_auth.app"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import uvicorn
from fastapi import FastAPI

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import create_app
from clew.store.sqlite import SqliteStore
from examples.jwt_auth.auth import Tokens, make_auth

Chat = TypedDict("Chat", {"said": Annotated[list[str], operator.add]})


def greet(chat: Chat, config: dict[str, Any]) -> Chat:
    """Answer by name; what the authentication said of the user is in the config."""
    user = config["configurable"]["langgraph_auth_user"]
    return {"said": [f"{user['display_name']}, you have said {len(chat['said'])}"]}


def make_app(saver: Any, store: Any) -> FastAPI:
    """The service; what it keeps is the caller's to close."""
    graph = StateGraph(Chat).add_node("greet", greet).add_edge(START, "greet")
    return create_app({"chat": graph}, saver, store=store, auth=make_auth(Tokens()))


def main() -> None:
    """Serve it, threads in chat.db."""
    with SqliteSaver.from_conn_string("chat.db") as saver, SqliteStore.from_conn_string("items.db") as store:
        uvicorn.run(make_app(saver, store), host="0.0.0.0", port=8000)


if __name__ == "__main__":
    main()
