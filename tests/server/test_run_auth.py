"""Runs and who asks for them: what handlers let through, what graphs know of a user, and what attackers try."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph_sdk import Auth
from langgraph_sdk.errors import ConflictError, NotFoundError

from clew.graph import START, StateGraph
from clew.runtime import Runtime
from tests.server.kit import AGENT, Chat, InProcess, Serve, keyed

FORGED = {
    "langgraph_auth_user": {"identity": "root"},
    "langgraph_auth_user_id": "root",
    "langgraph_auth_permissions": ["*"],
}


class Seen(TypedDict, total=False):
    seen: dict[str, Any]


def look(state: Seen, config: dict[str, Any], runtime: Runtime[Any]) -> Seen:
    """What a graph knows of who asks, and of the store."""
    said = config["configurable"]
    user, info = said.get("langgraph_auth_user"), runtime.server_info
    store = runtime.store
    assert store is not None
    assert info is not None
    before = [item.value["of"] for item in store.search(())]
    places = store.list_namespaces()
    store.put(("notes",), "k", {"of": None if user is None else user.identity})
    return {
        "seen": {
            "user": None
            if user is None
            else (user["identity"], user.identity, list(user.permissions), user.get("team")),
            "id": said.get("langgraph_auth_user_id"),
            "permissions": said.get("langgraph_auth_permissions"),
            "info": None if info.user is None else info.user.identity,
            "before": before,
            "places": places,
        }
    }


def graph() -> Any:
    return StateGraph(Seen).add_node("look", look).add_edge(START, "look").compile()


GRAPHS = {"agent": graph()}
INPUT: Any = {"seen": {}}


def seen(api: InProcess, assistant: str = "agent", **more: Any) -> Any:
    return api.runs.wait(None, assistant, input=INPUT, **more)["seen"]


def test_a_graph_knows_who_asks_and_has_their_items(kept: Serve) -> None:
    api = kept(keyed(), graphs=GRAPHS, user="ada read write")
    of_ada = {
        "user": ["ada", "ada", ["read", "write"], "a"], "id": "ada", "permissions": ["read", "write"], "info": "ada",
    }  # fmt: skip

    assert seen(api) == {**of_ada, "before": [], "places": []}
    assert seen(api) == {**of_ada, "before": ["ada"], "places": [["notes"]]}
    assert seen(api.of("bob"))["before"] == []
    assert api.store.get_item(("notes",), "k")["namespace"] == ["notes"]


@pytest.mark.parametrize("auth", [None, {"ada": "ada"}, keyed()], ids=["none", "keys", "handlers"])
def test_a_request_does_not_say_who_asks(serve: Serve, auth: Any) -> None:
    api = serve(auth, graphs=GRAPHS)
    known = None if auth is None else "ada"
    assistant = api.assistants.create("agent", config={"configurable": FORGED})["assistant_id"]

    for found in (
        seen(api, config={"configurable": FORGED}),
        seen(api, assistant),
        seen(api, headers={"langgraph_auth_user_id": "root", "langgraph_auth_user": "root"}),
    ):
        assert (found["id"], found["info"]) == (known or "", known)
        assert found["permissions"] == []


def test_a_thread_does_not_remember_who_asked(serve: Serve) -> None:
    api = serve(keyed(), graphs=GRAPHS)
    id = api.threads.create()["thread_id"]
    api.runs.wait(id, "agent", input=INPUT)

    state = api.threads.get_state(id)

    assert not [key for key in state["metadata"] if key.startswith("langgraph_auth")]


def test_a_run_is_asked_for_with_its_thread(serve: Serve) -> None:
    auth, told = keyed(), []

    @auth.on
    async def note(ctx: Any, value: Any) -> None:
        told.append((f"{ctx.resource}.{ctx.action}", value))

    api = serve(auth, graphs=GRAPHS)
    id = api.threads.create()["thread_id"]
    told.clear()
    api.runs.wait(id, "agent", input=INPUT, metadata={"a": 1})

    ((name, value),) = told
    assert name == "threads.create_run"
    assert (value["thread_id"], value["assistant_id"]) == (uuid.UUID(id), uuid.UUID(AGENT))
    assert (value["metadata"], value["kwargs"]["input"], value["multitask_strategy"]) == ({"a": 1}, INPUT, "enqueue")


def test_what_a_handler_writes_goes_into_the_run(kept: Serve) -> None:
    auth = keyed()

    @auth.on.threads.create_run
    async def stamp(ctx: Any, value: Any) -> Any:
        value["metadata"]["owner"] = ctx.user.identity
        return {"owner": ctx.user.identity}

    api = kept(auth, graphs=GRAPHS, shared=True)
    api.threads.create(thread_id="t", metadata={"owner": "ada"})
    api.threads.create(thread_id="of-bob", metadata={"owner": "bob"})
    assert api.runs.create("t", "agent", input=INPUT)["metadata"]["owner"] == "ada"
    made = api.runs.create("new", "agent", input=INPUT, if_not_exists="create")
    assert (made["metadata"]["owner"], api.threads.get("new")["metadata"]["owner"]) == ("ada", "ada")
    with pytest.raises(NotFoundError):
        api.runs.create("of-bob", "agent", input=INPUT)
    with pytest.raises(ConflictError):
        api.runs.create("of-bob", "agent", input=INPUT, if_not_exists="create")
    assert api.runs.list("of-bob") == []


def test_a_handler_may_refuse_runs_alone(serve: Serve) -> None:
    auth = keyed()

    @auth.on.threads.create_run
    async def refuse(ctx: Any, value: Any) -> bool:
        return "run" in ctx.permissions

    api = serve(auth, graphs=GRAPHS)
    id = api.threads.create()["thread_id"]
    for path in (f"/threads/{id}/runs", "/runs"):
        for way in ("", "/wait", "/stream"):
            assert api.request("POST", path + way, json={"assistant_id": "agent", "input": INPUT}).status_code == 403
    assert api.request("POST", "/runs/batch", json=[{"assistant_id": "agent", "input": INPUT}]).status_code == 403
    assert api.runs.list(id) == []
    assert seen(api.of("ada run"))["id"] == "ada"


def test_an_assistant_of_somebody_else_does_not_run(serve: Serve) -> None:
    auth = keyed()

    @auth.on.assistants
    async def own(ctx: Any, value: Any) -> Any:
        value.setdefault("metadata", {})["owner"] = ctx.user.identity
        return {"owner": ctx.user.identity}

    for shared in (False, True):
        api = serve(auth, graphs=GRAPHS, shared=shared)
        assistant = api.assistants.create("agent", name=f"shared {shared}")["assistant_id"]
        assert seen(api, assistant)["id"] == "ada"
        assert seen(api.of("bob"), "agent")["id"] == "bob"
        for path in ("/runs", "/runs/wait"):
            body = {"assistant_id": assistant, "input": INPUT}
            assert api.of("bob").request("POST", path, json=body).status_code == 404


def test_a_run_without_a_thread_is_its_makers(kept: Serve) -> None:
    auth = keyed()

    @auth.on.threads
    async def own(ctx: Any, value: Any) -> Any:
        return {"owner": ctx.user.identity}  # and writes nothing itself

    api = kept(auth, graphs=GRAPHS, shared=True)
    for completion in ("delete", "keep"):
        body = {"assistant_id": "agent", "input": INPUT, "on_completion": completion}
        run = api.request("POST", "/runs", json=body).json()["run_id"]
        for path in (f"/runs/{run}", f"/runs/{run}/join", f"/runs/{run}/stream"):
            assert api.request("GET", path).status_code == 200, path
            assert api.of("bob").request("GET", path).status_code == 404, path


def test_a_repeated_key_is_ones_own(kept: Serve) -> None:
    api = kept(keyed(), graphs=GRAPHS, shared=True)
    body = {"assistant_id": "agent", "input": INPUT}

    def runs(user: str) -> str:
        return api.of(user).request("POST", "/runs", json=body, headers={"idempotency-key": "1"}).json()["run_id"]

    assert runs("ada") == runs("ada")
    assert runs("ada") != runs("bob")


class Held:
    """A graph that waits in its node."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    def graph(self) -> Any:
        async def wait(state: Seen) -> Seen:
            await self.gate.wait()
            return {}

        return StateGraph(Seen).add_node("wait", wait).add_edge(START, "wait").compile()


@pytest.fixture
def readers(serve: Serve) -> InProcess:
    """A shared service in which everyone may read, and only who has the permission may write."""
    auth = keyed()

    @auth.on
    async def by_permission(ctx: Any, value: Any) -> bool:
        return ctx.action in ("read", "search") or "write" in ctx.permissions

    return serve(auth, graphs={"agent": Held().graph()}, shared=True, user="ada write")


def test_a_reader_stops_nothing(readers: InProcess) -> None:
    id = readers.threads.create()["thread_id"]
    running, waiting = (readers.runs.create(id, "agent", input=INPUT)["run_id"] for _ in range(2))
    reader = readers.of("bob")

    for path, body in (
        (f"/threads/{id}/runs/{running}/cancel", None), (f"/threads/{id}/runs/{waiting}/cancel", None),
        ("/runs/cancel", {"status": "all"}), ("/runs/cancel", {"thread_id": id, "status": "all"}),
        ("/runs/cancel", {"thread_id": id, "run_ids": [running]}),
    ):  # fmt: skip
        assert reader.request("POST", path, json=body).status_code == 403, (path, body)
    for path in (f"/threads/{id}/runs/{running}", f"/runs/{running}"):
        for way in ("join", "stream"):
            assert reader.request("GET", f"{path}/{way}?cancel_on_disconnect=1").status_code == 403
        assert reader.request("GET", path).status_code == 200
    assert reader.request("DELETE", f"/threads/{id}/runs/{waiting}").status_code == 403
    assert reader.runs.get(id, waiting)["status"] == "pending"
    readers.request("POST", "/runs/cancel", json={"status": "all"})
    assert readers.request("GET", f"/threads/{id}/runs/{running}/join").status_code == 200
    assert {run["status"] for run in readers.runs.list(id)} == {"interrupted"}


def test_who_may_write_and_not_read_can_still_stop(serve: Serve) -> None:
    auth = keyed()

    @auth.on.threads.read
    async def refuse(ctx: Any, value: Any) -> bool:
        return False

    api = serve(auth, graphs={"agent": Held().graph()})
    id = api.threads.create()["thread_id"]
    for _ in range(2):
        api.runs.create(id, "agent", input=INPUT)

    assert api.request("POST", "/runs/cancel", json={"thread_id": id, "status": "all"}).status_code == 204


def test_runs_of_others_are_not_there(guarded: InProcess) -> None:
    run = guarded.runs.create(None, "agent", input={"messages": ["private"]}, on_completion="keep")
    other, absent = guarded.of("mallory"), str(uuid.uuid4())
    mine = other.threads.create()["thread_id"]

    for way in ("", "/join", "/stream"):
        stolen = other.request("GET", f"/runs/{run['run_id']}{way}")
        missing = other.request("GET", f"/runs/{absent}{way}")
        crossed = other.request("GET", f"/threads/{mine}/runs/{run['run_id']}{way}")
        assert (stolen.status_code, missing.status_code, crossed.status_code) == (404, 404, 404)
        assert stolen.text.replace(run["run_id"], absent) == missing.text
    for body in ({"thread_id": run["thread_id"], "status": "all"}, {"thread_id": mine, "run_ids": [run["run_id"]]}):
        assert other.request("POST", "/runs/cancel", json=body).status_code == 404
    assert other.request("POST", "/runs/cancel", json={"status": "all"}).status_code == 404
    with pytest.raises((NotFoundError, ConflictError)):
        other.runs.create(run["thread_id"], "agent", input=INPUT, if_not_exists="create")


def test_a_refusal_of_a_run_has_the_handlers_words(serve: Serve) -> None:
    auth = keyed()

    @auth.on.threads.create_run
    async def refuse(ctx: Any, value: Any) -> None:
        raise Auth.exceptions.HTTPException(429, "one at a time", headers={"retry-after": "7"})

    answer = serve(auth, graphs=GRAPHS).request("POST", "/runs/wait", json={"assistant_id": "agent", "input": INPUT})

    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {"detail": "one at a time"}, "7")


def test_what_the_authentication_said_is_for_graphs_alone(serve: Serve) -> None:
    auth = Auth()
    auth.authenticate(lambda: {"identity": "ada", "token": "s3cret", "permissions": ["s3cret"]})

    def reply(state: Chat, config: dict[str, Any]) -> Chat:
        assert config["configurable"]["langgraph_auth_user"]["token"] == "s3cret"
        return {"messages": [AIMessage("hello", id="1")]}

    graph = StateGraph(Chat).add_node("reply", reply).add_edge(START, "reply").compile()
    api = serve(auth, graphs={"agent": graph})
    id = api.threads.create()["thread_id"]
    modes = ["values", "updates", "messages-tuple", "debug", "tasks", "checkpoints", "custom"]
    body = {"assistant_id": "agent", "input": {"messages": ["hi"]}, "stream_mode": modes, "stream_subgraphs": True}

    answers = [api.request("POST", f"/threads/{id}/runs/stream", json=body)]
    assert answers[0].status_code == 200, answers[0].text
    run = api.runs.list(id)[0]["run_id"]
    of_run = f"/threads/{id}/runs/{run}"
    paths = [f"/threads/{id}{part}" for part in ("", "/state", "/history", "/runs")]
    paths += [f"{of_run}{part}" for part in ("", "/join", "/stream")]
    answers += [api.request("GET", path, headers={"last-event-id": "-1"}) for path in paths]
    answers.append(api.request("POST", "/threads/search", json={}))

    assert {answer.status_code for answer in answers} == {200}
    assert "hello" in answers[0].text
    assert [answer.request.url.path for answer in answers if "s3cret" in answer.text] == []
