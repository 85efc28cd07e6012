"""What an application is told about HTTP: rooms, browsers, headers, a prefix, and a user's own routes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

from clew.checkpoint.sqlite import SqliteSaver
from clew.graph import START, StateGraph
from clew.server import Cors, HeaderRules, HttpSettings, Owner, Security, configurable_of, create_app
from tests.server.kit import agent


@contextlib.contextmanager
def client(http: HttpSettings, **settings: Any) -> Iterator[TestClient]:
    with (
        SqliteSaver.from_conn_string(":memory:") as saver,
        TestClient(create_app({"agent": agent()}, saver, http=http, **settings)) as opened,
    ):
        yield opened


def status(api: TestClient, *requests: str) -> list[int]:
    return [api.request(*request.split(), json={}).status_code for request in requests]


def users_app() -> FastAPI:
    """An application of a user's: routes, one of them instead of the service's; a middleware, a lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        app.state.open = True
        yield {"notes": ["opened"]}
        app.state.open = False

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def signed(request: Request, go_on: Any) -> Any:
        answer = await go_on(request)
        answer.headers["x-signed"] = "yes"
        return answer

    @app.get("/hello")
    async def hello(request: Request) -> dict[str, Any]:
        """Say hello."""
        return {"open": request.app.state.open, "notes": request.state.notes}

    @app.get("/threads/{thread_id}")
    async def thread(thread_id: str) -> dict[str, str]:
        return {"mine": thread_id}

    @app.post("/echo")
    async def echo(request: Request) -> Any:
        return await request.json()

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("here")
        await socket.close()

    @app.exception_handler(KeyError)
    async def missing(request: Request, error: KeyError) -> JSONResponse:
        return JSONResponse({"missing": str(error)}, 410)

    @app.get("/breaks")
    async def breaks() -> None:
        raise KeyError("note")

    return app


def test_users_routes_are_looked_at_first_and_their_middleware_is_around_all() -> None:
    users = users_app()
    with client(HttpSettings(app=users)) as api:
        assert api.get("/hello").json() == {"open": True, "notes": ["opened"]}
        made = api.post("/threads", json={"thread_id": "a/b"})
        assert (made.status_code, made.headers["x-signed"]) == (200, "yes")
        assert api.get("/threads/x").json() == {"mine": "x"}
        assert api.patch("/threads/a%2Fb", json={"metadata": {"n": 1}}).json()["metadata"] == {"n": 1}
        assert api.get("/threads/a%2Fb/state").status_code == 200
        assert api.get("/breaks").status_code == 410
        assert api.get("/nowhere").status_code == 404
        with api.websocket_connect("/live") as socket:
            assert socket.receive_text() == "here"
        paths = api.get("/openapi.json").json()["paths"]
        assert {"/hello", "/threads/search"} <= set(paths)
        assert "Say hello" in paths["/hello"]["get"]["description"]
        assert api.get("/docs").status_code == 200

    assert users.state.open is False


def test_a_users_application_can_be_served_again() -> None:
    users = users_app()
    for _ in range(2):
        with client(HttpSettings(app=users)) as api:
            assert api.get("/hello").status_code == 200
            assert api.post("/threads/search", json={}).json() == []


def test_users_routes_are_open_unless_the_service_guards_them() -> None:
    users, key = users_app(), {"x-api-key": "key"}
    with client(HttpSettings(app=users), auth={"key": "ada"}) as api:
        assert status(api, "GET /hello", "POST /threads/search", "GET /ok") == [200, 401, 200]
    with client(HttpSettings(app=users, authenticates_app=True), auth={"key": "ada"}) as api:
        assert status(api, "GET /hello", "POST /threads/search", "GET /ok", "GET /docs") == [401, 401, 200, 200]
        assert api.get("/hello").json()["detail"] == "the request has no valid API key"
        assert api.get("/hello", headers=key).status_code == 200
        assert api.post("/echo", headers=key, json={"n": 1}).json() == {"n": 1}
        with pytest.raises(WebSocketDisconnect) as refused, api.websocket_connect("/live"):
            pass
        assert refused.value.code == 1008
        with api.websocket_connect("/live", headers=key) as socket:
            assert socket.receive_text() == "here"


def test_authentication_may_read_what_a_users_route_reads_too() -> None:
    async def who(request: Request) -> Owner:
        return Owner((await request.json())["user"] if await request.body() else "nobody")

    with client(HttpSettings(app=users_app(), authenticates_app=True), auth=who) as api:
        assert api.post("/echo", json={"user": "ada"}).json() == {"user": "ada"}
        assert api.get("/hello").json()["open"] is True
        with api.websocket_connect("/live") as socket:
            assert socket.receive_text() == "here"


def test_documentation_says_how_who_asks_is_known() -> None:
    schemes = {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
    paths = {"/ok": {"GET": []}, "/hello": {"get": [{"key": ["x"]}]}, "/nowhere": {"GET": []}}
    security = Security(schemes, [{"key": []}], paths)
    with client(HttpSettings(app=users_app(), security=security)) as api:
        described = api.get("/openapi.json").json()

    assert described["components"]["securitySchemes"] == schemes
    assert described["security"] == [{"key": []}]
    assert described["paths"]["/ok"]["get"]["security"] == []
    assert described["paths"]["/hello"]["get"]["security"] == [{"key": ["x"]}]
    assert "security" not in described["paths"]["/info"]["get"]


def test_an_application_of_starlette_will_do_and_another_will_not() -> None:
    async def hello(request: Request) -> JSONResponse:
        return JSONResponse({"hello": "world"})

    with client(HttpSettings(app=Starlette(routes=[Route("/hello", hello)]))) as api:
        assert api.get("/hello").json() == {"hello": "world"}
        assert api.get("/ok").status_code == 200
    message = r"http\.app is a function, not an application of Starlette or FastAPI"
    with pytest.raises(TypeError, match=message), client(HttpSettings(app=hello)):
        pass


def test_all_paths_are_below_a_prefix() -> None:
    with client(HttpSettings(mount_prefix="/api/v1", app=users_app())) as api:
        assert status(api, "GET /ok", "GET /api/v1/ok", "GET /api/v1", "GET /api/v1x/ok") == [404, 200, 404, 404]
        assert api.post("/api/v1/threads", json={"thread_id": "a/b"}).status_code == 200
        assert api.get("/api/v1/threads/a%2Fb/state").status_code == 200
        assert api.get("/api/v1/hello").json()["open"] is True
        assert "/api/v1/openapi.json" in api.get("/api/v1/docs").text
        assert api.get("/api/v1/openapi.json").json()["servers"] == [{"url": "/api/v1"}]
    with pytest.raises(ValueError, match="mount_prefix 'api' is not a path such as '/api'"):
        HttpSettings(mount_prefix="api")


def test_a_room_that_is_disabled_is_not_there() -> None:
    asked = [
        "GET /info",
        "GET /openapi.json",
        "POST /assistants/search",
        "POST /threads/search",
        "GET /threads/x/state",
    ]
    asked += ["POST /store/namespaces"]
    for room in ("meta", "assistants", "threads", "store"):
        with client(HttpSettings(disabled=frozenset({room}))) as api:
            there = dict(zip(asked, status(api, *asked), strict=True))
            hidden = {request for request in asked if api.request(*request.split()).json() == {"detail": "Not Found"}}

        assert (
            hidden
            == {
                "meta": set(asked[:2]),
                "assistants": {asked[2]},
                "threads": set(asked[3:5]),
                "store": {asked[5]},
            }[room]
        )
        assert there["GET /info"] == (404 if room == "meta" else 200)


def test_without_meta_health_looks_at_nothing() -> None:
    saver = SqliteSaver(":memory:")
    with TestClient(create_app({"agent": agent()}, saver, http=HttpSettings(disabled=frozenset({"meta"})))) as api:
        saver.close()

        assert api.get("/ok?check_db=1").json() == {"ok": True, "services": {}}


def test_browsers_of_some_origins_only() -> None:
    cors = Cors(allow_origins=("https://ui.example",), allow_origin_regex=r"https://.*\.ui\.example", max_age=5)
    with client(HttpSettings(cors=cors, app=users_app())) as api:
        answers = {
            origin: api.get("/hello", headers={"origin": origin}).headers.get("access-control-allow-origin")
            for origin in ("https://ui.example", "https://a.ui.example", "https://evil.example")
        }
        asked = {"origin": "https://ui.example", "access-control-request-method": "GET"}
        before = api.options("/threads/x", headers=asked)

    assert answers == {
        "https://ui.example": "https://ui.example",
        "https://a.ui.example": "https://a.ui.example",
        "https://evil.example": None,
    }
    assert before.headers["access-control-max-age"] == "5"


def test_what_a_users_application_tells_browsers_is_not_overruled() -> None:
    users = Starlette(middleware=[Middleware(CORSMiddleware, allow_origins=["https://ui.example"])])
    with client(HttpSettings(app=users)) as api:
        own = api.get("/ok", headers={"origin": "https://evil.example"})
        theirs = api.get("/ok", headers={"origin": "https://ui.example"})

    assert "access-control-allow-origin" not in own.headers
    assert theirs.headers["access-control-allow-origin"] == "https://ui.example"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (HeaderRules(), {"x-user-id", "x-trace-id", "user-agent"}),
        (HeaderRules(excludes=("*-TRACE-*",)), {"x-user-id", "user-agent"}),
        (HeaderRules(excludes=("*",)), set()),
        (HeaderRules(includes=("X-User-*", "authorization"), excludes=("x-api-key",)), {"x-user-id", "authorization"}),
        (HeaderRules(includes=("x-api-key",)), {"x-api-key"}),
        (HeaderRules(includes=()), set()),
        (HeaderRules(includes=("*",), excludes=("a*", "c*", "h*", "user*")), {"x-user-id", "x-trace-id", "x-api-key"}),
    ],
)  # fmt: skip
def test_some_headers_are_for_the_graph(rules: HeaderRules, expected: set[str]) -> None:
    """Never one that would say what the service says itself: whose run it is, and of which thread."""
    app = FastAPI()
    app.add_api_route("/x", configurable_of_request)
    sent = {"x-user-id": "1", "x-trace-id": "2", "x-api-key": "3", "authorization": "4", "thread_id": "5"}
    sent |= {"__pregel_send": "6", "langgraph_auth_user_id": "7", "checkpoint_ns": "8"}
    with client(HttpSettings(app=app, configurable_headers=rules)) as api:
        found = api.get("/x", headers=sent).json()

    assert set(found) == expected
    assert found.get("x-user-id") in ("1", None)


def test_nodes_find_the_headers_that_are_for_them() -> None:
    def tell(state: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        configurable = config["configurable"]
        return {"tenant": configurable.get("x-tenant"), "key": configurable.get("x-api-key"), "of": configurable["of"]}

    graph = StateGraph(dict)
    graph.add_node("tell", tell)
    graph.add_edge(START, "tell")
    rules = HeaderRules(includes=("x-tenant", "thread_id"))
    asked = {"assistant_id": "told", "input": {}, "config": {"configurable": {"of": "mine", "x-tenant": "body"}}}
    sent = {"x-tenant": "acme", "x-api-key": "secret", "thread_id": "another"}
    with (
        SqliteSaver.from_conn_string(":memory:") as saver,
        TestClient(create_app({"told": graph}, saver, http=HttpSettings(configurable_headers=rules))) as api,
    ):
        thread = api.post("/threads", json={}).json()["thread_id"]
        told = api.post(f"/threads/{thread}/runs/wait", json=asked, headers=sent).json()

    assert told == {"tenant": "acme", "key": None, "of": "mine"}


async def configurable_of_request(request: Request) -> dict[str, str]:
    return configurable_of(request)


def test_a_request_that_is_too_large_is_refused() -> None:
    with client(HttpSettings(max_body=1000)) as api:
        large = b'{"metadata": {"text": "' + b"x" * 2000 + b'"}}'
        for content in (large, iter([large[:500], large[500:]])):  # with its length, and in chunks
            answer = api.post("/threads", content=content, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["detail"]) == (413, "the request is larger than 1000 bytes")
        assert api.post("/threads", json={"metadata": {"text": "x" * 500}}).status_code == 200
        assert api.post("/threads/count", json={}).json() == 1
