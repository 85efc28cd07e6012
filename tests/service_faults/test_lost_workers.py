"""Workers that are killed in the middle of a run: it is gone on with, here or elsewhere, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.service_faults.kit import House, follow, made, new_run, new_thread, read_stream, updates
from tests.service_faults.test_crash_points import FAST, LONG, SQLITE_FIRST

MODES = ["updates", "values"]


@pytest.mark.parametrize("work", [FAST, pytest.param({}, id="by default", marks=LONG)])
@pytest.mark.parametrize("backend", SQLITE_FIRST)
def test_a_process_that_is_killed_and_started_again_ends_the_run(
    backend: str, work: dict[str, Any], house_on: Callable[[str], House]
) -> None:
    house = house_on(backend)
    replica = house.replica(work=work).start()
    client, gate = replica.client(), house.file()
    thread = new_thread(client)
    run = made(new_run(client, thread, input={"orders": {"two": {"hold": str(gate)}}}, stream_mode=MODES))
    stream = read_stream(client, thread, run)
    seen = []
    for event in stream:
        seen.append(event)
        if updates(seen) == ["one"]:
            break
    house.wait_for("began", "two")
    replica.kill()
    gate.touch()
    replica.start()
    back = time.monotonic()
    rest = follow(client, thread, run)
    seconds = time.monotonic() - back

    assert seconds < 3.5, "three seconds, but for the client's own"
    assert house.status(run) == "success"
    assert house.effects() == {"one": 1, "two": 1, "three": 1}
    assert updates(follow(client, thread, run)) == ["one", "two", "three"]
    ids = [int(id) for _, _, id in follow(client, thread, run) if id is not None]
    assert ids == sorted(set(ids))
    assert [seq for seq, *_ in house.events(run)] == list(range(1, len(house.events(run)) + 1))
    assert rest[-1][:2] == ("end", {"run_id": run, "status": "success"})
