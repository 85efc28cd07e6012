"""The runner: starts workers, shows what they do, kills one if asked to, and answers the question.

python -m examples.report [FOLDER] [--yes] [--kill] [--model module:factory]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from examples.report.ledger import Entry, Ledger, finished_by, started_by

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Job:
    """What the user asked for."""

    folder: Path
    work: Path
    output: Path
    thread: str
    model: str | None
    pace: float

    def command(self, action: str, *more: str) -> list[str]:
        """The worker's command line for one leg."""
        common = ["--work", str(self.work), "--thread", self.thread, "--pace", str(self.pace)]
        common += ["--model", self.model] if self.model else []
        return [sys.executable, "-m", "examples.report.worker", action, *common, *more]


@dataclass(slots=True)
class Leg:
    """What one worker did: its process id, how it ended, and the question it asked, if any."""

    worker: int
    status: int = 0
    question: dict[str, Any] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    job = prepare(options)
    print(f"report on {job.folder}, thread {job.thread}, database {job.work / 'report.db'}")
    leg = work(job, "start", "--folder", str(job.folder), "--output", str(job.output), kill_after=options.kill_after)
    if leg.status == -signal.SIGKILL:
        leg = go_on(job, killed=leg)
    if leg.status == 0 and leg.question:
        answer = "yes" if options.yes else ask(leg.question)
        print(f"answer: {answer}")
        leg = work(job, "answer", "--answer", answer)
    if leg.status:
        print(f"the worker failed with status {leg.status}; the thread is kept: {job.thread}", file=sys.stderr)
        return 1
    print(f"\nwritten: {job.output}" if job.output.exists() else "\nnot approved, nothing written")
    return show_history(job)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.report", description="A durable report on a folder.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs", help="documents (default: docs/)")
    parser.add_argument("--work", type=Path, default=Path("clew-report"), help="where database and ledger go")
    parser.add_argument("--output", type=Path, help="the report's file (default: THREAD.md in the work folder)")
    parser.add_argument("--yes", action="store_true", help="approve without asking on the terminal")
    parser.add_argument("--kill", action="store_true", help="kill the worker (SIGKILL) in the middle, then resume")
    parser.add_argument("--kill-after", type=int, metavar="N", help="kill it once N documents are done (default: half)")
    parser.add_argument("--model", metavar="MODULE:FACTORY", help="a chat model in place of the extractive one")
    parser.add_argument("--pace", type=float, default=0.3, help="seconds the default model thinks (default: 0.3)")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    if options.kill and options.kill_after is None:
        options.kill_after = 0  # half of the documents, once the plan is known
    return options


def prepare(options: argparse.Namespace) -> Job:
    """The work folder, and a thread of its own for this run."""
    work_folder = options.work.resolve()
    work_folder.mkdir(parents=True, exist_ok=True)
    thread = f"report-{datetime.now():%Y%m%d-%H%M%S-%f}"
    output = (options.output or work_folder / f"{thread}.md").resolve()
    return Job(options.folder.resolve(), work_folder, output, thread, options.model, options.pace)


def work(job: Job, action: str, *more: str, kill_after: int | None = None) -> Leg:
    """Run one worker to its end, showing its progress; kill it once `kill_after` documents are done (0: half)."""
    with subprocess.Popen(job.command(action, *more), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        leg = Leg(process.pid)
        print(f"\nworker {process.pid}: {action}")
        done = 0
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "question":
                leg.question = event
                continue
            print(f"  {'✓' if event['event'] == 'done' else '·'} {describe(event)}", flush=True)
            if kill_after == 0 and event["what"] == "plan":
                kill_after = max(1, int(event["detail"].split()[0]) // 2)
            done += event["what"].startswith("summarise")
            if kill_after and done == kill_after:
                process.kill()
                print(f"  ✗ worker {process.pid} killed with SIGKILL", flush=True)
                break
    leg.status = process.returncode
    return leg


def describe(event: dict[str, Any]) -> str:
    detail = f" ({event['detail']})" if "detail" in event else ""
    return f"{event['what']}{detail}{'  kept from before' if event['event'] == 'kept' else ''}"


def go_on(job: Job, killed: Leg) -> Leg:
    """Resume in a new process, and say from the ledger what was not repeated."""
    leg = work(job, "continue")
    entries = Ledger(job.work / "ledger.jsonl").read()
    print(f"\nworker {killed.worker} was killed; the ledger says that worker {leg.worker}")
    for text, names in repetition(entries, killed, leg):
        print(f"  {text}:")
        for name in names or ["nothing"]:
            print(f"    {name}")
    return leg


def repetition(entries: list[Entry], killed: Leg, leg: Leg) -> list[tuple[str, list[str]]]:
    """What the second worker took over from the first, and what it had to do again."""
    started, finished = started_by(entries, killed.worker), finished_by(entries, killed.worker)
    now = set(started_by(entries, leg.worker))
    found = [
        ("did not repeat", [what for what in finished if what not in now]),
        ("ran again what had been cut off", [what for what in started if what in now and what not in finished]),
    ]
    # A node that was killed between its last line and its save is the one case where finished work is done again.
    unsaved = [what for what in finished if what in now]
    return [*found, ("ran again what had finished without being saved", unsaved)] if unsaved else found


def show_history(job: Job) -> int:
    """What the command line says about the thread."""
    arguments = ["history", "--thread", job.thread, "--db", str(job.work / "report.db")]
    print(f"\nclew {' '.join(arguments)}", flush=True)
    return subprocess.run([sys.executable, "-m", "clew.cli", *arguments]).returncode


def ask(question: dict[str, Any]) -> str:
    """Show the draft's beginning and read an answer from the terminal; no terminal means no."""
    print("\n" + "\n".join(f"  | {line}" for line in question["draft"].splitlines()[:12]) + "\n  | ...")
    try:
        return input(f"{question['question']} ({question['output']}) [yes/no] ")
    except EOFError:
        return "no"


if __name__ == "__main__":
    raise SystemExit(main())
