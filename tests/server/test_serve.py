"""`clew serve`: real processes, real ports, real signals."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from clew.checkpoint.sqlite import SqliteSaver
from clew.store.sqlite import SqliteStore
from tests.server.processes import AGENT, PATIENCE, get, process, wait_until

WEBAPP = """
import asyncio
import contextlib
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import StreamingResponse


@contextlib.asynccontextmanager
async def lifespan(app):
    Path("opened").touch()
    yield
    Path("closed").touch()


app = FastAPI(lifespan=lifespan)


@app.get("/slow")
async def slow():
    async def parts():
        yield "begun "
        while not Path("go-on").exists():
            await asyncio.sleep(0.01)
        yield "ended"

    return StreamingResponse(parts())
"""

SLOW = """
import asyncio
from pathlib import Path
from typing import TypedDict

from clew.graph import START, StateGraph

State = TypedDict("State", {"text": str})


def note(name):
    with open("at-work", "a") as file:
        file.write(name + "\\n")


def say(state):
    note("say")
    return {"text": state["text"] + "!"}


async def ask(state):
    note("ask")
    while not Path("go-on").exists():
        await asyncio.sleep(0.01)
    return {"text": state["text"] + "?"}


graph = StateGraph(State)
graph.add_sequence([say, ask])
graph.add_edge(START, "say")
"""

WHO = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def user(authorization: str | None):
    if authorization is None:
        raise Auth.exceptions.HTTPException(status_code=401)
    return authorization
"""

SAVER = """
import contextlib
from pathlib import Path

from clew.checkpoint.sqlite.aio import AsyncSqliteSaver


@contextlib.asynccontextmanager
async def make():
    async with AsyncSqliteSaver.from_conn_string("own.db") as saver:
        yield saver
    Path("saver-closed").touch()
"""


def project(folder: Path, **config: object) -> Path:
    (folder / "agent.py").write_text(AGENT)
    (folder / "webapp.py").write_text(WEBAPP)
    (folder / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, **config}))
    return folder


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    yield
    for client in _clients:
        client.close()
    _clients.clear()


_clients: list[SyncLangGraphClient] = []


def opened(url: str, **headers: str) -> SyncLangGraphClient:
    """The field's client, closed after the test."""
    _clients.append(get_sync_client(url=url, headers=headers))
    return _clients[-1]


def test_graph_is_served_and_what_is_stored_is_safe(tmp_path: Path) -> None:
    project(tmp_path)
    with process(tmp_path, "serve", "agent.py:graph", "other=agent:builder", "--port", "0") as served:
        client = opened(served.serving())
        assert {each["graph_id"] for each in client.assistants.search()} == {"graph", "other"}
        thread = client.threads.create(graph_id="graph")["thread_id"]
        assert client.runs.wait(thread, "graph", input={"text": "kept"}) == {"text": "kept!"}
        client.store.put_item(["notes"], "one", {"text": "kept, too"})
        served.signal(signal.SIGINT)
        assert served.ended()[0] == 0

    path = str(tmp_path / "clew.db")
    with SqliteSaver.from_conn_string(path) as saver, SqliteStore.from_conn_string(path) as store:
        state = saver.get_tuple({"configurable": {"thread_id": thread}})
        note = store.get(("notes",), "one")
    assert state is not None
    assert state.checkpoint["channel_values"]["text"] == "kept!"
    assert note is not None
    assert note.value == {"text": "kept, too"}


def test_project_is_served_on_postgresql(tmp_path: Path, database: str) -> None:
    (tmp_path / "embed.py").write_text("def embed(texts):\n    return [[len(text), 1.0] for text in texts]\n")
    (tmp_path / ".env").write_text(f"DATABASE_URI={database}\n")
    index = {"embed": "./embed.py:embed", "dims": 2, "fields": ["text"]}
    project(tmp_path, env=".env", store={"index": index, "ttl": {"default_ttl": 10}}, http={"mount_prefix": "/api"})
    with process(tmp_path, "serve", "--port", "0") as served:
        client = opened(served.serving())
        made = client.threads.create()
        assert client.threads.get(made["thread_id"])["status"] == "idle"
        for text in ("a", "a long one"):
            client.store.put_item(["notes"], text[:6].replace(" ", "-"), {"text": text})
        found = client.store.search_items(["notes"], query="another one")
        assert [item["value"]["text"] for item in found["items"]] == ["a long one", "a"]
        assert served.url.endswith("/api")
        served.signal(signal.SIGTERM)
        status, _, err = served.ended()

    assert (status, err) == (0, "")
    assert not (tmp_path / "clew.db").exists()


def test_requests_that_go_on_are_answered_after_a_signal(tmp_path: Path) -> None:
    project(tmp_path, http={"app": "./webapp.py:app"})
    with process(tmp_path, "serve", "--port", "0") as served, httpx.Client(timeout=PATIENCE) as http:
        with http.stream("GET", f"{served.serving()}/slow") as answer:
            parts = answer.iter_text()
            assert next(parts) == "begun "
            served.signal(signal.SIGTERM)
            served.stopped_listening()
            assert served.child.poll() is None
            (tmp_path / "go-on").touch()

            assert "".join(parts) == "ended"
        assert served.ended()[0] == 0
    assert (tmp_path / "closed").exists()


def test_run_in_the_middle_is_handed_back_and_its_stream_ends(tmp_path: Path) -> None:
    """The next process goes on with it."""
    project(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    at_work = tmp_path / "at-work"
    at_work.touch()
    command = ("serve", "slow.py:graph", "--port", "0", "--grace", "0.2")
    with process(tmp_path, *command) as first:
        thread = opened(first.serving()).threads.create()["thread_id"]
        asked = {"assistant_id": "graph", "input": {"text": "a"}}
        url = f"{first.url}/threads/{thread}/runs/stream"
        with httpx.stream("POST", url, json=asked, timeout=PATIENCE) as answer:
            place = answer.headers["content-location"]
            wait_until(lambda: "ask" in at_work.read_text())
            first.signal(signal.SIGTERM)
            told = "".join(answer.iter_text())
        status, _, err = first.ended()

    (tmp_path / "go-on").touch()
    with process(tmp_path, *command) as second:
        joined = get(f"{second.serving()}{place}/join").json()
        run = get(f"{second.url}{place}").json()

    assert "event: metadata" in told
    assert "event: error" not in told
    assert (status, err) == (0, "")
    assert (joined, run["status"]) == ({"text": "a!?"}, "success")
    assert at_work.read_text() == "say\nask\nask\n"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_second_signal_ends_it_at_once(tmp_path: Path, number: int, status: int) -> None:
    project(tmp_path, http={"app": "./webapp.py:app"})
    with (
        process(tmp_path, "serve", "--port", "0", "--grace", "600") as served,
        httpx.stream("GET", f"{served.serving()}/slow", timeout=PATIENCE) as answer,
    ):
        assert next(answer.iter_text()) == "begun "
        served.signal(number)
        served.stopped_listening()
        served.signal(number)

        assert served.ended()[0] == status
    assert not (tmp_path / "closed").exists()


@pytest.mark.long
def test_request_that_outlives_the_grace_is_cut(tmp_path: Path) -> None:
    project(tmp_path, http={"app": "./webapp.py:app"})
    with (
        process(tmp_path, "serve", "--port", "0", "--grace", "0") as served,
        httpx.stream("GET", f"{served.serving()}/slow", timeout=PATIENCE) as answer,
    ):
        parts = answer.iter_text()
        assert next(parts) == "begun "
        served.signal(signal.SIGTERM)

        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
        assert served.ended()[0] == 0
    assert (tmp_path / "closed").exists()


@pytest.mark.long
def test_in_public_only_who_has_a_key_is_served(tmp_path: Path) -> None:
    project(tmp_path)
    with process(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", CLEW_API_KEYS="secret:ada") as served:
        url = served.serving()
        codes = [get(f"{url}/threads/x").status_code, get(f"{url}/threads/x", **{"x-api-key": "secret"}).status_code]

    assert codes == [401, 404]


def test_saver_and_users_may_be_ones_own(tmp_path: Path) -> None:
    (tmp_path / "who.py").write_text(WHO)
    (tmp_path / "saver.py").write_text(SAVER)
    project(tmp_path, auth={"path": "./who.py:auth"}, checkpointer={"path": "./saver.py:make"})
    with process(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", "--shared") as served:
        url = served.serving()
        opened(url, authorization="ada").threads.create()
        assert get(f"{url}/threads/x").status_code == 401
        assert opened(url, authorization="bob").threads.count() == 1
        served.signal(signal.SIGTERM)
        assert served.ended()[0] == 0

    assert (tmp_path / "own.db").exists()
    assert (tmp_path / "saver-closed").exists()


@pytest.mark.long
def test_without_authentication_the_public_is_served_only_when_that_is_said(tmp_path: Path) -> None:
    project(tmp_path)
    with process(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", "--allow-anonymous") as served:
        assert get(f"{served.serving()}/threads/x").status_code == 404
