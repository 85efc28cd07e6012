"""An old key decrypts until everything is under the new one, and is needed no more then."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from clew.errors import MissingKeyError
from clew.serde.compress import encrypted_body, key_id
from clew.storage.assistants import Said, add_assistant, find_assistant
from clew.storage.operation import LogOp
from clew.storage.session import LogSession
from clew.threads import Threads
from tests.encryption import story
from tests.encryption.backends import Backend, bodies, serde, spills_of
from tests.storage.kit import Run, history, load, write


def keys_of(saver: Any) -> set[str]:
    """The keys that what is stored needs."""
    return {key_id(encrypted_body(body) or b"\x01?") for body in bodies(saver)}


def seen(saver: Any, thread: str, ns: str = "") -> list[Any]:
    return [(one.checkpoint_id, one.values, one.metadata, repr(one.pending)) for one in history(saver, thread, ns)]


def test_old_keys_decrypt_and_the_current_one_encrypts(backend: Backend) -> None:
    story.fail(backend.saver(serde("old")), "t")
    both = backend.saver(serde("old", "new"))

    story.ask(both, "t")

    assert keys_of(both) == {"old", "new"}
    assert story.finish(backend.saver(serde("old", "new")), "t")["log"][-1] == "SECRET-answer"
    with pytest.raises(MissingKeyError, match="key 'old'"):
        history(backend.saver(serde("new")), "t")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_saver_that_is_bound_to_no_tenant_reencrypts_for_all(backend: Backend, is_async: bool) -> None:
    written, tenants = backend.saver(serde("old")), ("", "acme", "globex")
    for tenant in tenants:
        run = Run(written.with_tenant(tenant), "t")
        run.state["n"] = tenant
        run.commit(claim=True)
    Threads(written.with_tenant("without a checkpoint")).create("listed", user_id="u", metadata={"a": 1})
    both = backend.saver(serde("old", "new"))

    assert both.with_tenant("acme").reencrypt() == 1
    changed = asyncio.run(both.areencrypt()) if is_async else both.reencrypt()

    assert (changed, both.reencrypt()) == (3, 0)
    new = backend.saver(serde("new"))
    assert [load(new.with_tenant(tenant), "t").values["n"] for tenant in tenants] == list(tenants)
    assert Threads(new.with_tenant("without a checkpoint")).get("listed", user_id="u").metadata == {"a": 1}


@pytest.mark.parametrize("is_async", [False, True])
def test_after_reencryption_the_old_key_can_go(backend: Backend, is_async: bool) -> None:
    old = backend.saver(serde("old"))
    for thread in ("a", "b"):
        story.fail(old, thread)
    story.ask(old, "a")
    story.fail(old, "c")
    namespaces = [ns for ns in {one.config["configurable"]["checkpoint_ns"] for one in old.list(None)} if ns]
    before = {thread: seen(old, thread) for thread in "abc"} | {ns: seen(old, "a", ns) for ns in namespaces}
    names = {thread: set(spills_of(old, thread)) for thread in "abc"}
    both = backend.saver(serde("old", "new"))

    def reencrypt() -> int:
        return asyncio.run(both.areencrypt()) if is_async else both.reencrypt()

    changed = reencrypt()

    assert changed >= sum(map(len, before.values()))
    assert reencrypt() == 0
    new = backend.saver(serde("new"))
    assert keys_of(new) == {"new"}
    assert {thread: seen(new, thread) for thread in "abc"} | {ns: seen(new, "a", ns) for ns in namespaces} == before
    assert new.verify().problems == []
    for thread in "abc":
        assert len(spills_of(new, thread)) == len(names[thread]) == 1
        assert not names[thread] & set(spills_of(new, thread)), "the hash has another key, too"
    assert story.finish(new, "a")["log"][-1] == "SECRET-answer"
    with pytest.raises(MissingKeyError, match="key 'new'"):
        load(backend.saver(serde("old")), "a")


def test_one_thread_can_be_reencrypted_alone(backend: Backend) -> None:
    old = backend.saver(serde("old"))
    for thread in ("a", "b"):
        story.fail(old, thread)

    assert backend.saver(serde("old", "new")).reencrypt(["a"]) > 0

    new = backend.saver(serde("new"))
    assert new.verify("a").is_intact
    assert not new.verify("b").is_intact


def test_every_tenant_is_reencrypted_by_a_saver_of_its_own(backend: Backend) -> None:
    old = backend.saver(serde("old"))
    for tenant in ("one", "two"):
        run = Run(old.with_tenant(tenant), "t")
        run.state["n"] = tenant
        run.commit(claim=True)
    both = backend.saver(serde("old", "new"))

    assert both.with_tenant("one").reencrypt() == 1

    assert load(backend.saver(serde("new"), tenant="one"), "t").values == {"n": "one"}
    with pytest.raises(MissingKeyError):
        load(backend.saver(serde("new"), tenant="two"), "t")


def test_long_threads_are_reencrypted_in_parts_while_a_run_goes_on(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.storage.reseal.BATCH", 8)
    run = Run(backend.saver(serde("old"), keyframe_chain=10), "t")
    for turn in range(50):
        run.state |= {"n": turn, "text": f"{turn} " * 500}
        if turn % 10 == 0:
            run.state["leaf"] = story.leaf(f"{turn}")
        run.commit(claim=turn == 0)
    both = backend.saver(serde("old", "new"))
    steps = 0

    def run_meanwhile(op: Any) -> Any:
        nonlocal steps
        steps += 1
        other.state["n"] = f"meanwhile {steps}"
        other.commit(claim=steps == 1)
        return carry_out(op)

    carry_out = both.run
    monkeypatch.setattr(both, "run", run_meanwhile)
    commits = backend.saver(serde("old", "new"))
    other = Run(commits, "t")
    assert both.reencrypt(["t"]) == 50, "what the run wrote meanwhile was under the new key"

    assert steps >= 50 // 8
    new = backend.saver(serde("new"))
    listed = [one.values["n"] for one in reversed(history(new, "t"))]
    assert listed == [*range(50), *(f"meanwhile {number + 1}" for number in range(steps))]
    assert new.verify("t").problems == []


def test_a_leaf_that_came_before_its_checkpoint_is_renamed_with_it(backend: Backend) -> None:
    """Writes move to where their checkpoint is, under the new key, and still name their leaf by the old one."""
    saver = backend.saver(serde("old"))
    id = "1ef00000-0000-6000-8000-000000000001"
    at: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": id}}
    saver.put_writes(at, [("leaf", story.leaf())], "0f0e0d0c-0b0a-4908-8706-050403020100")
    both = backend.saver(serde("old", "new"))
    checkpoint: Any = {"v": 4, "id": id, "ts": "", "channel_values": {"n": 1}, "channel_versions": {"n": 1}}
    both.put({"configurable": {"thread_id": "t"}}, checkpoint | {"versions_seen": {}}, {"source": "loop"}, {"n": 1})
    assert keys_of(both) == {"old", "new"}

    assert both.reencrypt() == 1

    found = backend.saver(serde("new")).get_tuple(at)
    assert found.pending_writes[0][1:] == ("leaf", story.leaf())
    assert keys_of(both) == {"new"}


def test_names_of_leaves_do_not_tell_what_they_hold_to_who_has_the_retired_key(backend: Backend) -> None:
    run = Run(backend.saver(serde("old")), "t")
    run.state["leaf"] = story.leaf()
    run.commit(claim=True)
    saver = backend.saver(serde("old", "new"))
    saver.run(Run(saver, "t").cursor.claim([write(story.leaf())]))
    saver.reencrypt()

    retired = serde("old")
    content = retired.codec.encode(story.leaf())
    guesses = {retired.keys.keyed_hash(("spill", "", "t"), content), hashlib.blake2b(content, digest_size=16).digest()}
    assert not guesses & set(spills_of(saver, "t"))


def test_assistants_are_sealed_and_reencrypted(backend: Backend) -> None:
    said = Said("agent", "SECRET-name", None, {"key": "SECRET-config"}, {}, {"SECRET-label": 1})

    def do(saver: Any, rule: Any, *arguments: Any) -> Any:
        bound = saver.with_tenant("without a thread")
        session = LogSession(bound, "", bound.codec(frozenset()), bound.tenant)
        return bound.run(LogOp(session, lambda: rule(bound.place(""), *arguments), kind="assistant"))

    both, new = backend.saver(serde("old", "new")), backend.saver(serde("new"))
    do(backend.saver(serde("old")), add_assistant, "ada", "a", said, 1)
    assert b"SECRET" not in backend.dump()
    with pytest.raises(MissingKeyError, match="key 'old'"):
        do(new, find_assistant, "ada", "a")

    assert (both.reencrypt(), both.reencrypt()) == (1, 0)

    assert do(new, find_assistant, "ada", "a").said == said
    assert do(new, find_assistant, "bob", "a") is None
