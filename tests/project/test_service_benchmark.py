"""The comparison of services: its client, what it says of processes, and its tables."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from benchmarks.service.client import Client
from benchmarks.service.load import CLIENTS, OPERATIONS, measure
from benchmarks.service.processes import family, processor_seconds, resident_bytes
from benchmarks.service.report import medians, summary, table
from benchmarks.service.servers import CONTESTANTS

ANSWERS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\n\r\n8\r\n{\"a\": 2}\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
]  # fmt: skip


def test_client_reads_bodies_of_every_kind_on_connections_that_end() -> None:
    async def talk() -> list[tuple[int, bytes]]:
        waiting = iter(ANSWERS)
        connections: list[asyncio.Event] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended = asyncio.Event()
            connections.append(ended)
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                    answer = next(waiting)
                    writer.write(answer)
                    if b"close" in answer:
                        break
            except asyncio.IncompleteReadError:
                pass  # the client has gone
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1])
        said = [await client.request("POST", "/x", {"n": number}) for number in range(len(ANSWERS))]
        client.close()
        for ended in connections:
            await ended.wait()
        server.close()
        assert len(connections) == 2
        assert all(0 < answer.first <= answer.whole for answer in said)
        return [(answer.status, answer.body) for answer in said]

    assert asyncio.run(talk()) == [(200, b'{"a": 1}\n'), (200, b'\n{"a": 2}'), (204, b""), (404, b"{}")]


def test_processes_say_what_they_have_used() -> None:
    before = processor_seconds(os.getpid())
    deadline = time.process_time() + 0.05
    while time.process_time() < deadline:
        pass

    assert 0.02 <= processor_seconds(os.getpid()) - before < 5
    assert resident_bytes(os.getpid()) > 2**20
    assert os.getpid() in family(os.getppid())
    assert processor_seconds(None) == 0.0


def test_tables_show_every_operation_and_what_failed() -> None:
    one = {"per_second": 1234.5, "p50": 0.5, "p99": 12.25, "first": 0.25, "failed": 0.0, "server_cpu": 2.0}
    one |= {"database_cpu": 0.0, "client_cpu": 0.1}
    rows = {f"{name}, {count}": one for name in OPERATIONS for count in CLIENTS}
    rows |= {"memory": {"resident_mb": 99.0}, "start": {"started_ms": 321.0, "first_run_ms": 9.0, "installed_mb": 45.6}}
    worse = {**rows, "runs/wait, 1": {**one, "failed": 3.0, "database_cpu": 1.0}}

    lines = table({"clew": rows, "peer": worse}).splitlines()

    assert len(lines) == 2 + len(OPERATIONS) * len(CLIENTS)
    assert lines[2] == "| create thread, 1 client | **1,234**, 0.50 / 12.2, 2.00 | **1,234**, 0.50 / 12.2, 2.00 |  |"
    assert "2.00 + 1.00 (3 failed) | 200 /s, 5 ms |" in next(line for line in lines if "runs/wait, 1 " in line)
    assert "| installed, MB | 45.6 | 45.6 |" in summary({"clew": rows, "peer": worse})


def test_medians_are_taken_of_each_figure() -> None:
    assert medians([{"a": {"x": 1.0, "y": 5.0}}, {"a": {"x": 2.0, "y": 4.0}}, {"a": {"x": 9.0, "y": 9.0}}]) == {
        "a": {"x": 2.0, "y": 5.0}
    }


def test_peers_have_environments_of_their_own() -> None:
    ours = [each for each in CONTESTANTS if not each.packages]
    peers = [each for each in CONTESTANTS if each.packages]

    assert [each.name.split(",")[0] for each in ours] == ["clew", "clew"]
    assert len({each.environment for each in peers}) == len(peers) == 2
    assert all(Path(__file__).parents[2] in each.environment.parents for each in peers)
    assert all(20 < each.megabytes() < 200 for each in ours)


def test_clew_is_started_asked_and_stopped() -> None:
    with CONTESTANTS[0].running() as server:
        figures = asyncio.run(measure(server.port, (server.pid, None), 0.02, (2,)))

    assert server.started > 0 < server.first_run
    assert set(figures) == {*(f"{name}, 2" for name in OPERATIONS), "memory"}
    for name in OPERATIONS:
        asked = figures[f"{name}, 2"]
        assert (asked["failed"], asked["database_cpu"]) == (0, 0.0), name
        assert asked["per_second"] > 0 < asked["first"] <= asked["p99"], name
    assert figures["memory"]["resident_mb"] > 20
    assert family(server.pid) == [server.pid], "a child was left"
