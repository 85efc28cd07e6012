"""Crons and who asks for them: what handlers let through, and as whom the runs of a cron are made."""

from __future__ import annotations

from typing import Any

from clew.server.crons import Crons
from clew.server.duties.crons import run_of
from tests.server.kit import InProcess, Serve, keyed

YEARLY = "0 0 1 1 *"


def cron_of(api: InProcess, cron_id: str) -> Any:
    """The run that a cron makes next."""
    service = api.app.state.clew
    row = api.runner.run(Crons(service.storage, None).get(cron_id))
    assistant = api.runner.run(service.assistants.of(None).named("agent"))
    return run_of(row, 0, assistant, "t")


def asked_by(api: InProcess, cron_id: str) -> str:
    return cron_of(api, cron_id).request["config"]["configurable"]["langgraph_auth_user_id"]


def make(api: InProcess, **more: Any) -> Any:
    thread = more.pop("thread", None)
    path = "/runs/crons" if thread is None else f"/threads/{thread}/runs/crons"
    return api.request("POST", path, json={"assistant_id": "agent", "schedule": YEARLY, **more})


def test_crons_of_others_are_not_there(guarded: InProcess) -> None:
    thread = guarded.threads.create()["thread_id"]
    ids = [make(guarded, **more).json()["cron_id"] for more in ({}, {"thread": thread})]
    other = guarded.of("mallory")

    assert guarded.crons.count() == 2
    assert (other.crons.search(), other.crons.count(), other.crons.search(thread_id=thread)) == ([], 0, [])
    assert make(other, thread=thread).status_code == 404
    for id in ids:
        for method, body in (("GET", None), ("PATCH", {"schedule": "@daily"}), ("DELETE", None)):
            assert other.request(method, f"/runs/crons/{id}", json=body).status_code == 404
        assert guarded.request("GET", f"/runs/crons/{id}").json()["schedule"] == YEARLY


def test_what_handlers_are_told_and_write(serve: Serve) -> None:
    auth, told = keyed(), []

    @auth.on
    async def stamp(ctx: Any, value: Any) -> None:
        told.append(f"{ctx.resource}.{ctx.action}")
        value.setdefault("metadata", {})[ctx.action] = ctx.user.identity

    api = serve(auth)
    cron = make(api, metadata={"n": 1}).json()
    api.request("GET", f"/runs/crons/{cron['cron_id']}")
    changed = api.request("PATCH", f"/runs/crons/{cron['cron_id']}", json={"enabled": False}).json()
    api.crons.count()
    api.request("DELETE", f"/runs/crons/{cron['cron_id']}")

    stamped = {"n": 1, "create_run": "ada", "create": "ada"}
    assert (cron["metadata"], changed["metadata"]) == (stamped, {**stamped, "update": "ada"})
    assert told == [
        "threads.create_run", "crons.create", "crons.read", "crons.update", "crons.search", "crons.delete",
    ]  # fmt: skip


def test_a_thread_that_may_only_be_read_gets_no_cron(serve: Serve) -> None:
    auth = keyed()

    @auth.on.threads.create_run
    async def own(ctx: Any, value: Any) -> Any:
        return {"owner": ctx.user.identity}

    api = serve(auth, shared=True)
    id = api.threads.create(metadata={"owner": "ada"})["thread_id"]

    assert api.of("bob").threads.get(id)["thread_id"] == id
    assert make(api.of("bob"), thread=id).status_code == 404
    assert make(api, thread=id, metadata={"owner": "ada"}).status_code == 200


def test_a_cron_runs_for_who_said_last_what_it_does(serve: Serve) -> None:
    api = serve(keyed(), shared=True)
    forged = {"configurable": {"langgraph_auth_user_id": "root", "mood": "calm"}}
    id = make(api, config=forged, input={"mood": "calm"}).json()["cron_id"]
    assert asked_by(api, id) == "ada"

    api.of("bob").request("PATCH", f"/runs/crons/{id}", json={"schedule": "@daily"})
    assert asked_by(api, id) == "ada"
    api.of("bob").request("PATCH", f"/runs/crons/{id}", json={"input": {"mood": "hacked"}, "config": forged})
    assert asked_by(api, id) == "bob"
    assert cron_of(api, id).request["config"]["configurable"]["mood"] == "calm"
    assert "bob" not in api.request("GET", f"/runs/crons/{id}").text
