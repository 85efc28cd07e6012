"""Requests that are sent again, servers that go away, and clients that do not read."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.servers import Server
from tests.service_faults.kit import House, follow, made, new_run, new_thread, updates
from tests.service_faults.test_crash_points import FAST, LONG, SQLITE_FIRST


@pytest.mark.parametrize(
    "strategy", ["rollback", *(pytest.param(name, marks=LONG) for name in ("enqueue", "reject", "interrupt"))]
)
def test_a_request_that_is_sent_to_two_replicas_at_once_makes_one_run(strategy: str, replicated: House) -> None:
    house = replicated
    replicas = [house.replica().start() for _ in range(2)]
    clients = [replica.client() for replica in replicas for _ in range(4)]
    with ThreadPoolExecutor(len(clients)) as pool:
        for number in range(4):
            thread = new_thread(clients[0])
            answers = [
                pool.submit(new_run, client, thread, key=f"{number}", multitask_strategy=strategy) for client in clients
            ]
            (run,) = {made(answer.result()) for answer in answers}
            assert house.ended(run) == "success"
            assert len(clients[0].get(f"/threads/{thread}/runs").json()) == 1
    assert set(house.effects().values()) == {4}


def test_a_stateless_request_that_is_sent_twice_makes_one_thread(replicated: House) -> None:
    house = replicated
    replicas = [house.replica().start() for _ in range(2)]
    clients = [replica.client() for replica in replicas for _ in range(4)]

    def ask(client: httpx.Client, key: str) -> str:
        body = {"assistant_id": "row", "input": {}, "on_completion": "keep"}
        return made(client.post("/runs", json=body, headers={"idempotency-key": key}))

    with ThreadPoolExecutor(len(clients)) as pool:
        for number in range(4):
            key = f"key-{number}"
            (run,) = set(pool.map(lambda client, key=key: ask(client, key), clients))
            assert house.ended(run) == "success"
    assert len(clients[0].post("/threads/search", json={"limit": 100}).json()) == 4
    assert set(house.effects().values()) == {4}


@LONG
def test_a_thread_that_several_requests_would_make_is_made_once(replicated: House) -> None:
    house = replicated
    replicas = [house.replica().start() for _ in range(2)]
    clients = [replica.client() for replica in replicas for _ in range(3)]
    with ThreadPoolExecutor(len(clients)) as pool:
        for number in range(4):
            answers = [pool.submit(new_run, client, f"thread-{number}", if_not_exists="create") for client in clients]
            runs = {made(answer.result()) for answer in answers}
            assert len(runs) == len(clients), "each asked for a run of its own"
            assert {house.ended(run) for run in runs} == {"success"}


@LONG
def test_a_server_that_crashes_in_the_middle_of_a_run(own_server: Server, house_on: Any) -> None:
    house: House = house_on(own_server.conninfo())
    replica = house.replica(work=FAST).start()
    client, gate = replica.client(), house.file()
    thread = new_thread(client)
    run = made(new_run(client, thread, input={"orders": {"two": {"hold": str(gate)}}}, stream_mode=["updates"]))
    house.wait_for("began", "two")
    own_server.kill()
    gate.touch()
    house.wait_for("ran", "two")
    own_server.start()
    seen = follow(client, thread, run)
    assert updates(seen) == ["one", "two", "three"]
    assert house.ended(run) == "success"
    row = house.run(run)
    assert row is not None
    assert all(count <= row.attempt for count in house.effects().values())
    assert house.effects()["one"] == 1, "what was stored is not done again"
    assert client.get(f"/threads/{thread}").json()["status"] == "idle"


def test_without_signals_polling_is_enough(replicated: House) -> None:
    """Behind a pooler that shares connections nobody can listen."""
    house = replicated
    maker = house.replica(work={"max_runs": 0}, saver={"prepare": False}).start()
    house.replica(saver={"prepare": False}).start()
    client = maker.client()
    thread = new_thread(client)
    asked = time.monotonic()
    run = made(new_run(client, thread, stream_mode=["updates"]))
    assert updates(follow(client, thread, run)) == ["one", "two", "three"]
    assert time.monotonic() - asked < 3, "half a second to take it, and a quarter to see its end, on a busy machine"


@pytest.mark.parametrize("backend", SQLITE_FIRST)
def test_a_client_that_does_not_read_slows_nothing_and_costs_little(backend: str, house_on: Any) -> None:
    house: House = house_on(backend)
    replica = house.replica(seconds=60).start()
    client = replica.client()
    thread = new_thread(client)
    orders = {"orders": {"two": {"show": [320, 64 * 1024]}}}  # 20 MB
    before = resident(replica.pid)
    gone = [silent(replica.port, thread, orders) for _ in range(1)]
    (found,) = house.until(lambda: client.get(f"/threads/{thread}/runs").json())
    slow = [silent_reader(replica.port, thread, found["run_id"]) for _ in range(8)]
    assert house.ended(found["run_id"]) == "success"
    grown = resident(replica.pid) - before
    for link in (*gone, *slow):
        link.close()
    assert grown < 60, f"{grown} MB for one run of 20 MB and nine clients that do not read"
    assert client.get("/ok").status_code == 200


def silent(port: int, thread: str, given: dict[str, Any]) -> socket.socket:
    """A client that asks for a stream and never reads it."""
    body = httpx.Request(
        "POST", "http://x/", json={"assistant_id": "row", "input": given, "stream_mode": ["custom", "updates"]}
    ).read()
    return _silent(port, f"POST /threads/{thread}/runs/stream", body)


def silent_reader(port: int, thread: str, run: str) -> socket.socket:
    """One that joins a run, and never reads."""
    return _silent(port, f"GET /threads/{thread}/runs/{run}/stream", b"", "last-event-id: -1\r\n")


def _silent(port: int, what: str, body: bytes, headers: str = "") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    head = (
        f"{what} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    )
    link.sendall(head.encode() + body)
    return link


def resident(pid: int) -> float:
    """Memory of a process, in MB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))
