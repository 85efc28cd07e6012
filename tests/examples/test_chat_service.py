"""The chat service, as processes that are killed with SIGKILL: alone on SQLite, and several of them on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from tests.examples.chat_kit import Client, Replica, RoundRobin, in_background, ledger, running
from tests.proxy import Proxy

NODES = ("retrieve", "answer", "summarise")


def test_killed_between_messages_and_while_the_model_thinks(tmp_path: Path) -> None:
    with running(tmp_path, "") as (model, [service]), in_background() as background:
        client = Client(service.start())
        thread = client.say("m1", "when to Rome?").json()["thread_id"]
        service.kill()
        service.start()
        assert client.say("m2", "and tea?", thread).json()["reply"] == "re: and tea? Tea is served at five."

        model.gate.clear()
        answer = background.submit(client.say, "m3", "will it rain?", thread)
        model.wait_for(3)
        service.kill()
        with pytest.raises(httpx.TransportError):
            answer.result()
        model.gate.set()
        service.start()
        again = client.say("m3", "will it rain?", thread)

        assert again.json() == {
            "thread_id": thread, "message_id": "m3", "reply": "re: will it rain? It rains on Mondays."
        }  # fmt: skip
        assert client.said(thread) == [
            "when to Rome?", "re: when to Rome? Trains to Rome leave at nine.",
            "and tea?", "re: and tea? Tea is served at five.",
            "will it rain?", "re: will it rain? It rains on Mondays.",
        ]  # fmt: skip
        assert model.asked == ["when to Rome?", "and tea?", "will it rain?", "will it rain?"]
        done = Counter((node, message) for _, node, message in ledger(service))
        assert done == {(node, message): 1 for node in NODES for message in ("m1", "m2", "m3")}


def test_killed_right_after_each_commit(tmp_path: Path) -> None:
    """A message is five commits: the input is taken, then read, and three nodes."""
    deadly = {1: 1, 2: 3}  # in its first life the process dies of its first commit, in the second of "retrieve"
    with running(tmp_path, "") as (model, [service]):
        client, answer, lives = Client(service), None, 0
        while answer is None:
            lives += 1
            service.start(f"commit.after=kill@{deadly.get(lives, 1)}")
            try:
                answer = client.say("m1", "when to Rome?")
            except httpx.TransportError:
                service.join()

        assert lives == 5  # the last one has nothing to do
        thread, reply = answer.json()["thread_id"], answer.json()["reply"]
        assert client.said(thread) == ["when to Rome?", reply]
        assert model.asked == ["when to Rome?"]
        assert sorted(node for _, node, _ in ledger(service)) == sorted(NODES)
        assert len({pid for pid, _, _ in ledger(service)}) == 3
        assert [one["id"] for one in client("GET", "/threads").json()["threads"]] == [thread]


def test_two_replicas_behind_a_proxy_take_over_from_each_other(tmp_path: Path, database: str) -> None:
    with (
        running(tmp_path, database, database) as (model, replicas),
        RoundRobin(replicas) as proxy,
        in_background() as pool,
    ):
        for replica in replicas:
            replica.start()
        client = Client(proxy)
        thread = client.say("m1", "when to Rome?").json()["thread_id"]
        assert client.say("m2", "and tea?", thread).status_code == 200
        assert {pid for pid, node, _ in ledger(*replicas) if node == "answer"} == {replica.pid for replica in replicas}

        model.gate.clear()
        answer = pool.submit(client.say, "m3", "will it rain?", thread)
        model.wait_for(3)
        [first] = [pid for pid, _, message in ledger(*replicas) if message == "m3"]
        killed, other = sorted(replicas, key=lambda replica: replica.pid != first)
        killed.kill()
        assert answer.result().status_code == 502
        model.gate.set()
        assert client.say("m3", "will it rain?", thread).json()["reply"] == "re: will it rain? It rains on Mondays."
        by = {node: pid for pid, node, message in ledger(*replicas) if message == "m3"}
        assert by == {"retrieve": first, "answer": other.pid, "summarise": other.pid}

        other.kill()
        for replica in replicas:
            replica.start()
        for number in (4, 5):
            assert client.say(f"m{number}", f"message {number}", thread).json()["reply"] == f"re: message {number}"
        messages = [f"m{number}" for number in range(1, 6)]
        assert len(client.said(thread)) == 2 * len(messages)
        done = Counter((node, message) for _, node, message in ledger(*replicas))
        assert done == {(node, message): 1 for node in NODES for message in messages}

        assert client("DELETE", f"/threads/{thread}").status_code == 204
        assert [Client(one)("GET", f"/threads/{thread}").status_code for one in replicas] == [404, 404]
        assert [Client(one).say("m6", "hello?", thread).status_code for one in replicas] == [404, 404]


@pytest.fixture(params=["sqlite", "postgres"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replica]:
    """One process of the service, with its model."""
    name = request.getfixturevalue("database") if request.param == "postgres" else ""
    with running(tmp_path, name) as (_, [replica]):
        yield replica.start()


def test_one_sees_and_changes_ones_own_threads_only(service: Replica) -> None:
    ada, bob = Client(service), Client(service, "bob")
    mine = ada.say("m1", "when to Rome?").json()["thread_id"]
    other = ada.say("m2", "and tea?").json()["thread_id"]
    ada.say("m3", "will it rain?", mine)
    bobs = bob.say("m1", "when to Rome?").json()["thread_id"]

    listing = ada("GET", "/threads").json()
    assert [(one["id"], one["title"]) for one in listing["threads"]] == [(mine, "when to Rome?"), (other, "and tea?")]
    assert [one["id"] for one in bob("GET", "/threads").json()["threads"]] == [bobs]
    first = ada("GET", "/threads?limit=1").json()
    second = ada("GET", "/threads", params={"limit": 1, "after": first["next"]}).json()
    assert [one["id"] for page in (first, second) for one in page["threads"]] == [mine, other]

    said = ada.said(mine)
    for thread in (mine, "never-was"):  # which bob cannot tell from each other
        refused = [bob.say("m4", "hello?", thread), *try_all(bob, thread)]
        assert [answer.status_code for answer in refused] == [404] * 4
        assert {answer.text for answer in refused} == {f'{{"detail":"there is no thread \'{thread}\'"}}'}
    assert ada.said(mine) == said
    assert listing == ada("GET", "/threads").json()

    assert ada("PATCH", f"/threads/{mine}", json={"title": "Travel", "archived": True}).json()["title"] == "Travel"
    assert [one["id"] for one in ada("GET", "/threads").json()["threads"]] == [other]
    assert [one["id"] for one in ada("GET", "/threads?archived=1&text=TRAV").json()["threads"]] == [mine]
    assert ada("PATCH", f"/threads/{mine}", json={"archived": False}).json()["archived"] is False

    assert ada("DELETE", f"/threads/{mine}").status_code == 204
    assert [answer.status_code for answer in try_all(ada, mine)] == [404] * 3
    assert kept(service) == {other, bobs}


def try_all(client: Client, thread: str) -> list[httpx.Response]:
    """What every method and path about a thread answers."""
    paths = client("GET", "/openapi.json").json()["paths"]
    found = [(method, path) for path in paths if "{thread_id}" in path for method in paths[path]]
    return [client(method.upper(), path.format(thread_id=thread), json={"title": "Taken"}) for method, path in found]


def kept(service: Replica) -> set[str]:
    """The threads that have checkpoints."""
    if service.database:
        with PostgresSaver.from_conn_string(service.database) as saver:
            return {found.thread_id for found in saver.threads()}
    with SqliteSaver.from_conn_string(str(service.folder / "chat.db")) as saver:
        return {found.thread_id for found in saver.threads()}


NUL = "\x00"
LONE = b'"\\ud800"'


def test_bad_input_is_refused_and_changes_nothing(service: Replica) -> None:
    client = Client(service)
    thread = client.say("m1", "when to Rome?").json()["thread_id"]
    before = client("GET", "/threads").json()
    chat = [
        b"", b"[]", b"{}", b'{"message": ""}', b'{"message": 1}', b'{"message": "%s"}' % (b"x" * 20_001),
        b'{"message": %s}' % LONE, b'{"message": "x", "message_id": %s}' % LONE,
        b'{"message": "x", "thread_id": %s}' % LONE, b'{"message": "x", "thread_id": "\\u0000"}',
        b'{"message": "x", "thread_id": ""}', b'{"message": "x", "message_id": ""}',
    ]  # fmt: skip
    asked = [
        {"limit": 0}, {"limit": "x"}, {"limit": 10**6}, {"after": "x"}, {"archived": "x"}, {"text": NUL},
        {"after": f"1:{NUL}"}, {"after": "9" * 30 + ":x"},
    ]  # fmt: skip
    answers = [client("POST", "/chat", content=body, headers={"Content-Type": "application/json"}) for body in chat]
    answers += [client("GET", "/threads", params=params) for params in asked]
    answers += [client("PATCH", f"/threads/{thread}", json={"title": title}) for title in (NUL, "x" * 501, 1)]
    answers += [client(method, f"/threads/{'x' * 256}") for method in ("GET", "DELETE")]

    assert [answer.status_code for answer in answers] == [422] * len(answers)
    assert all(answer.json()["detail"] for answer in answers)
    assert client("GET", "/threads").json() == before

    client.headers = {"X-API-Key": "nobody's"}
    assert client("GET", "/threads").status_code == 401
    client.headers = {}
    assert client.say("m2", "hello?").status_code == 401


def test_of_two_messages_at_once_the_later_one_answers_both(service: Replica) -> None:
    model, client = service.model, Client(service)
    thread = client.say("m1", "when to Rome?").json()["thread_id"]
    model.gate.clear()
    with in_background() as background:
        first = background.submit(client.say, "m2", "and tea?", thread)
        model.wait_for(2)
        second = background.submit(client.say, "m3", "will it rain?", thread)
        model.wait_for(3)
        model.gate.set()

    assert first.result().status_code == 409
    assert first.result().headers["Retry-After"] == "1"
    both = "re: will it rain? Tea is served at five. It rains on Mondays."
    assert [second.result().json()["reply"], client.say("m2", "and tea?", thread).json()["reply"]] == [both, both]
    assert client.said(thread)[2:] == ["and tea?", "will it rain?", both]


def test_thread_that_is_deleted_while_a_message_is_answered_stays_deleted(service: Replica) -> None:
    model, client = service.model, Client(service)
    thread = client.say("m1", "when to Rome?").json()["thread_id"]
    model.gate.clear()
    with in_background() as background:
        answer = background.submit(client.say, "m2", "and tea?", thread)
        model.wait_for(2)
        deleted = client("DELETE", f"/threads/{thread}")
        model.gate.set()

    assert [deleted.status_code, answer.result().status_code] == [204, 409]
    assert client.say("m2", "and tea?", thread).status_code == 404
    assert kept(service) == set()


def test_message_whose_model_fails_is_answered_when_it_is_sent_again(tmp_path: Path) -> None:
    with running(tmp_path, "") as (model, [service]):
        client = Client(service.start())
        model.is_down = True
        failed = client.say("m1", "when to Rome?")
        model.is_down = False
        answers = [client.say("m1", "when to Rome?") for _ in range(2)]

        assert failed.status_code == 500
        assert {answer.json()["reply"] for answer in answers} == {"re: when to Rome? Trains to Rome leave at nine."}
        assert len({answer.json()["thread_id"] for answer in answers}) == 1
        assert [node for _, node, _ in ledger(service)] == list(NODES)


def test_database_that_is_away_is_503_and_comes_back(tmp_path: Path, database: str) -> None:
    with Proxy.to(database, watch=False) as link, running(tmp_path, link.conninfo(database)) as (_, [service]):
        client = Client(service.start())
        thread = client.say("m1", "when to Rome?").json()["thread_id"]
        link.refuse()
        link.cut()
        with in_background() as background:
            calls = [("GET", "/threads"), ("GET", f"/threads/{thread}"), ("DELETE", f"/threads/{thread}")]
            away = [background.submit(client, *call) for call in calls]
            away.append(background.submit(client.say, "m2", "and tea?", thread))
        link.accept()

        assert [answer.result().status_code for answer in away] == [503] * 4
        assert away[0].result().headers["Retry-After"] == "1"
        assert client.say("m2", "and tea?", thread).json()["reply"] == "re: and tea? Tea is served at five."
