"""The chat service, as processes that are killed with SIGKILL: alone on SQLite, and several of them on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.examples.chat_kit import Client, RoundRobin, in_background, ledger, running

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
