"""What handlers of a `langgraph_sdk.Auth` let users do: which one runs, what it is told, and what its answer means."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph_sdk import Auth
from langgraph_sdk.errors import ConflictError, NotFoundError, PermissionDeniedError

from tests.server.kit import AGENT, InProcess, Serve, answered, keyed, said

# Which handler


def test_the_most_specific_handler_runs_and_no_other(serve: Serve) -> None:
    auth, ran = keyed(), []

    def note(name: str) -> Any:
        async def handler(ctx: Any, value: Any) -> None:
            ran.append(f"{name}: {ctx.resource}.{ctx.action}")

        return handler

    auth.on(note("any"))
    auth.on(actions="delete")(note("delete"))
    auth.on.threads(note("threads"))
    auth.on.threads.create(note("create"))
    auth.on.store(actions=["put"])(note("put"))
    api = serve(auth)

    thread = api.threads.create()
    api.threads.get(thread["thread_id"])
    api.threads.delete(thread["thread_id"])
    api.assistants.get(AGENT)
    with pytest.raises(ConflictError):
        api.assistants.delete(AGENT)
    api.store.put_item(("n",), "k", {})
    api.store.search_items(("n",))

    assert ran == [
        "create: threads.create", "threads: threads.read", "threads: threads.delete", "any: assistants.read",
        "delete: assistants.delete", "put: store.put", "any: store.search",
    ]  # fmt: skip


def test_what_handlers_are_told(serve: Serve) -> None:
    auth, told = keyed(), []

    @auth.on
    async def note(ctx: Any, value: Any) -> None:
        told.append((f"{ctx.resource}.{ctx.action}", dict(value)))

    api = serve(auth)
    thread = api.threads.create(metadata={"a": 1}, graph_id="agent")
    id = thread["thread_id"]
    api.threads.update(id, metadata={"b": 2})
    api.threads.search(metadata={"c": 3}, values={"mood": "x"}, status="idle", limit=7, offset=1)
    api.threads.update_state(id, {"mood": "x"}, as_node="reply")
    for read in (api.threads.get_state, api.threads.get_history):
        read(id)
    copied = api.threads.copy(id)["thread_id"]
    api.threads.prune([id], strategy="keep_latest")
    assistant = api.assistants.create("agent", name="n", metadata={"d": 4})["assistant_id"]
    api.assistants.update(assistant, name="m")
    api.assistants.set_latest(assistant, 1)
    api.assistants.search(graph_id="agent", limit=5)
    api.store.put_item(("n",), "k", {"e": 5})
    api.store.list_namespaces(max_depth=2)

    uuids = {str(value): value for _, each in told for value in each.values() if hasattr(value, "hex")}
    named = {"thread_id": uuids[id]}
    made = {"graph_id": "agent"}
    assert told == [
        ("threads.create", {**named, "metadata": {"a": 1, **made}, "if_exists": "raise"}),
        ("threads.update", {**named, "metadata": {"b": 2}}),
        ("threads.search", {
            "metadata": {"c": 3}, "values": {"mood": "x"}, "status": "idle", "limit": 7, "offset": 1, "ids": None,
        }),
        ("threads.update", {**named, "metadata": {}}),
        ("threads.read", named),
        ("threads.read", named),
        ("threads.read", named),
        ("threads.create", {"thread_id": uuids[copied], "metadata": {"a": 1, **made, "b": 2}, "if_exists": "raise"}),
        ("threads.update", {**named, "metadata": {}}),
        ("assistants.create", {
            "assistant_id": uuids[assistant], "graph_id": "agent", "name": "n", "description": None, "config": {},
            "context": {}, "metadata": {"d": 4}, "if_exists": "raise",
        }),
        ("assistants.update", {"assistant_id": uuids[assistant], "name": "m", "metadata": {}}),
        ("assistants.update", {"assistant_id": uuids[assistant], "version": 1, "metadata": {}}),
        ("assistants.search", {"graph_id": "agent", "metadata": {}, "limit": 5, "offset": 0}),
        ("store.put", {"namespace": ("n",), "key": "k", "value": {"e": 5}, "index": None}),
        ("store.list_namespaces", {"namespace": None, "suffix": None, "max_depth": 2, "limit": 100, "offset": 0}),
    ]  # fmt: skip


# What they answer


async def _refusing(ctx: Any, value: Any) -> Any:
    raise Auth.exceptions.HTTPException(402, "pay first")


async def _asserts(ctx: Any, value: Any) -> Any:
    raise AssertionError("the secret is 42")


def answering(answer: Any) -> Any:
    async def handler(ctx: Any, value: Any) -> Any:
        return answer

    return handler


def test_an_answer_is_a_yes_a_no_or_a_filter(serve: Serve) -> None:
    wrong = ["yes", 1, {"owner": {"$ne": "bob"}}, {"owner": {}}, {"$not": []}, {"$or": {"owner": "ada"}}]
    cases = [
        *((answering(yes), 200, None) for yes in (None, True, {})),
        (answering(False), 403, "forbidden"),
        (_refusing, 402, "pay first"),
        (_asserts, 403, "forbidden"),
        *((answering(each), 500, "internal error") for each in wrong),
    ]
    auth = keyed()
    api = serve(auth)
    for handler, status, detail in cases:
        auth._global_handlers[:] = [handler]

        answer = api.request("POST", "/threads/search", json={})

        assert (answer.status_code, None if status == 200 else answer.json()["detail"]) == (status, detail)


MATRIX: list[tuple[Any, list[str]]] = [
    ({"owner": "ada"}, ["a", "ab"]),
    ({"owner": {"$eq": "ada"}}, ["a", "ab"]),
    ({"readers": {"$contains": "ada"}}, ["ab", "b"]),
    ({"readers": {"$contains": ["bob", "ada"]}}, ["ab"]),
    ({"readers": {"$contains": []}}, ["ab", "b", "t"]),
    ({"owner": "ada", "readers": {"$contains": "bob"}}, ["ab"]),
    ({"$or": [{"owner": "ada"}, {"readers": {"$contains": "ada"}}]}, ["a", "ab", "b"]),
    ({"$and": [{"owner": "ada"}, {"n": 1}]}, ["a"]),
    ({"$or": []}, []),
    ({"n": 1}, ["a"]),
    ({"n": True}, ["t"]),
    ({"owner": None}, []),
    ({"owner": {"$eq": {"org": "x"}}}, ["o"]),
]
ROWS = {
    "a": {"owner": "ada", "n": 1},
    "ab": {"owner": "ada", "readers": ["ada", "bob"]},
    "b": {"owner": "bob", "readers": ["ada"]},
    "t": {"n": True, "readers": [1]},
    "o": {"owner": {"org": "x"}, "readers": "ada"},
}


@pytest.mark.parametrize("shared", [False, True])
def test_a_filter_says_what_exists(kept: Serve, shared: bool) -> None:
    auth, answer = keyed(), {}

    @auth.on
    async def filtered(ctx: Any, value: Any) -> Any:
        return answer.get(ctx.action)

    api = kept(auth, shared=shared)
    for name, metadata in ROWS.items():
        api.threads.create(thread_id=name, metadata=metadata, graph_id="agent")
    ids = {
        name: api.assistants.create("agent", name=name, metadata=held)["assistant_id"] for name, held in ROWS.items()
    }

    for filter, there in MATRIX:
        answer["search"] = answer["read"] = answer["update"] = answer["delete"] = filter

        assert sorted(each["thread_id"] for each in api.threads.search()) == there
        by_time = api.threads.search(sort_by="created_at", sort_order="asc", limit=2)
        assert [each["thread_id"] for each in by_time] == [name for name in ROWS if name in there][:2]
        rest = api.threads.search(sort_by="created_at", sort_order="asc", offset=1)
        assert [each["thread_id"] for each in rest] == [name for name in ROWS if name in there][1:]
        assert api.threads.count() == len(there)
        assert api.threads.count(metadata={"owner": "ada"}) == len([name for name in there if name[0] == "a"])
        found = api.assistants.search()
        assert sorted(each["name"] for each in found if each["name"] != "agent") == there
        assert api.assistants.count() == len(found)
        for name in ROWS:
            statuses = [
                api.request("GET", f"/threads/{name}").status_code,
                api.request("GET", f"/threads/{name}/state").status_code,
                api.request("POST", f"/threads/{name}/history", json={}).status_code,
                api.request("PATCH", f"/threads/{name}", json={"title": "t"}).status_code,
                api.request("GET", f"/assistants/{ids[name]}").status_code,
                api.request("PATCH", f"/assistants/{ids[name]}", json={"description": "d"}).status_code,
            ]
            assert set(statuses) == {200 if name in there else 404}, (filter, name, statuses)
        for name in sorted(set(ROWS) - set(there)):
            for path in (f"/threads/{name}", f"/assistants/{ids[name]}"):
                assert api.request("DELETE", path).status_code == 404


def test_what_handlers_write_is_kept(serve: Serve) -> None:
    auth = keyed()

    @auth.on
    async def stamp(ctx: Any, value: Any) -> None:
        value.setdefault("metadata", {})[ctx.action] = ctx.user.identity

    api = serve(auth)
    thread = api.threads.create(metadata={"mine": 1})
    assert thread["metadata"] == {"mine": 1, "create": "ada"}
    assert api.threads.update(thread["thread_id"], metadata={})["metadata"] == {
        "mine": 1,
        "create": "ada",
        "update": "ada",
    }
    copied = api.threads.copy(thread["thread_id"])
    assert copied["metadata"] == {"mine": 1, "create": "ada", "update": "ada"}
    assert api.threads.search() == []  # what a handler writes to a search is looked for
    assert api.assistants.create("agent")["metadata"] == {"create": "ada"}


def test_a_new_thing_fits_the_filter_under_which_it_is_made(serve: Serve) -> None:
    auth = keyed()
    auth.on(answering({"org": "x", "$or": [{"level": 1}, {"level": 2}]}))
    api = serve(auth, shared=True)

    assert api.threads.create(metadata={"level": 2})["metadata"] == {"org": "x", "level": 2}
    for metadata in ({"org": "y", "level": 1}, {"level": 3}, {}, {"org": None, "level": 1}):
        for path, body in (("/threads", {}), ("/assistants", {"graph_id": "agent"})):
            answer = api.request("POST", path, json={**body, "metadata": metadata})
            assert (answer.status_code, answer.json()["hint"]) == (403, "a handler's filter excludes them")
    assert api.threads.count() == 1


def test_permissions_are_for_handlers_to_ask(serve: Serve) -> None:
    auth = keyed()

    @auth.on.threads.create
    async def create(ctx: Any, value: Any) -> Any:
        return "threads:write" in ctx.permissions

    api = serve(auth)

    with pytest.raises(PermissionDeniedError):
        api.threads.create()
    assert api.of("ada threads:read threads:write").threads.create()["user_id"] == "ada"


def test_assistants_that_graphs_have_are_shown_where_a_filter_names_them(serve: Serve) -> None:
    auth = keyed()
    api = serve(auth)
    api.assistants.create("agent", name="mine", metadata={"owner": "ada"})

    for filter, names, status in (
        ({"owner": "ada"}, ["mine"], 404),
        ({"$or": [{"owner": "ada"}, {"created_by": "system"}]}, ["agent", "made", "mine"], 200),
    ):
        auth._handlers[("assistants", "*")] = [answering(filter)]
        assert sorted(each["name"] for each in api.assistants.search()) == names
        for path in (AGENT, f"{AGENT}/schemas", "agent/graph", "agent/subgraphs"):
            assert api.request("GET", f"/assistants/{path}").status_code == status
        assert api.request("POST", "/runs", json={"assistant_id": "agent", "input": {}}).status_code == 200


# What attackers try


def test_a_guessed_id_gives_nothing(guarded: InProcess) -> None:
    thread = guarded.threads.create(graph_id="agent", supersteps=[said("private")])
    id, other = thread["thread_id"], guarded.of("mallory")

    for body in ({"if_exists": "do_nothing"}, {"if_exists": "do_nothing", "supersteps": [answered("hacked")]}):
        answer = other.request("POST", "/threads", json={"thread_id": id, **body})
        assert (answer.status_code, "private" in answer.text) == (409, False)
    with pytest.raises(NotFoundError):
        other.threads.copy(id)
    with pytest.raises(NotFoundError):
        other.threads.update_state(id, {"mood": "hacked"}, as_node="reply")
    assert guarded.threads.get(id) == thread


def test_a_reader_does_not_write_a_first_state(serve: Serve) -> None:
    auth = keyed()

    @auth.on.threads.update
    async def update(ctx: Any, value: Any) -> Any:
        return ctx.user.identity == "ada"

    api = serve(auth, shared=True)
    id = api.threads.create(graph_id="agent")["thread_id"]
    body = {"thread_id": id, "if_exists": "do_nothing", "supersteps": [said("hacked")]}

    assert api.of("bob").request("POST", "/threads", json=body).status_code == 403
    assert api.of("bob").request("POST", f"/threads/{id}/state", json={"values": {}}).status_code == 403
    assert api.request("POST", "/threads", json=body).json()["values"]["messages"][0]["content"] == "hacked"


def test_a_copy_is_made_only_by_who_may_make(serve: Serve) -> None:
    auth = keyed()
    auth.on.threads.create(answering(None))
    api = serve(auth)
    id = api.threads.create()["thread_id"]
    auth._handlers[("threads", "create")] = [answering(False)]

    with pytest.raises(PermissionDeniedError):
        api.threads.copy(id)
    assert api.threads.count() == 1


def test_deleting_an_assistants_threads_asks_for_each(serve: Serve) -> None:
    auth = keyed()
    auth.on.threads.delete(answering(False))
    api = serve(auth)
    assistant = api.assistants.create("agent")["assistant_id"]
    api.threads.create(metadata={"assistant_id": assistant})

    with pytest.raises(PermissionDeniedError):
        api.assistants.delete(assistant, delete_threads=True)
    assert api.threads.count() == 1


# Items


def test_a_handler_says_where_items_are(serve: Serve) -> None:
    auth = keyed()

    @auth.on.store
    async def own(ctx: Any, value: Any) -> None:
        value["namespace"] = (ctx.user.identity, *(value["namespace"] or ()))

    api = serve(auth, shared=True)
    other = api.of("bob")
    for each in (api, other):
        each.store.put_item(("notes",), "k", {"of": each.user})

    assert api.store.get_item(("notes",), "k")["namespace"] == ["ada", "notes"]
    assert [item["value"]["of"] for item in other.store.search_items(())["items"]] == ["bob"]
    assert other.store.list_namespaces()["namespaces"] == [["bob", "notes"]]
    assert other.store.list_namespaces(prefix=["*"])["namespaces"] == [["bob", "notes"]]
    assert other.store.list_namespaces(prefix=["ada"])["namespaces"] == []
    assert other.store.get_item(("ada", "notes"), "k") is None
    api.store.delete_item(("notes",), "k")
    assert (api.store.get_item(("notes",), "k"), other.store.get_item(("notes",), "k")["key"]) == (None, "k")


@pytest.mark.parametrize("left", ["ada", ("ada", 7), 7])
def test_a_namespace_that_is_none_lets_nobody_in(serve: Serve, left: Any) -> None:
    auth = keyed()

    @auth.on.store
    async def wrong(ctx: Any, value: Any) -> None:
        value["namespace"] = left

    assert serve(auth).request("GET", "/store/items?namespace=n&key=k").status_code == 500


def test_a_filter_about_items_is_not_passed_over(serve: Serve) -> None:
    auth = keyed()
    auth.on(answering({"owner": "ada"}))

    shared = serve(auth, shared=True).request("GET", "/store/items?namespace=n&key=k")
    own = serve(auth).request("GET", "/store/items?namespace=n&key=k")

    assert (shared.status_code, own.status_code) == (403, 200)
    assert "@auth.on.store" in shared.json()["hint"]
