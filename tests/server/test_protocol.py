"""The protocol for streaming threads: through the field's own clients, and as it is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.config import get_stream_writer
from clew.graph import START, MessagesState, StateGraph
from clew.server.http import Cors, HttpSettings
from clew.server.protocol.messages import Messages
from tests.server.live import GRAPHS, SECONDS, Blocking, Gate, Live, messages

ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]


def command(client: Blocking, thread: str, method: str, **params: Any) -> Any:
    answer = client.http.post(f"/threads/{thread}/commands", json={"id": 7, "method": method, "params": params})
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextlib.contextmanager
def subscribed(client: Blocking, thread: str, *channels: str, **more: Any) -> Iterator[Iterator[Any]]:
    body = {"channels": channels or ALL, **more}
    with client.http.stream("POST", f"/threads/{thread}/stream/events", json=body) as response:
        assert response.status_code == 200, response.read()
        yield (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))


def until_over(events: Iterator[Any], runs: int = 1) -> list[Any]:
    """Events until that many runs have completed, failed or asked."""
    found: list[Any] = []
    while runs:
        event = next(events)
        found.append(event)
        params = event["params"]
        is_end = event["method"] == "lifecycle" and not params["namespace"] and params["data"]["event"] != "running"
        runs -= is_end
    return found


def data_of(events: list[Any], method: str) -> list[Any]:
    return [event["params"]["data"] for event in events if event["method"] == method]


def started(client: Blocking, graph: str, given: Any, thread: str | None = None) -> tuple[str, list[Any]]:
    """A thread on which a graph has run, and what was shown of it."""
    thread = thread or str(uuid.uuid4())
    made = command(client, thread, "run.start", assistant_id=graph, input=given)
    with subscribed(client, thread, since=made["meta"]["applied_through_seq"]) as events:
        return thread, until_over(events)


# On the wire


def test_a_run_is_shown_on_all_channels(anywhere: Blocking) -> None:
    _, events = started(anywhere, "nesting", {"log": []})

    below = [event["params"]["namespace"] for event in events if event["method"] == "lifecycle"]
    assert [len(ns) for ns in below] == [0, 1, 2, 2, 1, 0]
    assert [ns[-1].partition(":")[0] for ns in below if ns] == ["sub", "below", "below", "sub"]
    assert [data["event"] for data in data_of(events, "lifecycle")] == [
        "running", "started", "started", "completed", "completed", "completed",
    ]  # fmt: skip
    assert data_of(events, "custom") == [{"payload": "deep"}]
    assert [data["node"] for data in data_of(events, "updates")] == ["top", "deep", "below", "sub"]
    assert data_of(events, "updates")[0] == {"node": "top", "values": {"log": ["top"]}}
    assert data_of(events, "values")[-1]["log"][-1] == "deep"
    assert [data["name"] for data in data_of(events, "tasks") if "result" in data] == ["top", "deep", "below", "sub"]
    first, second, *_ = data_of(events, "checkpoints")
    assert (first["step"], first["source"], second["parent_id"]) == (-1, "input", first["id"])
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers))
    assert all(event["type"] == "event" and event["event_id"] == str(event["seq"]) for event in events)


def test_a_replay_is_the_same_behind_any_number(anywhere: Blocking) -> None:
    thread, first = started(anywhere, "nesting", {"log": []})
    anywhere.runs.wait(thread, "pair", input={"log": []})
    thread, last = started(anywhere, "pair", {"log": []}, thread)

    with subscribed(anywhere, thread, since=0) as events:
        whole = until_over(events, 3)

    assert whole[: len(first)] == first
    assert whole[-len(last) :] == last
    for place in (0, 5, len(first) - 1, len(first), len(whole) - 2):
        with subscribed(anywhere, thread, since=whole[place]["seq"]) as events:
            assert list(islice(events, len(whole) - place - 1)) == whole[place + 1 :]


def test_subscriptions_are_about_channels_and_namespaces(blocking: Blocking) -> None:
    thread, events = started(blocking, "nesting", {"log": []})

    def found(count: int, *channels: str, **more: Any) -> list[Any]:
        with subscribed(blocking, thread, *channels, since=0, **more) as events:
            return list(islice(events, count))

    values = [event for event in events if event["method"] == "values"]
    assert found(len(values), "values") == values
    own = [event for event in values if not event["params"]["namespace"]]
    assert found(len(own), "values", namespaces=[[]], depth=0) == own
    in_sub = [event for event in values if event["params"]["namespace"]]
    assert found(len(in_sub), "values", namespaces=[["sub"]]) == in_sub
    assert found(1, "values", namespaces=[["sub", "below"]]) == [
        next(event for event in in_sub if len(event["params"]["namespace"]) == 2)
    ]
    ends = found(3, "lifecycle", namespaces=[["sub"], ["elsewhere"]], depth=1)
    assert [len(event["params"]["namespace"]) for event in ends] == [1, 2, 2]


@pytest.mark.parametrize("body", [{}, {"channels": []}, {"channels": ["all"]}, {"channels": ["values"], "since": -1}])
def test_a_subscription_that_makes_no_sense_is_refused(blocking: Blocking, body: Any) -> None:
    thread = blocking.threads.create()["thread_id"]

    assert blocking.http.post(f"/threads/{thread}/stream/events", json=body).status_code == 422


def test_without_a_number_it_begins_with_what_is_going_on(blocking: Blocking, gate: Gate) -> None:
    thread, _ = started(blocking, "nesting", {"log": []})
    made = command(blocking, thread, "run.start", assistant_id="pair", input={"log": [], "gate": gate.name})
    gate.wait()

    with subscribed(blocking, thread, "lifecycle") as events:
        first = next(event for event in events if event["params"]["data"].get("run_id") == made["result"]["run_id"])
        gate.open()
        last = next(events)

    assert [event["params"]["data"]["event"] for event in (first, last)] == ["running", "completed"]


def test_questions_are_asked_and_answered(anywhere: Blocking) -> None:
    thread, events = started(anywhere, "asking", {"log": []})
    (asked,) = data_of(events, "input.requested")
    wrong = command(anywhere, thread, "input.respond", namespace=[], interrupt_id="none", response=1)
    tree = command(anywhere, thread, "agent.getTree")["result"]["tree"]
    answer = {"namespace": [], "interrupt_id": asked["interrupt_id"], "response": "again"}
    again = command(anywhere, thread, "input.respond", **answer)
    with subscribed(anywhere, thread, since=again["meta"]["applied_through_seq"]) as found:
        (second,) = data_of(until_over(found), "input.requested")
    answers = [{**answer, "interrupt_id": second["interrupt_id"], "response": 7}]
    done = command(anywhere, thread, "input.respond", responses=answers, update={"log": ["noted"]})
    with subscribed(anywhere, thread, since=done["meta"]["applied_through_seq"]) as found:
        rest = until_over(found)

    assert (asked["value"], asked["payload"]) == ({"question": "how many?"}, {"question": "how many?"})
    assert data_of(events, "lifecycle")[-1]["event"] == "interrupted"
    assert (wrong["type"], wrong["id"], wrong["error"]) == ("error", 7, "no_such_interrupt")
    assert (tree["status"], tree["graph_name"]) == ("interrupted", "asking")
    assert data_of(rest, "lifecycle")[-1]["event"] == "completed"
    assert sorted(map(str, anywhere.threads.get_state(thread)["values"]["log"])) == ["7", "again", "noted", "told"]


def test_where_a_question_waits_an_input_is_its_answer(blocking: Blocking) -> None:
    thread, _ = started(blocking, "asking", {"log": []})

    _, events = started(blocking, "asking", 7, thread)

    assert data_of(events, "lifecycle")[-1]["event"] == "completed"
    assert blocking.threads.get_state(thread)["values"]["log"] == [7, "told"]


def test_runs_that_fail_or_are_stopped_have_failed(blocking: Blocking, gate: Gate) -> None:
    _, failed = started(blocking, "failing", {"log": []})
    thread = str(uuid.uuid4())
    given = {"log": [], "gate": gate.name}
    made = command(blocking, thread, "run.start", assistant_id="pair", input=given)
    gate.wait()
    blocking.runs.cancel(thread, made["result"]["run_id"], wait=True)
    with subscribed(blocking, thread, since=0) as events:
        stopped = until_over(events)

    ended = data_of(failed, "lifecycle")[-1]
    assert (ended["event"], ended["error"], ended["graph_name"]) == ("failed", "boom!", "failing")
    assert data_of(stopped, "lifecycle")[-1]["error"] == "the run was stopped"


def test_states_are_read_and_gone_back_to(blocking: Blocking) -> None:
    thread, _ = started(blocking, "pair", {"log": ["in"]})

    state = command(blocking, thread, "state.get", namespace=[], keys=["log"])["result"]
    listed = command(blocking, thread, "state.listCheckpoints", limit=4)["result"]["checkpoints"]
    before = command(blocking, thread, "state.listCheckpoints", before=listed[0]["id"], limit=1)["result"]
    forked = command(blocking, thread, "state.fork", checkpoint_id=listed[2]["id"])
    with subscribed(blocking, thread, since=forked["meta"]["applied_through_seq"]) as events:
        again = until_over(events)

    assert state["values"] == {"log": ["in", "a", "b"]}
    assert state["checkpoint"] == {"id": listed[0]["id"], "ns": ""}
    assert [each["step"] for each in listed] == [2, 1, 0, -1]
    assert before["checkpoints"] == [listed[1]]
    assert forked["result"]["thread_id"] == thread
    assert [data["node"] for data in data_of(again, "updates")] == ["first", "second"]
    assert blocking.threads.get_state(thread)["values"] == {"log": ["in", "a", "b"]}


def test_what_is_wrong_with_a_command_is_said(blocking: Blocking) -> None:
    thread, _ = started(blocking, "pair", {"log": []})

    def error(method: str, **params: Any) -> str:
        said = command(blocking, thread, method, **params)
        assert (said["type"], said["id"]) == ("error", 7)
        return said["error"]

    assert error("run.stop") == "unknown_command"
    assert error("run.start") == "invalid_argument"
    assert error("run.start", assistant_id="nobody", input={}) == "invalid_argument"
    assert error("run.start", assistant_id="pair", multitask_strategy="never") == "invalid_argument"
    assert error("input.respond") == "no_such_interrupt"
    assert error("input.respond", responses=[]) == "invalid_argument"
    assert error("input.inject") == "not_supported"
    assert error("state.get", namespace="sub") == "invalid_argument"
    assert error("state.listCheckpoints", limit=0) == "invalid_argument"
    assert error("state.fork") == "invalid_argument"
    assert error("state.fork", checkpoint_id=str(uuid.uuid4())) == "no_such_checkpoint"
    for body in ([], {"id": "x", "method": "run.start"}, {"id": 1}, {"id": 1, "method": "state.get", "params": []}):
        answer = blocking.http.post(f"/threads/{thread}/commands", json=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_argument")
    missing = blocking.http.post(f"/threads/{uuid.uuid4()}/commands", json={"id": 1, "method": "agent.getTree"})
    assert missing.status_code == 404


def test_another_owners_thread_is_not_run_on(live: Live, blocking: Blocking) -> None:
    thread, _ = started(blocking, "pair", {"log": ["private"]})
    other = Blocking(live.url, "eve")

    answer = other.http.post(
        f"/threads/{thread}/commands", json={"id": 1, "method": "run.start", "params": {"assistant_id": "pair"}}
    )

    assert "private" not in answer.text
    assert (answer.status_code, answer.json()["type"]) == (200, "error")
    assert len(blocking.runs.list(thread)) == 1
    other.close()


def test_another_replica_shows_the_same(database: str, gate: Gate) -> None:
    with (
        PostgresSaver.from_conn_string(database) as one,
        PostgresSaver.from_conn_string(database) as two,
        Live(one) as here,
        Live(two) as there,
    ):
        local, remote = Blocking(here.url, "ada"), Blocking(there.url, "ada")
        thread = str(uuid.uuid4())
        command(local, thread, "run.start", assistant_id="pair", input={"log": [], "gate": gate.name})
        gate.wait()
        with subscribed(remote, thread) as events:
            begun = [next(events)]
            gate.open()
            live = begun + until_over(events)
        with subscribed(local, thread, since=live[3]["seq"]) as events:
            rest = until_over(events)
        local.close()
        remote.close()

    assert rest == live[4:]
    assert data_of(live, "values")[-1]["log"] == ["a", "b"]


def test_a_socket_takes_commands_and_subscriptions(live: Live, blocking: Blocking) -> None:
    thread, events = started(blocking, "pair", {"log": []})
    url, key = live.url.replace("http", "ws"), blocking.http.headers["x-api-key"]

    def said(socket: Any, method: str, **params: Any) -> Any:
        socket.send(json.dumps({"id": 1, "method": method, "params": params}))
        return json.loads(socket.recv(SECONDS))

    with connect(f"{url}/threads/{thread}/stream/events", additional_headers={"x-api-key": key}) as socket:
        made = said(socket, "subscription.subscribe", channels=ALL, since=0)["result"]["subscription_id"]
        replayed = [json.loads(socket.recv(SECONDS)) for _ in events]
        dropped = said(socket, "subscription.unsubscribe", subscription_id=made)
        unknown = said(socket, "subscription.unsubscribe", subscription_id="none")
        senseless = said(socket, "subscription.subscribe", channels=["all"])
        state = said(socket, "state.get", keys=["log"])
        socket.send("{")
        broken = json.loads(socket.recv(SECONDS))

    assert replayed == events
    assert dropped["type"] == "success"
    assert unknown["error"] == "no_such_subscription"
    assert senseless["error"] == broken["error"] == "invalid_argument"
    assert state["result"]["values"] == {"log": ["a", "b"]}


@pytest.mark.parametrize("whose", ["eve's", "nobody's"])
def test_a_socket_shows_nothing_of_anothers_thread(live: Live, blocking: Blocking, whose: str) -> None:
    thread = blocking.threads.create()["thread_id"] if whose == "eve's" else str(uuid.uuid4())
    url = f"{live.url.replace('http', 'ws')}/threads/{thread}/stream/events"
    body = {"id": 1, "method": "subscription.subscribe", "params": {"channels": ALL}}

    with connect(url, additional_headers={"x-api-key": "eve"}) as socket:
        socket.send(json.dumps(body))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(SECONDS)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4404


@pytest.mark.parametrize(("origin", "is_welcome"), [("https://ours.example", True), ("https://theirs.example", False)])
def test_a_socket_is_for_pages_that_may_read_the_service(origin: str, is_welcome: bool) -> None:
    http = HttpSettings(cors=Cors(allow_origins=("https://ours.example",)))
    with SqliteSaver.from_conn_string(":memory:") as saver, Live(saver, auth=None, http=http) as service:
        url = f"{service.url.replace('http', 'ws')}/threads/{uuid.uuid4()}/stream/events"
        with connect(url, additional_headers={"origin": origin}) as socket:
            with contextlib.suppress(ConnectionClosed):
                socket.send(json.dumps({"id": 1, "method": "nothing"}))
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(SECONDS)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == (4404 if is_welcome else 4403)


def test_a_socket_is_closed_when_the_service_goes_away() -> None:
    with SqliteSaver.from_conn_string(":memory:") as saver, Live(saver, auth=None) as service:
        client = Blocking(service.url, "ada")
        thread, _ = started(client, "pair", {"log": []})
        with connect(f"{service.url.replace('http', 'ws')}/threads/{thread}/stream/events") as socket:
            socket.send(json.dumps({"id": 1, "method": "subscription.subscribe", "params": {"channels": ["input"]}}))
            assert json.loads(socket.recv(SECONDS))["type"] == "success"
            leaving = asyncio.run_coroutine_threadsafe(service.app.state.clew.drain(0), service.loop)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(SECONDS)
        leaving.result(SECONDS)
        client.close()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


# Through the field's clients


@tool
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def using_tools() -> Any:
    """A model's call to a tool, and the tool."""

    async def call(state: MessagesState) -> Any:
        wanted = {"name": "double", "args": {"number": 21}, "id": "call", "type": "tool_call"}
        get_stream_writer()({"name": "progress", "payload": {"done": 1}})
        return {"messages": [AIMessage("", tool_calls=[wanted], id="calling"), await double.ainvoke(wanted)]}

    graph = StateGraph(MessagesState)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    return graph.compile()


@pytest.fixture(scope="module")
def service() -> Iterator[Live]:
    graphs = {**{name: make() for name, make in GRAPHS.items()}, "tools": using_tools()}
    with SqliteSaver.from_conn_string(":memory:") as saver, Live(saver, graphs=graphs, auth=None) as live:
        yield live


@pytest.fixture(params=["sse", "websocket"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_the_asyncio_client(service: Live, transport: Any) -> None:
    async def use() -> None:
        async with httpx.AsyncClient(base_url=service.url, timeout=SECONDS) as http:
            client = LangGraphClient(http)
            async with client.threads.stream(assistant_id="talking", transport=transport) as thread:
                await thread.run.start(input=messages("hello"))
                said = [message async for message in thread.messages]
                assert [await message.text for message in said] == ["hello world"]
                output = await thread.output
                assert [message["content"] for message in output["messages"]] == ["hello", "hello world"]
            async with client.threads.stream(assistant_id="asking", transport=transport) as thread:
                await thread.run.start(input={"log": []})
                async for _ in thread.values:
                    pass
                assert (thread.interrupted, thread.interrupts[0]["value"]) == (True, {"question": "how many?"})
                await thread.run.respond(7)
                assert (await thread.output)["log"] == [7, "told"]
            async with client.threads.stream(assistant_id="nesting", transport=transport) as thread:
                await thread.run.start(input={"log": []})
                children = [child async for child in thread.subgraphs]
                assert [(child.graph_name, child.status) for child in children] == [("sub", "completed")]
            async with client.threads.stream(assistant_id="tools", transport=transport) as thread:
                await thread.run.start(input=messages("double 21"))
                found = [item async for item in thread.interleave_projections(["tool_calls", "progress"])]
                (_, progress), (_, call) = found
                assert progress == {"name": "progress", "payload": {"done": 1}}
                assert (call.name, call.input, (await call.output)["content"]) == ("double", {"number": 21}, "42")
            async with client.threads.stream(assistant_id="failing", transport=transport) as thread:
                await thread.run.start(input={"log": []})
                with pytest.raises(RuntimeError, match="boom!"):
                    await thread.output

    asyncio.run(asyncio.wait_for(use(), SECONDS))


def test_each_turn_of_a_thread_has_its_own_output(service: Live) -> None:
    async def use() -> list[int]:
        async with httpx.AsyncClient(base_url=service.url, timeout=SECONDS) as http:
            client, counts = LangGraphClient(http), []
            id = (await client.threads.create())["thread_id"]
            for turn in range(2):
                async with client.threads.stream(id, assistant_id="pair") as thread:
                    await thread.run.start(input={"log": [turn]})
                    async for values in thread.values:
                        last = values
                    counts.append(len(last["log"]))
            return counts

    assert asyncio.run(asyncio.wait_for(use(), SECONDS)) == [3, 6]


def test_the_blocking_client(service: Live) -> None:
    with httpx.Client(base_url=service.url, timeout=SECONDS) as http:
        client = SyncLangGraphClient(http)
        with client.threads.stream(assistant_id="talking") as thread:
            thread.run.start(input=messages("hello"))
            assert [str(message.text) for message in thread.messages] == ["hello world"]
        with client.threads.stream(assistant_id="pair") as thread:
            thread.run.start(input={"log": []})
            assert [values["log"] for values in thread.values][-1] == ["a", "b"]


def test_a_remote_graph(service: Live) -> None:
    async def use() -> Any:
        async with httpx.AsyncClient(base_url=service.url, timeout=SECONDS) as http:
            graph = RemoteGraph("pair", client=LangGraphClient(http))
            async with await graph.astream_events({"log": ["in"]}, version="v3") as run:
                return await run.output()

    assert asyncio.run(asyncio.wait_for(use(), SECONDS))["log"] == ["in", "a", "b"]


# Messages


def told(*parts: Any) -> list[Any]:
    found = Messages()
    metadata = {"langgraph_checkpoint_ns": "node:1", "langgraph_node": "node"}
    said = [data for part in parts for data in found.take(part, metadata)]
    return [data for data in (*said, *found.finish()) if data.pop("message_id", "m") == "m"]


def test_a_call_to_a_tool_comes_in_pieces() -> None:
    def chunk(args: str, name: str | None = None, id: str | None = None) -> AIMessageChunk:
        call = {"name": name, "args": args, "id": id, "index": 0, "type": "tool_call_chunk"}
        return AIMessageChunk("", id="m", tool_call_chunks=[call])

    said = told(chunk('{"nu', "double", "call"), chunk('mber": 21}'))

    assert [data["event"] for data in said] == [
        "message-start", "content-block-start", "content-block-delta", "content-block-delta", "content-block-finish",
        "message-finish",
    ]  # fmt: skip
    assert said[0] == {"event": "message-start", "role": "ai", "id": "m", "metadata": {"langgraph_node": "node"}}
    assert [data["delta"] for data in said[2:4]] == [
        {"type": "tool-call-delta", "args": '{"nu'},
        {"type": "tool-call-delta", "args": 'mber": 21}'},
    ]
    assert said[4]["content"] == {"type": "tool_call", "name": "double", "id": "call", "args": {"number": 21}}


def test_arguments_that_are_no_json_are_an_invalid_call() -> None:
    call = {"name": "double", "args": "{", "id": "call", "index": 0, "type": "tool_call_chunk"}

    said = told(AIMessageChunk("", id="m", tool_call_chunks=[call]))

    assert (said[-2]["content"]["type"], said[-2]["content"]["args"]) == ("invalid_tool_call", "{")


def test_thoughts_and_words_are_blocks_of_their_own_and_tokens_are_added_up() -> None:
    def chunk(kind: str, text: str, index: int) -> AIMessageChunk:
        usage: Any = {
            "input_tokens": 1,
            "output_tokens": 2,
            "total_tokens": 3,
            "input_token_details": {"cache_read": 1},
        }
        return AIMessageChunk([{"type": kind, kind: text, "index": index}], id="m", usage_metadata=usage)

    said = told(chunk("reasoning", "hm", 0), chunk("reasoning", "m", 0), chunk("text", "yes", 1))

    finished = [data["content"] for data in said if data["event"] == "content-block-finish"]
    assert [(block["type"], block[block["type"]]) for block in finished] == [("reasoning", "hmm"), ("text", "yes")]
    assert said[-1]["usage"] == {
        "input_tokens": 3, "output_tokens": 6, "total_tokens": 9, "input_token_details": {"cache_read": 3},
    }  # fmt: skip
