"""Running the workloads: each measurement in a process of its own, the libraries in turn, medians at the end."""

from __future__ import annotations

import cProfile
import importlib
import json
import pstats
import statistics
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from benchmarks.library import LIBRARIES, Library

NAMES = ("imports", "chain", "loop", "send", "memory", "sqlite", "chat", "pgchat", "pglong", "pgfan", "pgstore")
ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "benchmarks" / "profiles"

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds, by library and then by row."""

    name: str
    figures: dict[str, Figures]


def workload(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.work.{name}")


def run(name: str, rounds: int | None = None) -> Result:
    """Measure both libraries `rounds` times in turn (by default as often as the workload asks)."""
    measured: dict[str, list[Figures]] = {prefix: [] for prefix in LIBRARIES}
    with surroundings(name):
        for number in range(rounds or workload(name).ROUNDS):
            order = LIBRARIES if number % 2 == 0 else LIBRARIES[::-1]
            for prefix in order:
                measured[prefix].append(measure_apart(name, prefix))
    return Result(name, {prefix: medians(found) for prefix, found in measured.items()})


def surroundings(*names: str) -> AbstractContextManager[str]:
    """What has to run beside the workloads: a database server, if they need one. Gives what it is, in words."""
    if not any(getattr(workload(name), "POSTGRES", False) for name in names):
        return nullcontext("")
    from benchmarks import postgres  # not needed by the others

    return postgres.server()


def medians(rounds: list[Figures]) -> Figures:
    return {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}


def measure_apart(name: str, prefix: str) -> Figures:
    """One measurement in a fresh interpreter."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "--measure", name, prefix]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f"benchmark {name!r} failed with {prefix} (its message is above)")
    return json.loads(result.stdout.splitlines()[-1])


def profile(name: str, prefix: str) -> None:
    """Run one workload under cProfile in this process; print the dearest functions and keep the profile."""
    module, library = workload(name), Library(prefix)
    recorder = cProfile.Profile()
    with surroundings(name):
        if module.ROUNDS > 1:
            module.measure(library)  # so that imports and first calls are not what is seen; a long one has few of them
        recorder.runcall(module.measure, library)
    PROFILES.mkdir(exist_ok=True)
    path = PROFILES / f"{name}-{prefix}.prof"
    recorder.dump_stats(path)
    pstats.Stats(recorder).sort_stats("tottime").print_stats(40)
    print(f"kept in {path.relative_to(ROOT)}")
