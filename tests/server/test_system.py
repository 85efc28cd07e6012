"""What is around every request: health, CORS, keys that nobody knows, authentication, factories."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from clew.checkpoint.sqlite import SqliteSaver
from clew.server import create_app
from tests.server.kit import AGENT, Api, InProcess, agent, make_app


def test_the_service_says_that_it_is_there_and_what_it_can(api: Api) -> None:
    assert api.request("GET", "/ok").json() == {"ok": True, "services": {}}
    assert api.request("GET", "/ok?check_db=1").json()["ok"] is True
    info = api.request("GET", "/info").json()
    assert info["flags"]["assistants"] is True
    assert info["version"] >= "0.11"
    assert api.request("GET", "/docs").status_code == 200
    assert "/threads/{thread_id}/state" in api.request("GET", "/openapi.json").json()["paths"]


def test_the_description_says_how_errors_look(here: InProcess) -> None:
    description = here.request("GET", "/openapi.json").json()
    refused = here.request("POST", "/threads", json={"metadata": 1}).json()

    operations = [each for path in description["paths"].values() for each in path.values()]
    said = {
        response["content"]["application/json"]["schema"]["$ref"]
        for each in operations
        for status, response in each["responses"].items()
        if status in ("422", "default")
    }
    assert said == {"#/components/schemas/Error"}
    assert all("default" in each["responses"] for each in operations)
    schema = description["components"]["schemas"]["Error"]
    assert set(schema["required"]) <= set(refused) <= set(schema["properties"])
    assert isinstance(refused["detail"], str)


def test_browsers_may_read_what_they_need(here: InProcess) -> None:
    asked = {
        "origin": "https://ui.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key, last-event-id",
        "access-control-request-private-network": "true",
    }

    before = here.request("OPTIONS", "/threads/search", headers=asked)
    answer = here.request("POST", "/threads/search", json={}, headers={"origin": "https://ui.example"})

    assert before.status_code == 200
    assert before.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"content-location", "location", "x-pagination-total", "x-pagination-next", "x-clew-ignored"}


def test_keys_that_nobody_knows_are_named(here: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "clew.server"):
        answer = here.request("POST", "/threads", json={"colour": 1, "größe": 2})

    assert answer.status_code == 200
    assert answer.headers["x-clew-ignored"] == "'colour', 'gr\\xf6\\xdfe'"
    assert "POST /threads: unknown keys were ignored: 'colour'" in caplog.text
    assert "x-clew-ignored" not in here.request("POST", "/threads", json={}).headers


def test_what_goes_wrong_inside_is_logged_and_not_shown(here: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    @here.app.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError("a secret")

    answer = here.request("GET", "/breaks", headers={"origin": "https://ui.example"})

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, "*")
    id = answer.headers["x-request-id"]
    assert answer.json() == {"detail": "internal error", "error": "RuntimeError", "request_id": id}
    assert "a secret" in caplog.text
    assert f"GET /breaks failed (request {id})" in caplog.text
    assert here.request("GET", "/nowhere").json() == {"detail": "Not Found"}
    assert here.request("POST", "/threads", content=b"{").status_code == 422


def test_keys_open_what_is_ones_own() -> None:
    with asyncio.Runner() as runner:
        app = make_app(SqliteSaver(":memory:"), None, auth={"key-a": "ada", "key-b": "bob"})
        ada, bob, nobody = (InProcess(app, runner, key) for key in ("key-a", "key-b", "key-c"))

        made = ada.threads.create()

        assert made["user_id"] == "ada"
        assert bob.request("GET", f"/threads/{made['thread_id']}").status_code == 404
        refused = nobody.request("GET", f"/threads/{made['thread_id']}")
        assert (refused.status_code, refused.json()["detail"]) == (401, "the request has no valid API key")
        bearer = {"x-api-key": "", "authorization": "Bearer key-a"}
        assert nobody.request("GET", f"/threads/{made['thread_id']}", headers=bearer).status_code == 200
        assert nobody.request("GET", "/ok").status_code == 200


def test_without_authentication_a_key_is_not_looked_at() -> None:
    with asyncio.Runner() as runner:
        app = make_app(SqliteSaver(":memory:"), None, auth=None)
        made = InProcess(app, runner, "one").threads.create()

        assert made["user_id"] is None
        assert [each["thread_id"] for each in InProcess(app, runner, "two").threads.search()] == [made["thread_id"]]


def test_an_application_is_mounted_in_another_one() -> None:
    outer = FastAPI()
    outer.mount("/agents", make_app(SqliteSaver(":memory:"), None, auth=None))

    async def use() -> list[int]:
        transport = httpx.ASGITransport(outer)
        async with httpx.AsyncClient(transport=transport, base_url="http://clew/agents/") as http:
            made = await http.post("threads", json={"thread_id": "with/slash"})
            return [made.status_code, (await http.get("threads/with%2Fslash")).status_code]

    assert asyncio.run(use()) == [200, 200]


def test_graphs_come_from_factories_of_every_kind() -> None:
    closed: list[str] = []

    async def later(config: dict[str, Any]) -> Any:
        return agent()

    @contextlib.asynccontextmanager
    async def lent() -> Any:
        yield agent().compile()
        closed.append("lent")

    graphs = {"plain": lambda: agent(), "later": later, "lent": lent}
    with asyncio.Runner() as runner:
        api = InProcess(create_app(graphs, SqliteSaver(":memory:")), runner, "")
        for name in graphs:
            assert {node["id"] for node in api.assistants.get_graph(name)["nodes"]} >= {"reply", "talk"}

    assert closed == ["lent"]


def test_what_cannot_be_served_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="there is no graph to serve"):
        create_app({}, SqliteSaver(":memory:"))
    with pytest.raises(TypeError, match="graph 'x' is a int, not a graph or a factory"):
        create_app({"x": 1}, SqliteSaver(":memory:"))
    with pytest.raises(TypeError, match="storage is a str, not a saver of clew"):
        create_app({"x": agent()}, "threads.db")  # type: ignore[arg-type] - the point of the test
    with pytest.raises(TypeError, match="auth is a int"):
        create_app({"x": agent()}, SqliteSaver(":memory:"), auth=1)  # type: ignore[arg-type] - the point of the test
    with pytest.raises(ValueError, match="neither of them empty"):
        create_app({"x": agent()}, SqliteSaver(":memory:"), auth={"": "ada"})


def test_two_applications_in_one_process_share_nothing() -> None:
    with asyncio.Runner() as runner:
        one, two = (InProcess(make_app(SqliteSaver(":memory:"), None), runner, "ada") for _ in range(2))
        one.threads.create()
        one.assistants.update(AGENT, name="Mine")

        assert (one.threads.count(), two.threads.count()) == (1, 0)
        assert two.assistants.get(AGENT)["name"] == "agent"
