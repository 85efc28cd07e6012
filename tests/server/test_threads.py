"""Threads over HTTP, through the field's own client."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError

from tests.server.kit import Api, InProcess, answered, said


def test_a_thread_from_beginning_to_end(api: Api) -> None:
    made = api.threads.create(metadata={"kind": "trip", "title": "Rome"}, graph_id="agent")
    id = made["thread_id"]
    assert {key: made[key] for key in ("status", "values", "interrupts", "error", "title", "archived")} == {
        "status": "idle",
        "values": None,
        "interrupts": {},
        "error": None,
        "title": "Rome",
        "archived": False,
    }
    assert made["metadata"] == {"kind": "trip", "title": "Rome", "graph_id": "agent"}
    assert made["user_id"] == api.user
    assert datetime.fromisoformat(made["created_at"]).utcoffset() == timedelta(0)
    assert api.threads.get(id) == made
    assert api.threads.update(id, metadata={"kind": "move"})["metadata"] == made["metadata"] | {"kind": "move"}
    assert api.threads.update(id, metadata={}, return_minimal=True) is None
    changed = api.request("PATCH", f"/threads/{id}", json={"title": "Roma", "archived": True}).json()
    assert (changed["title"], changed["archived"]) == ("Roma", True)
    assert api.threads.search() == []
    assert api.request("POST", "/threads/search", json={"archived": True}).json()[0]["thread_id"] == id
    api.threads.update(id, metadata={"archived": True})
    assert [found["thread_id"] for found in api.threads.search(metadata={"archived": True})] == [id]
    assert [found["thread_id"] for found in api.threads.search(ids=[id])] == [id]
    assert api.request("POST", "/threads/search", json={"ids": [id], "archived": False}).json() == []
    assert UUID(id).version == 7
    api.threads.delete(id)
    with pytest.raises(NotFoundError, match="there is no thread"):
        api.threads.get(id)
    with pytest.raises(NotFoundError):
        api.threads.delete(id)


@pytest.mark.parametrize("id", ["trip", "a/b?c#d", "ünï code", "..", "a.b", "0b52e4a4-8f7c-4b6f-9d5e-4ac1bb1d2b6e"])
def test_a_thread_has_any_id(api: Api, id: str) -> None:
    own = f"{id} of {api.user}"

    made = api.threads.create(thread_id=own, graph_id="agent", supersteps=[said("hello")])

    assert api.threads.get(own) == made
    assert api.threads.get_state(own)["next"] == ["reply"]
    assert len(api.threads.get_history(own)) == 1


def test_an_id_that_is_taken_conflicts_unless_told(api: Api) -> None:
    id = f"taken by {api.user}"
    made = api.threads.create(thread_id=id, graph_id="agent", supersteps=[said("hello")])

    with pytest.raises(ConflictError):
        api.threads.create(thread_id=id)
    with pytest.raises(ConflictError):
        api.of("somebody").threads.create(thread_id=id, if_exists="do_nothing")

    again = api.threads.create(thread_id=id, if_exists="do_nothing", supersteps=[said("again")])
    assert again["values"] == made["values"]
    assert len(api.threads.get_history(id)) == 1


def test_a_thread_begins_with_the_state_it_is_given(api: Api) -> None:
    made = api.threads.create(graph_id="agent", supersteps=[said("hello there"), answered("hi")])

    assert made["status"] == "interrupted"
    assert made["title"] == "hello there"
    assert [message["content"] for message in made["values"]["messages"]] == ["hello there", "hi"]
    assert [message["type"] for message in made["values"]["messages"]] == ["human", "ai"]
    assert api.threads.get(made["thread_id"])["values"] == made["values"]


def test_a_state_that_cannot_be_leaves_no_thread(api: Api) -> None:
    id = f"never of {api.user}"

    for wrong in ({"graph_id": "agent", "supersteps": [answered("hi"), said("hello", "nobody")]},
                  {"supersteps": [said("hello")]}):  # fmt: skip
        with pytest.raises(BadRequestError):
            api.threads.create(thread_id=id, **wrong)
        with pytest.raises(NotFoundError):
            api.threads.get(id)


def test_a_thread_lives_as_long_as_it_is_told(api: Api) -> None:
    made = api.threads.create(ttl=30)

    assert "ttl" not in api.threads.get(made["thread_id"])
    ttl = api.threads.get(made["thread_id"], include=["ttl"])["ttl"]
    assert (ttl["strategy"], ttl["ttl_minutes"]) == ("delete", 30)
    lives = datetime.fromisoformat(ttl["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lives == timedelta(minutes=30)
    api.threads.update(made["thread_id"], metadata={}, ttl={"ttl": 60, "strategy": "keep_latest"})
    ttl = api.threads.get(made["thread_id"], include=["ttl"])["ttl"]
    assert (ttl["strategy"], ttl["ttl_minutes"]) == ("keep_latest", 60)
    with pytest.raises(UnprocessableEntityError):
        api.threads.create(ttl=0)


def test_threads_are_found_by_what_they_are(api: Api) -> None:
    made = [api.threads.create(metadata={"number": n, "even": n % 2 == 0}) for n in range(5)]
    ids = [each["thread_id"] for each in made]

    def found(**wanted: Any) -> list[int]:
        return [ids.index(each["thread_id"]) for each in api.threads.search(**wanted)]

    assert found() == [4, 3, 2, 1, 0]
    assert found(metadata={"even": True}) == [4, 2, 0]
    assert found(metadata={"number": 3}) == [3]
    assert found(metadata={"number": 3, "even": True}) == []
    assert found(status="idle", limit=2) == [4, 3]
    assert found(status="busy") == []
    assert found(ids=[ids[3], ids[1], "nothing"]) == [3, 1]
    assert found(sort_by="created_at", sort_order="asc", limit=2, offset=1) == [1, 2]
    assert found(sort_by="thread_id", sort_order="asc") == [ids.index(id) for id in sorted(ids)]
    api.threads.update(ids[1], metadata={"touched": True})
    assert found(sort_by="updated_at", limit=1) == [1]
    assert api.threads.count(metadata={"even": True}) == 3
    assert api.threads.count(metadata={"number": 3}) == 1
    assert api.threads.count(status="error") == 0
    assert api.threads.count() == 5


def test_pages_say_where_the_next_one_begins(api: Api) -> None:
    for _ in range(3):
        api.threads.create()

    first = api.request("POST", "/threads/search", json={"limit": 2})
    last = api.request("POST", "/threads/search", json={"limit": 2, "offset": 2})

    assert (first.headers["x-pagination-next"], first.headers["x-pagination-total"]) == ("2", "3")
    assert "x-pagination-next" not in last.headers
    assert last.headers["x-pagination-total"] == "3"
    assert (len(first.json()), len(last.json())) == (2, 1)


def test_lists_show_values_and_what_is_picked_from_them(api: Api) -> None:
    made = api.threads.create(graph_id="agent", supersteps=[said("hello"), answered("hi")])
    other = api.threads.create()

    shown = api.threads.search(sort_by="created_at")
    assert [each["values"] for each in shown] == [None, made["values"]]
    picked = api.threads.search(
        ids=[made["thread_id"]],
        select=["thread_id"],
        extract={"last": "values.messages[-1].content", "first": "values.messages[0].type", "none": "values.x[3].y"},
    )
    assert picked == [{"thread_id": made["thread_id"], "extracted": {"last": "hi", "first": "human", "none": None}}]
    assert api.threads.search(select=["thread_id", "status"], ids=[other["thread_id"]]) == [
        {"thread_id": other["thread_id"], "status": "idle"}
    ]
    assert [each["thread_id"] for each in api.threads.search(values={"mood": "calm"})] == [made["thread_id"]]
    assert api.threads.search(values={"mood": "wild"}) == []
    assert api.threads.count(values={"mood": "calm"}) == 1


def test_a_copy_has_the_whole_history(api: Api) -> None:
    made = api.threads.create(graph_id="agent", supersteps=[said("hello"), answered("hi")])

    copied = api.threads.copy(made["thread_id"])

    assert copied["thread_id"] != made["thread_id"]
    assert copied["values"] == made["values"]
    histories = [api.threads.get_history(each["thread_id"]) for each in (made, copied)]
    assert [state["checkpoint_id"] for state in histories[0]] == [state["checkpoint_id"] for state in histories[1]]
    assert len(histories[0]) == 2


def test_threads_are_pruned_to_their_newest_checkpoint_or_away(api: Api) -> None:
    ids = [api.threads.create(supersteps=[said("hello"), answered("hi")], graph_id="agent")["thread_id"] for _ in "ab"]

    assert api.threads.prune([ids[0], "nothing"], strategy="keep_latest") == {"pruned_count": 1}
    assert len(api.threads.get_history(ids[0])) == 1
    assert api.threads.get(ids[0])["values"]["mood"] == "calm"
    assert api.threads.prune(ids) == {"pruned_count": 2}
    assert api.threads.count() == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", {"thread_id": ""}),
        ("/threads", {"thread_id": "x" * 300}),
        ("/threads", {"thread_id": "nul\x00"}),
        ("/threads", {"metadata": {"nul": "\x00"}}),
        ("/threads", {"if_exists": "replace"}),
        ("/threads", {"ttl": {"ttl": 5, "strategy": "burn"}}),
        ("/threads", {"ttl": 1.5}),
        ("/threads/search", {"limit": 1001}),
        ("/threads/search", {"offset": -1}),
        ("/threads/search", {"sort_by": "title"}),
        ("/threads/search", {"select": ["secrets"]}),
        ("/threads/search", {"extract": {str(n): "values" for n in range(11)}}),
        ("/threads/search", {"extract": {"x": "values[a]"}}),
        ("/threads/search", {"extract": {"x": ""}}),
        ("/threads/prune", {"thread_ids": ["a"], "strategy": "all"}),
    ],
)
def test_what_cannot_be_honoured_is_refused(here: InProcess, path: str, body: dict[str, Any]) -> None:
    answer = here.request("POST", path, json=body)

    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("path", ["/threads/search", "/threads/count"])
@pytest.mark.parametrize("wanted", ['{"text": "\\ud800"}', '{"text": "\\u0000"}', '{"metadata": {"a": "\\ud800"}}'])
def test_texts_that_no_database_holds_are_refused(api: Api, path: str, wanted: str) -> None:
    answer = api.request("POST", path, content=wanted, headers={"content-type": "application/json"})

    assert answer.status_code == 422


def test_a_thread_whose_metadata_name_no_graph_is_a_thread(here: InProcess) -> None:
    made = here.threads.create(metadata={"graph_id": ["agent"]})

    assert here.threads.get(made["thread_id"])["values"] is None


def test_a_change_by_hand_moves_the_state_and_the_thread(api: Api) -> None:
    first = api.threads.create(graph_id="agent", supersteps=[said("hello")])
    second = api.threads.create(graph_id="agent", supersteps=[said("hi")])
    assert [each["thread_id"] for each in api.threads.search()] == [second["thread_id"], first["thread_id"]]

    api.threads.update_state(first["thread_id"], {"mood": "wild"}, as_node="reply")

    listed = api.threads.search(select=["thread_id", "state_updated_at"])
    state = api.threads.get_state(first["thread_id"])
    assert [each["thread_id"] for each in listed] == [first["thread_id"], second["thread_id"]]
    assert listed[0]["state_updated_at"] == state["created_at"] > first["state_updated_at"]
    assert api.threads.get(first["thread_id"])["state_updated_at"] == state["created_at"]


def test_a_copy_keeps_metadata_and_pruning_counts_each_once(api: Api) -> None:
    made = api.threads.create(metadata={"kind": "trip", "title": "Rome"}, graph_id="agent", supersteps=[said("hello")])

    copied = api.threads.copy(made["thread_id"])

    assert (copied["metadata"], copied["title"]) == (made["metadata"], "Rome")
    ids = [made["thread_id"], copied["thread_id"], made["thread_id"], "nothing"]
    assert api.threads.prune(ids, strategy="keep_latest") == {"pruned_count": 2}
    assert api.threads.prune(ids) == {"pruned_count": 2}
    assert api.threads.prune(ids) == {"pruned_count": 0}


def test_a_page_beyond_the_end_says_so(api: Api) -> None:
    api.threads.create()

    beyond = api.request("POST", "/threads/search", json={"limit": 2, "offset": 50})

    assert (beyond.json(), beyond.headers["x-pagination-total"]) == ([], "50")
    assert "x-pagination-next" not in beyond.headers
