"""With a key, nothing of the user's is stored readably, and what is stored does not tell what equals what."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from clew.errors import MissingKeyError, PlaintextError
from clew.serde.compress import encrypted_body
from tests.encryption import story
from tests.encryption.backends import (
    Backend,
    bodies,
    pending_of,
    plaintexts,
    serde,
    set_pending,
    set_spill,
    spills_of,
    steps_of,
)
from tests.encryption.story import SECRETS
from tests.storage.kit import Run, history, load, write

STAGES = (story.fail, story.ask, story.finish)


def told(saver: Any, dump: bytes) -> set[str]:
    """The secrets that can be read in a dump, or in a body once it is decompressed."""
    texts = [dump, *plaintexts(saver)]
    return {secret for secret in SECRETS if any(secret.encode() in text for text in texts)}


def test_nothing_of_the_users_can_be_read(backend: Backend) -> None:
    saver = backend.saver(serde())
    for stage in STAGES:
        stage(saver, "t")
        assert told(saver, backend.dump()) == set()
        assert all(encrypted_body(body) is not None for body in bodies(saver))

    assert saver.verify().problems == []


def test_without_a_key_the_same_search_finds_every_secret(backend: Backend) -> None:
    saver = backend.saver()
    found: set[str] = set()
    for stage in STAGES:
        stage(saver, "t")
        found |= told(saver, backend.dump())

    assert found == set(SECRETS)


def test_a_run_with_a_key_does_what_it_does_without(backend: Backend) -> None:
    encrypted, plain = backend.saver(serde()), backend.saver(tenant="plain")
    results: list[Any] = []
    for saver in (encrypted, plain):
        story.fail(saver, "t")
        story.ask(saver, "t")
        story.finish(saver, "t")
        states = story.graph_on(saver).get_state_history(story.on("t"))
        results.append([(state.values, state.next, state.metadata) for state in states])

    assert [(values, next) for values, next, _ in results[0]] == [(values, next) for values, next, _ in results[1]]
    assert all(metadata["user"] == "SECRET-metadata" for _, _, metadata in results[0])


def test_a_filter_on_metadata_finds_what_it_finds_without_a_key(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.storage.history._FIRST_BATCH", 4)
    monkeypatch.setattr("clew.storage.history._LARGEST_BATCH", 8)
    encrypted, plain = backend.saver(serde()), backend.saver(tenant="plain")
    found: list[Any] = []
    for saver in (encrypted, plain):
        run = Run(saver, "t")
        for turn in range(30):
            run.state["n"] = turn
            run.commit(claim=turn == 0, user=f"user {turn % 3}")
        listed = history(saver, "t", filter={"user": "user 1"})
        found.append([(one.values, one.metadata["user"]) for one in listed])
        limited = list(saver.list({"configurable": {"thread_id": "t"}}, filter={"user": "user 1"}, limit=4))
        found[-1] += [one.checkpoint["channel_values"] for one in limited]
        child_of = {one.checkpoint_id: one.parent_id for one in history(saver, "t")}
        assert all(child_of[one.checkpoint_id] == one.parent_id for one in listed)

    assert len(found[0]) == 10 + 4
    assert found[0] == found[1]


def test_large_leaves_have_names_that_only_the_key_gives(backend: Backend) -> None:
    saver = backend.saver(serde())
    content = story.leaf()
    for thread in ("a", "b"):
        run = Run(saver, thread)
        run.state |= {"leaf": content, "again": [content]}
        run.commit(claim=True)
        saver.run(run.cursor.save_writes([write(content)]))

    names = {thread: set(spills_of(saver, thread)) for thread in ("a", "b")}
    assert [len(found) for found in names.values()] == [1, 1], "kept once per thread"
    assert not names["a"] & names["b"], "who compares names does not learn that two threads hold the same"
    stored = saver.codec(frozenset()).encode(content)
    assert hashlib.blake2b(stored, digest_size=16).digest() not in names["a"] | names["b"]


def test_the_same_state_never_looks_the_same(backend: Backend) -> None:
    saver = backend.saver(serde())
    for thread in ("a", "b"):
        run = Run(saver, thread)
        for turn in range(3):
            run.state["n"] = "the same"
            run.commit(claim=turn == 0)

    chunks = [body[20:] for body in bodies(saver)]
    parts = {chunk[start : start + 8] for chunk in chunks for start in range(0, len(chunk) - 8, 8)}
    assert len(parts) == sum(len(range(0, len(chunk) - 8, 8)) for chunk in chunks)


# What is not encrypted


def test_a_thread_that_is_not_encrypted_is_refused(backend: Backend) -> None:
    plain = Run(backend.saver(), "t")
    plain.state["n"] = 1
    plain.commit(claim=True)
    saver = backend.saver(serde())

    with pytest.raises(PlaintextError, match="of thread 't' cannot be read: a stored record is not encrypted") as error:
        load(saver, "t")
    assert "accept_plaintext=True" in str(error.value.hint)
    with pytest.raises(PlaintextError):
        history(saver, "t")
    with pytest.raises(PlaintextError):
        saver.get_tuple({"configurable": {"thread_id": "t"}})
    with pytest.raises(PlaintextError):
        saver.copy_thread("t", "copy")
    assert [problem.thread_id for problem in saver.verify().problems] == ["t"]


@pytest.mark.parametrize("kind", ["task", "spill"])
def test_one_row_that_is_not_encrypted_is_refused(backend: Backend, kind: str) -> None:
    saver, intruder = backend.saver(serde()), backend.saver()
    forged = Run(intruder, "forged")
    forged.state["leaf"] = story.leaf()
    forged.commit(claim=True)
    intruder.run(forged.cursor.save_writes([write("forged")]))
    run = Run(saver, "t")
    run.state["leaf"] = story.leaf()
    run.commit(claim=True)
    saver.run(run.cursor.save_writes([write("true")]))

    if kind == "task":
        set_pending(saver, "t", pending_of(saver, "t")[0], pending_of(saver, "forged")[0][4])
    else:
        [name], [body] = spills_of(saver, "t"), spills_of(saver, "forged").values()
        set_spill(saver, "t", name, body)

    with pytest.raises(PlaintextError):
        load(backend.saver(serde()), "t")
    assert not saver.verify("t").is_intact


def test_a_plain_database_becomes_an_encrypted_one(backend: Backend) -> None:
    plain = backend.saver()
    story.fail(plain, "t")
    story.ask(plain, "t")
    before = [(one.values, one.metadata, one.pending) for one in history(plain, "t")]

    migrating = backend.saver(serde(accept_plaintext=True))
    assert [(one.values, one.metadata, one.pending) for one in history(migrating, "t")] == before
    assert migrating.reencrypt() > 0
    assert migrating.reencrypt() == 0

    saver = backend.saver(serde())
    assert [(one.values, one.metadata, one.pending) for one in history(saver, "t")] == before
    assert told(saver, b"") == set()
    assert saver.verify().problems == []
    assert story.finish(saver, "t")["log"][-1] == "SECRET-answer"


# Without the key


def test_encrypted_data_without_a_key_names_the_key(backend: Backend) -> None:
    saver = backend.saver(serde())
    story.fail(saver, "t")
    without = backend.saver()

    with pytest.raises(MissingKeyError, match="is encrypted with key 'old', and no key was given") as error:
        load(without, "t")
    assert error.value.key_id == "old"
    assert "of thread 't'" in str(error.value)
    with pytest.raises(MissingKeyError):
        history(without, "t")
    with pytest.raises(MissingKeyError):
        without.prune(["t"])
    assert {"is encrypted with key 'old'" in problem.message for problem in without.verify().problems} == {True}
    assert steps_of(saver, "t"), "nothing was changed"
    assert saver.verify().problems == []


def test_encrypted_data_with_other_keys_names_the_one_that_is_missing(backend: Backend) -> None:
    story.fail(backend.saver(serde("old")), "t")

    with pytest.raises(MissingKeyError, match="is encrypted with key 'old', which was not given") as error:
        load(backend.saver(serde("new")), "t")
    assert error.value.key_id == "old"


def test_a_copy_without_the_key_is_refused(backend: Backend) -> None:
    run = Run(backend.saver(serde()), "t")
    run.state["n"] = 1
    run.commit(claim=True)
    saver = backend.saver()

    with pytest.raises(MissingKeyError, match="encrypted with key 'old', and no key was given"):
        saver.copy_thread("t", "copy")

    assert [thread.thread_id for thread in saver.threads()] == ["t"]


def test_pending_writes_that_cannot_be_read_are_named_with_their_thread(backend: Backend) -> None:
    run = Run(backend.saver(serde("new")), "t")
    run.state["n"] = 1
    run.commit(claim=True)
    run.session.saver.run(run.cursor.save_writes([write("waits")]))

    with pytest.raises(MissingKeyError, match=r"pending writes of thread 't' cannot be read: .* key 'new'"):
        list(backend.saver(serde("old")).list({"configurable": {"thread_id": "t"}}))
