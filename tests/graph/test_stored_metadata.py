"""What of a config is kept with each checkpoint is the caller's to say, whatever its keys are called."""

from __future__ import annotations

from clew.checkpoint.memory import InMemorySaver
from clew.graph import START, StateGraph


def test_keys_of_users_are_kept_also_when_they_look_like_headers() -> None:
    graph = StateGraph(dict).add_node("n", lambda state: {"x": 1}).add_edge(START, "n").compile(InMemorySaver())
    config = {"configurable": {"thread_id": "t", "x-team": "blue"}, "metadata": {"user-agent": "robot", "__own": 1}}
    graph.invoke({"x": 0}, config)

    for snapshot in graph.get_state_history(config):
        assert snapshot.metadata is not None
        assert (snapshot.metadata["x-team"], snapshot.metadata["user-agent"]) == ("blue", "robot")
        assert "__own" not in snapshot.metadata
