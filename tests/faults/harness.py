"""The parent of the processes that die: starts them, watches them, and checks what they leave."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.caller import CONFIG, THREAD
from tests.faults.checker import Checker
from tests.faults.ledger import Ledger, attempts
from tests.faults.places import bury, open_saver
from tests.faults.stories import BY_NAME, Notes, Story

ROOT = Path(__file__).resolve().parents[2]
KILLED = -9


@dataclass(frozen=True)
class Setting:
    """Where a story is told. `storage`: a `synchronous` of SQLite, "postgres" or "postgres fast"; `link`: how savers
    reach a server."""

    storage: str = "FULL"
    durability: str = "sync"
    is_async: bool = False
    has_store: bool = False
    link: str = "pool"


@dataclass
class Harness:
    """Runs cases in processes of their own, forked off one that has everything imported. `server` is the connection
    string of a database for cases on PostgreSQL."""

    folder: Path
    server: str = ""
    process: subprocess.Popen[str] | None = None
    is_busy: bool = False  # somebody has started processes and not waited for them
    numbers: Iterator[int] = field(default_factory=itertools.count)
    plain: dict[tuple[str, Setting], tuple[Counter[str], Counter[str]]] = field(default_factory=dict)

    def run(self, **case: Any) -> int:
        """Run one process to its end, or to its death; gives its exit code."""
        self.start(**case)
        return self.wait()

    def start(self, **case: Any) -> None:
        """Start a process; `wait` for it before the next one."""
        self.start_all([case])

    def start_all(self, cases: Sequence[dict[str, Any]]) -> None:
        """Start several at the same time; `wait_all` for them."""
        if (
            self.is_busy and self.process is not None
        ):  # a test failed in the middle: its processes are not the next one's
            self.process.kill()
            self.process.wait(30)
            self.process = None
        self.is_busy = True
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.zygote"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(list(cases)) + "\n")
        self.process.stdin.flush()

    def wait(self) -> int:
        """The exit code of the process that was started."""
        return self.wait_all()[0]

    def wait_all(self) -> list[int]:
        """The exit codes of the processes that were started."""
        assert self.process is not None
        assert self.process.stdout is not None
        codes: list[int] = json.loads(self.process.stdout.readline())
        self.is_busy = False
        return codes

    def close(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            if self.is_busy:
                self.process.kill()
            self.process.stdin.close()
            self.process.wait(30)
            self.process.stdout.close()

    def place(self, setting: Setting) -> dict[str, str]:
        """A fresh database and ledger, and a store if the story needs one."""
        number = str(next(self.numbers))
        start = str(self.folder / number)
        place = {"ledger": f"{start}.ledger", "storage": setting.storage, "link": setting.link}
        if setting.storage.startswith("postgres"):
            place |= {"database": self.server, "tenant": f"{self.folder.name}-{number}", "store": self.server}
        else:
            place |= {"database": f"{start}.db", "store": f"{start}.store.db"}
        if not setting.has_store:
            del place["store"]
        return place

    def uninterrupted(self, story: Story, setting: Setting) -> tuple[Counter[str], Counter[str]]:
        """How often each failpoint is passed when nothing goes wrong, and how often each node works."""
        known = self.plain.get((story.name, setting))
        if known is None:
            place = self.place(setting)
            passed = place["ledger"] + ".passed"
            code = self.run(**place, **told(story, setting), record=passed)
            assert code == 0, error_of(place)
            known = Counter(json.loads(Path(passed).read_text())), attempts(Ledger(place["ledger"]), "name")
            self.plain[story.name, setting] = known
        return known

    def crash(self, story: Story, setting: Setting, failpoint: str, *, then: str = "") -> bool:
        """Kill a process at a failpoint, continue in another one, check everything; False if it was never reached.

        With `then`, the process that continues is killed as well, and a third one ends the story.
        """
        _, plain = self.uninterrupted(story, setting)
        place = self.place(setting)
        code = self.run(**place, **told(story, setting), failpoints=failpoint)
        assert code in (0, KILLED), f"{failpoint}: {error_of(place)}"
        ledger = Ledger(place["ledger"])
        if code == 0:
            return False
        bury(place)
        with open_saver(here := {**place, "link": "pool"}) as saver:
            before = Checker(story, saver, ledger, setting.durability, plain).after_crash()
        seen = len(ledger.lines("ran"))
        crashes = 1
        if then:
            code = self.run(**place, **told(story, setting), failpoints=then)
            assert code in (0, KILLED), f"{failpoint}, then {then}: {error_of(place)}"
            crashes += 1
            bury(place)
        code = self.run(**place, **told(story, setting))
        assert code == 0, f"after {failpoint}: {error_of(place)}"
        with open_saver(here) as saver:
            Checker(story, saver, ledger, setting.durability, plain).at_end(crashes, before=before, seen_before=seen)
        return True

    def killed_in_prune(self, story: Story, setting: Setting, failpoint: str) -> int:
        """Kill a process that prunes a finished thread; gives how many checkpoints were left, all of them readable."""
        place = self.place(setting)
        assert self.run(**place, **told(story, setting)) == 0, error_of(place)
        with open_saver(place) as saver:
            before = shown_history(story, saver)
        code = self.run(**place, **told(story, setting), prune=2, failpoints=failpoint)
        assert code == KILLED, f"{failpoint}: {error_of(place)}"
        bury(place)
        with open_saver(place) as saver:
            assert saver.verify(THREAD).is_intact
            left = shown_history(story, saver)
        assert left == before[: len(left)]
        assert self.run(**place, **told(story, setting), prune=2) == 0, error_of(place)
        with open_saver(place) as saver:
            assert saver.verify(THREAD).is_intact
            assert shown_history(story, saver) == before[:2]
        return len(left)

    def points(self, story: Story, setting: Setting, names: str) -> list[str]:
        """`name=kill@n` for every time that one of `names` is passed."""
        passed, _ = self.uninterrupted(story, setting)
        return [f"{name}=kill@{n}" for name in names.split() for n in range(1, passed[name] + 1)]


def shown_history(story: Story, saver: Any) -> list[tuple[Any, ...]]:
    """Every checkpoint as a user sees it, newest first."""
    graph = story.build(Notes(), False).compile(checkpointer=saver)
    return [
        (
            one.config["configurable"]["checkpoint_id"],
            one.values,
            one.next,
            one.metadata,
            [task.id for task in one.tasks],
        )
        for one in graph.get_state_history(CONFIG)
    ]


def told(story: Story, setting: Setting) -> dict[str, Any]:
    return {
        "story": story.name,
        "durability": setting.durability,
        "is_async": setting.is_async,
    }


def error_of(place: dict[str, str]) -> str:
    path = Path(place["ledger"] + ".error")
    return path.read_text() if path.exists() else "the process hung, or died otherwise"


def story(name: str) -> Story:
    return BY_NAME[name]
