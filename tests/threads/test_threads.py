"""The table of threads: whose each is, what lists show, and what runs keep current."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.errors import InvalidQueryError, StorageError, ThreadExistsError, ThreadNotFoundError
from clew.graph import START, StateGraph
from clew.storage.thread_lists import contains
from clew.threads import EVERYONE, Thread, Threads
from clew.threads._titles import first_words
from tests.both import Async, Drive, on


class Chat(TypedDict):
    messages: Annotated[list[Any], operator.add]


@pytest.fixture
def threads(own_saver: Any) -> Threads:
    return Threads(own_saver)


def echo(saver: Any) -> Any:
    graph = StateGraph(Chat)
    graph.add_node("reply", lambda chat: {"messages": [("ai", f"you said {len(chat['messages'])} things")]})
    graph.add_edge(START, "reply")
    return graph.compile(checkpointer=saver)


def call(drive: Drive, threads: Threads, method: str, *args: Any, **kwargs: Any) -> Any:
    """A method of `threads`, or its twin on the driver's event loop."""
    if isinstance(drive, Async):
        return drive.run(getattr(threads, f"a{method}")(*args, **kwargs))
    return getattr(threads, method)(*args, **kwargs)


def ids(page: Any) -> list[str]:
    return [thread.id for thread in page.threads]


def test_a_thread_from_beginning_to_end(drive: Drive, threads: Threads) -> None:
    mine = threads.of("ada")
    made: Thread = call(drive, mine, "create", "trip", title="Rome?", metadata={"kind": "travel"})
    assert (made.id, made.user_id, made.status, made.archived, made.last_message_at) == (
        "trip",
        "ada",
        "idle",
        False,
        None,
    )
    assert call(drive, mine, "get", "trip") == made
    assert call(drive, mine, "rename", "trip", "Rome!").title == "Rome!"
    assert call(drive, mine, "update", "trip", metadata={"days": 3}, status="busy").metadata == {
        "kind": "travel",
        "days": 3,
    }
    archived = call(drive, mine, "archive", "trip")
    assert archived.archived
    assert archived.archived_at is not None
    assert ids(call(drive, mine, "list")) == []
    assert ids(call(drive, mine, "list", archived=True)) == ["trip"]
    assert call(drive, mine, "unarchive", "trip").archived_at is None
    assert call(drive, mine, "transfer", "trip", "bob").user_id == "bob"
    with pytest.raises(ThreadNotFoundError):
        call(drive, mine, "get", "trip")
    call(drive, threads.of("bob"), "delete", "trip")
    assert ids(call(drive, threads.of(EVERYONE), "list")) == []


def test_a_thread_without_an_id_gets_a_random_one(threads: Threads) -> None:
    first, second = threads.of("ada").create(), threads.of("ada").create()
    assert len(first.id) == 36
    assert first.id != second.id


def test_another_user_s_thread_does_not_exist(drive: Drive, threads: Threads) -> None:
    call(drive, threads, "create", "secret", user_id="ada")
    his = threads.of("bob")
    for method, args in (
        ("get", ()), ("rename", ("mine now",)), ("update", ()), ("archive", ()), ("unarchive", ()),
        ("transfer", ("bob",)), ("delete", ()), ("copy", ("taken",)),
    ):  # fmt: skip
        with pytest.raises(ThreadNotFoundError) as theirs:
            call(drive, his, method, "secret", *args)
        with pytest.raises(ThreadNotFoundError) as nobodys:
            call(drive, his, method, "nothing", *args)
        assert str(theirs.value).replace("secret", "nothing") == str(nobodys.value)
    assert ids(call(drive, his, "list")) == []
    with pytest.raises(ThreadExistsError):
        call(drive, his, "create", "secret", if_exists="do_nothing")
    assert call(drive, threads, "get", "secret", user_id="ada").title is None


def test_a_call_that_names_nobody_is_refused(threads: Threads) -> None:
    with pytest.raises(StorageError, match="does not say whose threads"):
        threads.list()
    with pytest.raises(StorageError, match="does not say whose threads"):
        threads.create("t")
    with pytest.raises(StorageError, match="names another one"):
        threads.of("ada").list(user_id="bob")
    with pytest.raises(StorageError, match="names another one"):
        threads.of("ada").list(user_id=EVERYONE)


def test_making_one_that_is_there(threads: Threads) -> None:
    mine = threads.of("ada")
    made = mine.create("t", title="first")
    with pytest.raises(ThreadExistsError):
        mine.create("t")
    assert mine.create("t", title="second", if_exists="do_nothing") == made


def test_pages_come_recently_active_first(drive: Drive, threads: Threads, own_saver: Any) -> None:
    mine, graph = threads.of("ada"), echo(own_saver)
    for number in range(7):
        call(drive, mine, "create", f"t{number}")
    drive.invoke(graph, {"messages": [("human", "hello")]}, on("t2"))
    drive.invoke(graph, {"messages": [("human", "hello")]}, on("t0"))
    seen: list[str] = []
    after = None
    while True:
        page = call(drive, mine, "list", limit=3, after=after)
        seen += ids(page)
        after = page.next
        if after is None:
            break
    assert seen == ["t0", "t2", "t6", "t5", "t4", "t3", "t1"]


def test_lists_by_status_title_and_metadata(drive: Drive, threads: Threads) -> None:
    mine = threads.of("ada")
    call(
        drive,
        mine,
        "create",
        "a",
        title="Straße nach Rom",
        metadata={"graph": "chat", "n": 1, "deep": {"x": 1, "y": [1]}},
    )
    call(drive, mine, "create", "b", title="100% sure_", metadata={"graph": "chat", "n": 1.5, "on": True})
    call(drive, mine, "create", "c", metadata={"graph": "other", "on": None, "quote\"'": "'; drop table clew_thread"})
    call(drive, mine, "update", "b", status="interrupted")
    for wanted, found in (
        ({"graph": "chat"}, "ba"), ({"n": 1}, "a"), ({"n": 1.5}, "b"), ({"n": "1"}, ""), ({"on": True}, "b"),
        ({"on": 1}, ""), ({"on": None}, "c"), ({"deep": {"x": 1}}, "a"), ({"deep": {"x": 2}}, ""),
        ({"deep": {"y": [1]}}, "a"),
        ({"quote\"'": "'; drop table clew_thread"}, "c"), ({"missing": None}, ""), ({}, "cba"),
    ):  # fmt: skip
        assert "".join(ids(call(drive, mine, "list", metadata=wanted))) == found, wanted
    for text, found in (
        ("STRASSE", "a"),
        ("strasse", "a"),
        ("0% s", "b"),
        ("%", "b"),
        ("e_", "b"),
        ("zzz", ""),
        ("", "cba"),
    ):
        assert "".join(ids(call(drive, mine, "list", text=text))) == found, text
    assert ids(call(drive, mine, "list", status="interrupted")) == ["b"]


def test_runs_keep_time_and_title(drive: Drive, threads: Threads, own_saver: Any) -> None:
    mine, graph = threads.of("ada"), echo(own_saver)
    call(drive, mine, "create", "t")
    drive.invoke(graph, {"messages": [("system", "be brief"), ("human", "where  is\nRome? " + "x" * 100)]}, on("t"))
    first: Thread = call(drive, mine, "get", "t")
    assert first.title == "where is Rome? " + "x" * 64 + "…"
    assert first.last_message_at is not None
    assert first.last_message_at >= first.created_at
    drive.invoke(graph, {"messages": [("human", "and Paris?")]}, on("t"))
    second: Thread = call(drive, mine, "get", "t")
    assert second.title == first.title
    assert second.last_message_at > first.last_message_at
    drive.update_state(graph, on("t"), {"messages": [("human", "edited")]}, as_node="reply")
    assert call(drive, mine, "get", "t").last_message_at == second.last_message_at
    call(drive, mine, "rename", "t", None)
    drive.invoke(graph, {"messages": [("human", "call it this")]}, on("t"))
    assert call(drive, mine, "get", "t").title == "call it this"


def test_a_run_on_a_thread_that_nobody_listed_lists_nothing(drive: Drive, threads: Threads, own_saver: Any) -> None:
    drive.invoke(echo(own_saver), {"messages": [("human", "hello")]}, on("unlisted"))
    assert ids(call(drive, threads.of(EVERYONE), "list")) == []


def test_message_with_characters_that_no_title_can_have_is_titled_without_them(own_saver: Any) -> None:
    for titler in (first_words, lambda given: given["messages"][0]["content"]):
        mine = Threads(own_saver, titler=titler).of("ada")
        thread = mine.create().id
        said = {"messages": [{"role": "user", "content": "a\ud800b\x00c"}]}
        assert echo(own_saver).invoke(said, on(thread))["messages"][0] == said["messages"][0]
        assert mine.get(thread).title == "a?b c"


def test_a_titler_of_one_s_own(own_saver: Any) -> None:
    threads = Threads(own_saver, titler=lambda given: f"{len(given['messages'])} messages").of("ada")
    threads.create("t")
    echo(own_saver).invoke({"messages": [("human", "hello")]}, on("t"))
    assert threads.get("t").title == "1 messages"


def test_deleting_takes_everything_along(drive: Drive, threads: Threads, own_saver: Any) -> None:
    mine, graph = threads.of("ada"), echo(own_saver)
    call(drive, mine, "create", "t")
    drive.invoke(graph, {"messages": [("human", "hello")]}, on("t"))
    call(drive, mine, "delete", "t")
    assert drive.get_state(graph, on("t")).values == {}
    assert [summary.thread_id for summary in own_saver.threads()] == []
    call(drive, mine, "create", "u")
    own_saver.delete_thread("u")
    assert ids(call(drive, mine, "list")) == []


def test_copies_go_their_own_way(drive: Drive, threads: Threads, own_saver: Any) -> None:
    mine, graph = threads.of("ada"), echo(own_saver)
    call(drive, mine, "create", "t", metadata={"kind": "chat"})
    drive.invoke(graph, {"messages": [("human", "hello")]}, on("t"))
    copied: Thread = call(drive, mine, "copy", "t")
    assert (copied.title, copied.metadata, copied.user_id) == ("hello", {"kind": "chat"}, "ada")
    drive.invoke(graph, {"messages": [("human", "again")]}, on(copied.id))
    assert len(drive.get_state(graph, on("t")).values["messages"]) == 2
    assert len(drive.get_state(graph, on(copied.id)).values["messages"]) == 4
    with pytest.raises(ThreadExistsError):
        call(drive, mine, "copy", "t", copied.id)


def test_tenants_have_their_own_threads(own_saver: Any) -> None:
    acme, other = Threads(own_saver.with_tenant("acme")).of("ada"), Threads(own_saver.with_tenant("other")).of("ada")
    acme.create("t", title="ours")
    with pytest.raises(ThreadNotFoundError):
        other.get("t")
    assert other.create("t").title is None
    assert acme.get("t").title == "ours"


def test_under_a_key_titles_and_metadata_are_sealed_and_still_found(drive: Drive, tmp_path: Any) -> None:
    from clew.checkpoint.sqlite import SqliteSaver  # beside the file's bytes, which is what this test is about

    path = tmp_path / "threads.db"
    with SqliteSaver(path, serde=EncryptedSerializer({"k": b"0" * 32})) as saver:
        mine, graph = Threads(saver).of("ada"), echo(saver)
        call(drive, mine, "create", "t", metadata={"kind": "confidential-kind"})
        drive.invoke(graph, {"messages": [("human", "the confidential-question")]}, on("t"))
        call(drive, mine, "create", "u", title="confidential-title")
        assert call(drive, mine, "get", "t").title == "the confidential-question"
        assert ids(call(drive, mine, "list", text="CONFIDENTIAL-Q")) == ["t"]
        assert ids(call(drive, mine, "list", metadata={"kind": "confidential-kind"})) == ["t"]
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"confidential" not in stored


def test_rows_get_another_key_and_the_old_one_can_go(tmp_path: Any) -> None:
    from clew.checkpoint.sqlite import SqliteSaver  # a file that outlives its saver

    path, old, new = tmp_path / "threads.db", b"0" * 32, b"1" * 32
    with SqliteSaver(path, serde=EncryptedSerializer({"old": old})) as saver:
        mine = Threads(saver).of("ada")
        mine.create("listed", title="only listed")
        mine.create("archived", title="put away")
        mine.archive("archived")
    with SqliteSaver(path, serde=EncryptedSerializer({"old": old, "new": new}, current="new")) as saver:
        assert saver.reencrypt() == 2
        assert saver.reencrypt() == 0
    with SqliteSaver(path, serde=EncryptedSerializer({"new": new})) as saver:
        mine = Threads(saver).of("ada")
        assert [thread.title for thread in mine.list().threads] == ["only listed"]
        assert [thread.title for thread in mine.list(archived=True).threads] == ["put away"]


@pytest.mark.parametrize(
    "bad",
    [
        {"metadata": {"a": float("nan")}}, {"metadata": {"a": {1, 2}}}, {"metadata": {"a": "\x00"}},
        {"metadata": {"\ud800": 1}}, {"title": "x" * 501}, {"title": "a\x00b"}, {"title": 7}, {"title": "\ud800"},
        {"ttl_minutes": 0},
        {"ttl_minutes": True}, {"ttl_strategy": "shred"}, {"user_id": ""}, {"user_id": 7}, {"user_id": "x" * 256},
        {"user_id": "\ud800"}, {"user_id": "\x00"},
    ],
    ids=ascii,
)  # fmt: skip
def test_what_cannot_be_stored_is_refused(bad: dict[str, Any]) -> None:
    threads = Threads(InMemorySaver())
    with pytest.raises(InvalidQueryError):
        threads.create("t", **{"user_id": "ada", **bad})
    assert threads.of(EVERYONE).list().threads == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": "5"}, {"after": "yesterday"}, {"after": "1:"}, {"after": "1:\x00"},
        {"after": "1:\ud800"}, {"text": "\x00"}, {"text": "\ud800"}, {"text": 7},
    ],
    ids=ascii,
)  # fmt: skip
def test_lists_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidQueryError):
        Threads(InMemorySaver()).of("ada").list(**bad)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    )
)
def test_everything_contains_itself(value: Any) -> None:
    assert contains(value, value)


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ("hello", "hello"), ({"messages": "hello"}, "hello"), ({"messages": [("ai", "hi"), ("user", "you")]}, "you"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "look"}]}]}, "look"),
        ({"question": "why?"}, "why?"), ({"n": 3}, None), (None, None), ({"messages": [("human", "   ")]}, None),
    ],
    ids=str,
)  # fmt: skip
def test_titles(given: Any, title: str | None) -> None:
    assert first_words(given) == title


def test_threads_are_searched_by_number(drive: Drive, threads: Threads) -> None:
    mine = threads.of("ada")
    for number in range(5):
        call(
            drive, mine, "create", f"t{number}", title=f"Trip {number}", metadata={"even": number % 2 == 0, "n": number}
        )
    call(drive, threads.of("bob"), "create", "b")
    call(drive, mine, "archive", "t4")
    call(drive, mine, "update", "t3", title="Journey", status="error")

    def found(**wanted: Any) -> str:
        return "".join(thread.id[1:] for thread in call(drive, mine, "search", **wanted))

    assert found() == "3210"
    assert found(limit=2, offset=1) == "21"
    assert found(archived=None, sort_by="created_at", is_descending=False) == "01234"
    assert found(archived=True, sort_by="created_at") == "4"
    assert found(sort_by="status", is_descending=False) == "3012"
    assert found(sort_by="thread_id", limit=2) == "32"
    assert found(sort_by="updated_at", limit=1) == "3"
    assert found(sort_by="state_updated_at", is_descending=False, offset=2) == "23"
    assert found(ids=["t1", "t4", "b"]) == "1"
    assert found(ids=["t1", "t2"], metadata={"n": 2}) == "2"
    assert found(metadata={"even": True}, sort_by="created_at", limit=1, offset=1) == "0"
    assert found(text="TRIP", status="idle", sort_by="thread_id", is_descending=False) == "012"
    counted = [
        call(drive, mine, "count", **wanted)
        for wanted in ({}, {"archived": None}, {"metadata": {"n": 3}}, {"status": "error"}, {"text": "journey"})
    ]
    assert counted == [4, 5, 1, 1, 1]
    assert call(drive, threads.of(EVERYONE), "count", archived=None) == 6


def test_a_sealed_table_is_searched_alike() -> None:
    key = EncryptedSerializer.from_key(bytes(range(32)))
    mine = Threads(InMemorySaver(serde=key)).of("ada")
    for number in range(250):
        mine.create(f"t{number:03}", title=f"Trip {number}", metadata={"even": number % 2 == 0})

    wanted: dict[str, Any] = {"text": "trip 2", "metadata": {"even": True}}
    assert mine.count(**wanted) == 1 + 5 + 25
    assert [each.id for each in mine.search(**wanted, sort_by="thread_id", is_descending=False, limit=2, offset=1)] == [
        "t020",
        "t022",
    ]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"offset": -1}, "offset is -1"),
        ({"sort_by": "title"}, "sort_by is 'title', not one of thread_id"),
        ({"metadata": {"x": float("nan")}}, "metadata is not JSON"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidQueryError, match=message):
        Threads(InMemorySaver()).of("ada").search(**wanted)
