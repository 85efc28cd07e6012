"""Assistants over HTTP, through the field's own client."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.server.kit import AGENT, Api, InProcess


def test_every_graph_has_an_assistant_whose_id_is_the_platforms(api: Api) -> None:
    found = api.assistants.search()

    assert {each["graph_id"]: each["name"] for each in found} == {"agent": "agent", "made": "made"}
    assert api.assistants.get(AGENT)["graph_id"] == "agent"
    assert api.assistants.count() == 2
    assert api.assistants.count(graph_id="agent") == 1


def test_an_assistant_from_beginning_to_end(api: Api) -> None:
    made = api.assistants.create(
        "agent", {"recursion_limit": 9}, context={"a": 1}, metadata={"team": "x"}, name="Concierge", description="helps"
    )
    id = made["assistant_id"]
    assert made | {"created_at": "", "updated_at": ""} == {
        "assistant_id": id,
        "graph_id": "agent",
        "config": {"recursion_limit": 9},
        "context": {"a": 1},
        "metadata": {"team": "x"},
        "name": "Concierge",
        "description": "helps",
        "version": 1,
        "created_at": "",
        "updated_at": "",
    }
    assert api.assistants.get(id) == made
    changed = api.assistants.update(id, metadata={"level": 2}, name="Butler")
    assert (changed["version"], changed["name"], changed["description"]) == (2, "Butler", "helps")
    assert changed["metadata"] == {"team": "x", "level": 2}
    versions = api.assistants.get_versions(id)
    assert [(each["version"], each["name"]) for each in versions] == [(2, "Butler"), (1, "Concierge")]
    assert [each["version"] for each in api.assistants.get_versions(id, metadata={"level": 2})] == [2]
    assert api.assistants.set_latest(id, 1)["name"] == "Concierge"
    assert api.assistants.get(id)["version"] == 1
    assert api.assistants.update(id, graph_id="made")["version"] == 3
    api.assistants.delete(id)
    with pytest.raises(NotFoundError):
        api.assistants.get(id)


def test_assistants_are_found_by_what_they_are(api: Api) -> None:
    for number in range(3):
        api.assistants.create("agent", name=f"Helper {number}", metadata={"number": number, "kind": "helper"})

    def names(**wanted: Any) -> list[str]:
        return [each["name"] for each in api.assistants.search(**wanted)]

    assert names(metadata={"kind": "helper"}) == ["Helper 2", "Helper 1", "Helper 0"]
    assert names(metadata={"number": 1}) == ["Helper 1"]
    assert names(name="hELPER", sort_by="name", sort_order="asc", limit=2) == ["Helper 0", "Helper 1"]
    assert api.assistants.search(name="helper 0", select=["name"]) == [{"name": "Helper 0"}]
    first = api.assistants.search(name="helper", limit=2, response_format="object")
    assert first["next"] == "2"
    assert api.assistants.search(name="helper", limit=2, offset=2, response_format="object")["next"] is None
    assert api.assistants.count(metadata={"kind": "helper"}) == 3


def test_an_id_that_is_taken_conflicts_unless_told(api: Api) -> None:
    made = api.assistants.create("agent", assistant_id="a8f6e3b1-0000-4000-8000-000000000001")

    with pytest.raises(ConflictError, match="exists already"):
        api.assistants.create("agent", assistant_id=made["assistant_id"])

    assert api.assistants.create("made", assistant_id=made["assistant_id"], if_exists="do_nothing") == made
    with pytest.raises(ConflictError):
        api.assistants.create("agent", assistant_id=AGENT)


def test_a_graphs_own_assistant_is_changed_for_its_owner_alone(api: Api) -> None:
    assert api.assistants.get_versions(AGENT)[0]["version"] == 1
    assert api.assistants.set_latest(AGENT, 1)["version"] == 1
    assert api.assistants.update(AGENT, name="Mine")["version"] == 2

    assert [each["name"] for each in api.assistants.search(graph_id="agent")] == ["Mine"]
    assert api.of("somebody else").assistants.get(AGENT)["name"] == "agent"
    assert api.assistants.set_latest(AGENT, 1)["name"] == "agent"
    api.assistants.delete(AGENT)
    assert api.assistants.get(AGENT)["version"] == 1
    with pytest.raises(ConflictError, match="belongs to graph 'agent' and stays"):
        api.assistants.delete(AGENT)


def test_graphs_are_shown_by_id_and_by_name(api: Api) -> None:
    drawn = api.assistants.get_graph("agent", xray=True)

    assert {node["id"] for node in drawn["nodes"]} >= {"__start__", "reply", "talk:ask", "__end__"}
    assert all(node["type"] and node["data"]["name"] for node in drawn["nodes"])
    assert all(set(edge) >= {"source", "target"} for edge in drawn["edges"])
    assert {node["id"] for node in api.assistants.get_graph(AGENT)["nodes"]} >= {"reply", "talk"}
    schemas = api.assistants.get_schemas(AGENT)
    assert schemas["graph_id"] == "agent"
    assert set(schemas["input_schema"]["properties"]) == {"messages", "mood"}
    assert set(schemas) == {
        "graph_id", "input_schema", "output_schema", "state_schema", "config_schema", "context_schema"
    }  # fmt: skip
    inner = api.assistants.get_subgraphs("made", recurse=True)
    assert set(inner["talk"]["state_schema"]["properties"]) == {"mood"}
    assert api.assistants.get_subgraphs("made", namespace="talk") == inner
    assert api.assistants.get_subgraphs("made", namespace="reply") == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/assistants", {"graph_id": "nothing"}, 404),
        ("POST", "/assistants", {"graph_id": "agent", "assistant_id": "no uuid"}, 422),
        ("POST", "/assistants", {}, 422),
        ("GET", "/assistants/agent", None, 422),
        ("GET", "/assistants/nothing/graph", None, 404),
        ("GET", f"/assistants/{AGENT}/graph?xray=-1", None, 422),
        ("POST", f"/assistants/{AGENT}/latest", {"version": 7}, 404),
        ("POST", "/assistants/search", {"limit": 1001}, 422),
        ("POST", "/assistants/search", {"select": ["secrets"]}, 422),
        ("PATCH", f"/assistants/{AGENT}", {"graph_id": "nothing"}, 404),
        ("GET", "/assistants/a8f6e3b1-0000-4000-8000-00000000000f", None, 404),
    ],
)
def test_what_cannot_be_answered_says_so(
    here: InProcess, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    answer = here.request(method, path, json=body)

    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


def test_an_assistants_threads_can_go_with_it(api: Api) -> None:
    made = api.assistants.create("agent")
    kept = api.threads.create()
    gone = [api.threads.create(metadata={"assistant_id": made["assistant_id"]}) for _ in range(2)]

    api.assistants.delete(made["assistant_id"], delete_threads=True)

    assert [thread["thread_id"] for thread in api.threads.search()] == [kept["thread_id"]]
    assert len(gone) == 2
