"""The field's client in JavaScript, unchanged, in Node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.javascript import run_script
from tests.server.live import Gate, Live

FAILURE = {"error": "ValueError", "message": "boom!"}


def parts(streamed: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """What a stream showed between its first event and its last."""
    first, *between, last = streamed
    assert first["event"] == "metadata"
    assert last == {
        **last,
        "event": "end",
        "data": {"run_id": first["data"]["run_id"], "status": last["data"]["status"]},
    }
    return [(part["event"], part["data"]) for part in between]


@pytest.fixture
def said(live: Live, gate: Gate, tmp_path: Path) -> Any:
    return run_script("use.mjs", live.url, f"javascript {gate.name}", gate.name, folder=tmp_path)


def test_the_client_in_javascript(said: Any) -> None:
    threads(said)
    states(said)
    streams(said)
    joins(said)
    stops(said)
    questions(said)
    others(said)


def threads(said: Any) -> None:
    id = said["made"]["thread_id"]
    assert said["made"]["metadata"] == {"from": "js", "graph_id": "pair"}
    assert "409" in said["again"]["message"]
    assert said["patched"]["metadata"] == {"from": "js", "more": 1, "graph_id": "pair"}
    assert (said["searched"], said["counted"]) == ([id], 1)
    assert "404" in said["deleted"]["message"]


def states(said: Any) -> None:
    assert said["waited"] == {"log": ["in", "a", "b"]}
    assert said["state"]["values"] == said["waited"]
    assert said["state"]["next"] == []
    assert said["history"] == [["in", "a", "b"], ["in", "a"], ["in"]]
    assert said["written"]["configurable"]["thread_id"] == said["made"]["thread_id"]
    assert said["continued"] == said["copied"] == {"log": ["in", "a", "b", "written", "b"]}


def streams(said: Any) -> None:
    assert parts(said["values"]) == [("values", {"log": log}) for log in ([], ["a"], ["a", "b"])]
    assert said["told"]["run_id"] == said["values"][0]["data"]["run_id"]
    shown = parts(said["messages"])
    assert [data[0]["content"] for name, data in shown if name == "messages"] == ["hello", " ", "world"]
    assert [data for name, data in shown if name == "custom"] == [{"mood": "calm"}]
    assert [data["speak"]["messages"][0]["type"] for name, data in shown if name == "updates"] == ["ai"]
    assert [name.count("|") for name, _ in parts(said["nested"])] == [0, 2, 1, 0]
    assert parts(said["failed"])[-1] == ("error", FAILURE)
    assert said["failed"][-1]["data"]["status"] == "error"
    assert "boom!" in said["failure"]["message"]
    assert "422" in said["refused"]["message"]


def joins(said: Any) -> None:
    assert (said["created"]["status"], said["joined"]) == ("pending", {"log": ["a", "b"]})
    ids = [int(part["id"]) for part in said["everything"][:-1]]
    assert len(ids) == 6
    assert ids == sorted(set(ids))
    assert said["rest"] == said["everything"][3:]
    assert said["listed"] == [[said["created"]["run_id"], "success"]]
    assert [part["event"] for part in said["alone"]] == ["metadata", "values", "values", "values", "end"]


def stops(said: Any) -> None:
    assert "409" in said["rejected"]["message"]
    assert said["stopped"] == ["running", "interrupted", "interrupted"]
    assert "404" in said["gone"]["message"]


def questions(said: Any) -> None:
    (asked,) = said["question"]["__interrupt__"]
    assert asked["value"] == {"question": "how many?"}
    assert said["interrupted"]["status"] == "interrupted"
    assert [*said["interrupted"]["interrupts"].values()] == [[asked]]
    assert said["answered"] == {"log": [7, "told"]}
    assert said["before"] == {"log": ["a"]}


def others(said: Any) -> None:
    assert said["assistant"]["graph_id"] == "pair"
    assert said["graph"] == ["__start__", "first", "second", "__end__"]
    assert {"input_schema", "output_schema", "state_schema"} <= {*said["schemas"]}
    assert (said["item"]["value"], said["items"]) == ({"text": "hello"}, ["one"])
    assert said["namespaces"] == {"namespaces": [["notes", "js"]]}
    assert said["removed"] is None
