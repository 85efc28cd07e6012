"""Threads with runs: what they show of the newest one, and how they are found."""

from __future__ import annotations

from tests.server.live import Blocking, Gate


def test_a_thread_shows_the_config_of_its_newest_run(anywhere: Blocking) -> None:
    thread = anywhere.threads.create()["thread_id"]
    assert anywhere.threads.get(thread)["config"] == {}

    for color in ("red", "blue"):
        config = {"tags": [color], "configurable": {"color": color}}
        anywhere.runs.wait(thread, "pair", input={"log": []}, config=config)

    shown = anywhere.threads.get(thread)["config"]
    assert (shown["tags"], shown["configurable"]["color"]) == (["blue"], "blue")
    assert not [key for key in shown["configurable"] if key.startswith(("langgraph_", "__"))]


def test_busy_threads_are_found_and_counted(anywhere: Blocking, gate: Gate) -> None:
    idle, busy = (anywhere.threads.create()["thread_id"] for _ in range(2))
    run = anywhere.runs.create(busy, "pair", input={"log": [], "gate": gate.name})
    gate.wait()

    assert [thread["thread_id"] for thread in anywhere.threads.search(status="busy")] == [busy]
    assert (anywhere.threads.count(status="busy"), anywhere.threads.count(status="idle")) == (1, 1)
    gate.open()
    anywhere.runs.join(busy, run["run_id"])
    assert {thread["thread_id"] for thread in anywhere.threads.search(status="idle")} == {idle, busy}
