"""What is another owner's does not exist: generated from the routes that there are."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.routing import APIRoute

from clew.checkpoint.sqlite import SqliteSaver
from tests.server.kit import Api, make_app, said

OPEN = {"/ok", "/info", "/metrics"}
LISTS = {  # name nothing of anyone's: what they give is looked at below
    "POST /assistants", "POST /assistants/search", "POST /assistants/count", "POST /threads", "POST /threads/search",
    "POST /threads/count", "POST /threads/prune", "PUT /store/items", "GET /store/items", "DELETE /store/items",
    "POST /store/items/search", "POST /store/namespaces", "POST /runs", "POST /runs/stream", "POST /runs/wait",
    "POST /runs/batch", "POST /runs/cancel", "POST /runs/crons", "POST /runs/crons/search", "POST /runs/crons/count",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "PATCH /assistants/{assistant_id}": {"name": "stolen"},
    "POST /assistants/{assistant_id}/versions": {},
    "POST /assistants/{assistant_id}/latest": {"version": 1},
    "PATCH /threads/{thread_id}": {"metadata": {"stolen": True}},
    "POST /threads/{thread_id}/state": {"values": {"mood": "stolen"}, "as_node": "reply"},
    "POST /threads/{thread_id}/state/checkpoint": {"checkpoint": {}},
    "POST /threads/{thread_id}/history": {},
    "POST /threads/{thread_id}/commands": {"id": 1, "method": "state.get"},
    "POST /threads/{thread_id}/stream/events": {"channels": ["values"]},
    "POST /threads/{thread_id}/runs": {"assistant_id": "agent", "input": {}},
    "POST /threads/{thread_id}/runs/stream": {"assistant_id": "agent", "input": {}},
    "POST /threads/{thread_id}/runs/wait": {"assistant_id": "agent", "input": {}},
    "POST /threads/{thread_id}/runs/crons": {"assistant_id": "agent", "schedule": "@daily"},
    "PATCH /runs/crons/{cron_id}": {"enabled": False},
}


def named_routes() -> list[str]:
    """Every route that names something of an owner's."""
    routes = [route for route in flattened(make_app(SqliteSaver(":memory:"), None).routes) if route.path not in OPEN]
    names = {f"{method} {route.path}" for route in routes for method in route.methods}
    assert names >= LISTS
    assert all("{" in name for name in names - LISTS)
    return sorted(names - LISTS)


def flattened(routes: Any) -> list[APIRoute]:
    """The routes of an application, those of its routers too."""
    found: list[APIRoute] = []
    for route in routes:
        if isinstance(route, APIRoute):
            found.append(route)
        else:
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            found += flattened(getattr(inner, "routes", ()))
    return found


@pytest.mark.parametrize("route", named_routes())
def test_what_is_anothers_is_not_there(api: Api, route: str) -> None:
    steal(api, route)


@pytest.mark.parametrize("route", named_routes())
def test_what_handlers_exclude_is_not_there(guarded: Api, route: str) -> None:
    steal(guarded, route)


def steal(api: Api, route: str) -> None:
    """Name what is another's on a route, and what never was: the answers are the same."""
    thread_id = api.threads.create(graph_id="agent", supersteps=[said("private")])["thread_id"]
    api.runs.wait(thread_id, "agent", input={"messages": [{"role": "user", "content": "private"}]})
    (run,) = api.runs.list(thread_id)
    thread = api.threads.get(thread_id)
    assistant = api.assistants.create("agent", name="private")
    cron = api.crons.create("agent", schedule="@yearly", metadata={"note": "private"})
    state = api.threads.get_state(thread_id)
    method, path = route.split()
    parts = {
        "thread_id": thread["thread_id"],
        "assistant_id": assistant["assistant_id"],
        "checkpoint_id": state["checkpoint_id"],
        "run_id": run["run_id"],
        "cron_id": cron["cron_id"],
        "namespace": "talk",
    }
    other = api.of(f"not {api.user}")

    stolen = other.request(method, path.format(**parts), json=BODIES.get(route))
    absent = dict.fromkeys(parts, "00000000-0000-4000-8000-000000000000")
    missing = other.request(method, path.format(**absent), json=BODIES.get(route))

    assert stolen.status_code == 404
    assert missing.status_code == 404
    text = stolen.text
    for id in parts.values():
        text = text.replace(id, "ID") if len(id) == 36 else text
    assert text == missing.text.replace(absent["thread_id"], "ID")
    assert "private" not in stolen.text
    assert api.threads.get(thread_id) == thread
    assert api.runs.list(thread_id) == [run]
    assert api.assistants.get(assistant["assistant_id"]) == assistant
    assert cron in api.crons.search(limit=1000)


def test_lists_have_what_is_ones_own(api: Api) -> None:
    assistant = look(api)["assistant_id"]

    mine = api.of(f"not {api.user}").assistants.create("made", assistant_id=assistant)
    assert (mine["graph_id"], api.assistants.get(assistant)["graph_id"]) == ("made", "agent")


def test_lists_have_what_handlers_leave(guarded: Api) -> None:
    look(guarded)


def look(api: Api) -> Any:
    """Look for what is another's in every list; gives the other's assistant."""
    thread = api.threads.create(metadata={"private": True})
    assistant = api.assistants.create("agent", metadata={"private": True})
    other = api.of(f"not {api.user}")

    assert other.threads.search() == other.threads.search(ids=[thread["thread_id"]]) == []
    assert other.threads.search(metadata={"private": True}, sort_by="created_at") == []
    assert (other.threads.count(), other.threads.count(metadata={"private": True})) == (0, 0)
    assert other.threads.prune([thread["thread_id"]]) == {"pruned_count": 0}
    assert other.threads.prune([thread["thread_id"]], strategy="keep_latest") == {"pruned_count": 0}
    assert other.assistants.search(metadata={"private": True}) == []
    assert other.assistants.count(name=assistant["name"]) == 0
    cron = api.crons.create("agent", schedule="@yearly", metadata={"private": True})
    assert cron in api.crons.search(metadata={"private": True}, limit=1000)
    assert (other.crons.search(), other.crons.count(metadata={"private": True})) == ([], 0)
    return assistant
