"""What was acknowledged lasts, and costs what it weighs."""

from __future__ import annotations

import json
from typing import Any

from clew.testing._kit import Conformance, equal, holds, needs
from clew.testing._runs import Run, found, history, load
from clew.testing._values import STANDARD, differing

_TEXT = (
    "Ariadne gave Theseus a ball of thread, a clew, and he unwound it on his way into the labyrinth; so, when the work"
    " was done, it led him back to the door by which he had come. "
)


class LastingChecks(Conformance):
    """Durability and size."""

    has_size = True
    """Whether `stored_bytes` is implemented."""

    def stored_bytes(self) -> int:
        """How many bytes this check's storage takes now, all of it, as durable as it gets."""
        raise NotImplementedError("a kit for savers implements stored_bytes(), or says has_size = False")

    @needs("is_durable")
    def test_what_was_stored_is_there_when_it_is_opened_again(self) -> None:
        with self.open() as saver:
            run = Run(saver, "t")
            run.state = dict(STANDARD)
            first = run.commit(claim=True)
            for number in range(30):
                run.state["n"] = number
                run.submit()
        with self.open() as saver:
            head = found(saver, "t")
            equal(head.values.get("n"), 29, "closing has waited for what was submitted")
            equal(differing(head.values, STANDARD), [], "no value is changed by closing and opening")
            equal(found(saver, "t", at=first).values.get("n"), None, "a past state")
            Run(saver, "t").commit([], claim=True)
            equal(len(history(saver, "t")), 32, "the thread goes on")

    @needs("is_durable")
    def test_two_savers_on_one_storage_see_each_other(self) -> None:
        with self.open() as one, self.open() as other:
            for number in range(6):
                saver = (one, other)[number % 2]
                run = Run(saver, "t")
                equal(run.state.get("n", -1), number - 1, "what the other saver has committed last")
                run.state["n"] = number
                run.commit(claim=True)
            equal(len(history(one, "t")), 6, "steps of both savers in one chain")

    @needs("is_durable")
    def test_what_was_acknowledged_survives_a_kill(self) -> None:
        acknowledged = -1
        for lines in (1, 2, 11, 24):  # how many acknowledgements are awaited before the process is killed
            child = self.child("commit")
            assert child.stdout is not None
            with child:
                said = [child.stdout.readline() for _ in range(lines)]
                child.kill()
                said += child.stdout.readlines()
            whole = [line.split() for line in said if line.endswith("\n")]
            holds(len(whole) >= lines, f"the child process works: it said {said}")
            acknowledged = max(int(turn) for what, turn in whole if what == "committed")
            with self.open() as saver:
                self._check_thread(saver, acknowledged, is_pending=whole[-1][0] == "pending")

    def _check_thread(self, saver: Any, acknowledged: int, *, is_pending: bool) -> None:
        head = found(saver, "t")
        turns = [entry["turn"] for entry in head.values["log"]]
        equal(turns, list(range(len(turns))), "what survives a kill is a prefix without a hole")
        last = len(turns) - 1
        holds(last in (acknowledged, acknowledged + 1), f"turn {acknowledged} was acknowledged, and {last} is the last")
        if is_pending and last == acknowledged:
            equal([task.writes for task in head.pending], [[("messages", f"pending {last}")]], "acknowledged writes")
        states = [len(saved.values["log"]) for saved in history(saver, "t")]
        equal(states, list(range(len(turns), 0, -1)), "every state is readable")

    @needs("is_durable")
    def test_two_processes_on_one_thread_lose_no_update(self) -> None:
        with self.open() as saver:
            load(saver, "t")  # sets the storage up
        children = [self.child("compete") for _ in range(2)]
        for child in children:
            assert child.stdout is not None
            equal(child.stdout.readline(), "ready\n", "the child process has opened the storage")
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.communicate(timeout=100)[0].split() for child in children]
        equal([child.returncode for child in children], [0, 0], "how the processes ended")

        with self.open() as saver:
            listed = history(saver, "t")
            equal(len(listed[0].values["log"]), len(listed), "every commit that passed is in the state")
            done = [entry for entry in listed[0].values["log"] if len(entry) == 3]
            equal(len(done), sum(words.count("won") for words in said), "and those told that they passed did")

    @needs("has_size")
    def test_a_chat_weighs_what_its_messages_weigh(self) -> None:
        with self.open() as saver:
            run = Run(saver, "t")
            messages: list[Any] = []
            run.state["messages"] = messages
            run.commit(claim=True)
            before = self.stored_bytes()
            for turn in range(300):
                for role in ("user", "assistant"):
                    content = f"{turn} {role}: " + _TEXT[turn % 60 :] + _TEXT * 2
                    messages.append({"role": role, "content": content, "id": f"{role}-{turn}"})
                    run.submit()
            saver.flush(run.session)
            grown = self.stored_bytes() - before
            payload = len(json.dumps(found(saver, "t").values["messages"]))
        what = f"600 steps of a chat whose messages are {payload:,} bytes of JSON grew the storage by {grown:,} bytes"
        holds(grown < 2 * payload, f"{what}; the limit is twice the JSON")

    @needs("has_size")
    def test_a_commit_writes_what_changed(self) -> None:
        with self.open() as saver:
            run = Run(saver, "t")
            large: dict[str, Any] = {f"{n:05}": [n, f"{n * 7919 % 100_003:06} " + _TEXT[n % 90 :]] for n in range(3000)}
            pairs: list[Any] = [[n, n * n] for n in range(10_000)]
            run.state = {"large": large, "list": pairs, "n": 0}
            run.commit(claim=True)
            before = self.stored_bytes()
            size = len(json.dumps(run.state))
            for number in range(40):
                run.state["n"] = number
                pairs.append([number, "new"])
                large[f"{number:05}"] = ["changed"]
                run.commit()
            grown = self.stored_bytes() - before
            equal(found(saver, "t").values, run.state, "the state after all that")
        holds(grown < size / 4, f"40 small changes of a state of {size:,} bytes grew the storage by {grown:,} bytes")
