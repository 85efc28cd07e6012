"""A chat service: conversations that survive crashes and deploys, each user's own, on SQLite or PostgreSQL.

API_KEYS="ada=secret bob=other" uvicorn examples.chat_service.app:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from secrets import compare_digest
from typing import Annotated, Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from clew import errors
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.threads import Page, Thread, Threads
from examples.chat_service.graph import Message, build, has_message, reply_to


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.keys = dict(pair.split("=", 1) for pair in os.environ["API_KEYS"].split())
    async with open_saver() as saver:
        await saver.setup()
        app.state.threads = Threads(saver)
        app.state.graph = build().compile(checkpointer=saver)
        yield


def open_saver() -> AbstractAsyncContextManager[Any]:
    """PostgreSQL where DATABASE_URL says so, else the file chat.db."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        return AsyncSqliteSaver.from_conn_string("chat.db")
    from clew.checkpoint.postgres.aio import AsyncPostgresSaver  # late: it needs clew[postgres], and SQLite does not

    return AsyncPostgresSaver.from_conn_string(url, retry_for=2.0)  # seconds; then the caller gets 503


STATUS = {
    errors.ThreadNotFoundError: 404,
    errors.EmptyInputError: 404,  # the thread was deleted in this moment
    errors.ThreadConflictError: 409,  # another request has the thread: send the message again, with its message_id
    errors.InvalidThreadIdError: 422,
    errors.InvalidQueryError: 422,
    errors.StorageUnavailableError: 503,
    errors.StorageTimeoutError: 503,
}


async def refuse(_: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return JSONResponse({"detail": str(error)}, status, {"Retry-After": "1"} if status in (409, 503) else None)


async def refuse_input(_: Request, error: RequestValidationError) -> JSONResponse:
    """Without repeating the input, which may hold what cannot be sent back."""
    return JSONResponse({"detail": [{"loc": each["loc"], "msg": each["msg"]} for each in error.errors()]}, 422)


REFUSALS: Any = dict.fromkeys(STATUS, refuse) | {RequestValidationError: refuse_input}
app = FastAPI(title="chat", lifespan=lifespan, exception_handlers=REFUSALS)


def user(x_api_key: Annotated[str, Header()] = "") -> str:
    """Whose key it is. Behind a login of your own, take the user from there."""
    for name, key in app.state.keys.items():
        if key and compare_digest(key.encode(), x_api_key.encode()):
            return name
    raise HTTPException(401, "X-API-Key is missing or unknown")


User = Annotated[str, Depends(user)]


class Said(BaseModel):
    """A message. Sent again with the same `message_id` it is not said twice, and its reply is the same."""

    message: str = Field(min_length=1, max_length=20_000)
    thread_id: str | None = None
    message_id: str = Field(default_factory=lambda: str(uuid4()), min_length=1, max_length=100)


class Reply(BaseModel):
    thread_id: str
    message_id: str
    reply: str


class Change(BaseModel):
    title: str | None = None
    archived: bool | None = None


@app.post("/chat")
async def chat(said: Said, user: User) -> Reply:
    """Answer a message on one of the caller's threads, or on a new one."""
    threads, graph = app.state.threads.of(user), app.state.graph
    if said.thread_id is not None:
        thread = await threads.aget(said.thread_id)
    else:  # the first message, sent again, has to find its thread again
        thread = await threads.acreate(str(uuid5(NAMESPACE_OID, f"{user} {said.message_id}")), if_exists="do_nothing")
    config = {"configurable": {"thread_id": thread.id}}
    state = (snapshot := await graph.aget_state(config)).values
    is_there = has_message(said.message_id, state.get("messages", ()))
    if snapshot.next or not is_there:
        message = Message(id=said.message_id, role="user", content=said.message)
        # None goes on where a crash has cut the message off: what its nodes had finished is not done again.
        state = await graph.ainvoke(None if is_there else {"messages": [message]}, config, durability="sync")
    return Reply(thread_id=thread.id, message_id=said.message_id, reply=reply_to(said.message_id, state))


@app.get("/threads")
async def list_threads(
    user: User, archived: bool = False, text: str | None = None, limit: int = 20, after: str | None = None
) -> Page:
    """The caller's threads, recently active first; `next` is the `after` of the next page."""
    return await app.state.threads.of(user).alist(archived=archived, text=text, limit=limit, after=after)


@app.get("/threads/{thread_id}")
async def show(thread_id: str, user: User) -> dict[str, Any]:
    """A thread, its messages and their summary."""
    thread = await app.state.threads.of(user).aget(thread_id)
    state = (await app.state.graph.aget_state({"configurable": {"thread_id": thread_id}})).values
    return {"thread": thread, "messages": state.get("messages", []), "summary": state.get("summary")}


@app.patch("/threads/{thread_id}")
async def change(thread_id: str, wanted: Change, user: User) -> Thread:
    """Rename a thread, put it away, or take it out again."""
    threads = app.state.threads.of(user)
    if wanted.title is not None:
        await threads.arename(thread_id, wanted.title)
    if wanted.archived is not None:
        await (threads.aarchive if wanted.archived else threads.aunarchive)(thread_id)
    return await threads.aget(thread_id)


@app.delete("/threads/{thread_id}", status_code=204)
async def delete(thread_id: str, user: User) -> None:
    """Delete a thread: its row and all that is stored on it."""
    await app.state.threads.of(user).adelete(thread_id)
