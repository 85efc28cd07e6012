"""Running the services in turn, and the tables of what came of it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import postgres
from benchmarks.service.load import CLIENTS, OPERATIONS
from benchmarks.service.servers import CONTESTANTS, ROOT, Contestant

Figures = dict[str, dict[str, float]]
GOALS = {  # of clew on PostgreSQL: at least so many requests per second, or at most so many ms
    ("runs/wait", 1): "200 /s, 5 ms",
    ("runs/wait", 16): "400 /s",
    ("runs/wait", 64): "400 /s, p99 500 ms",
    ("runs/stream", 1): "first 5 ms",
    ("GET state", 16): "1,000 /s",
    ("POST history (10)", 16): "1,000 /s",
    ("POST search (10)", 16): "1,000 /s",
}


def main(arguments: list[str]) -> None:
    names = [each.name for each in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks service", description=__doc__)
    parser.add_argument("--setup", action="store_true", help="only make the peers' environments, once")
    parser.add_argument("--rounds", type=int, default=3, help="how often each service is measured, in turn")
    parser.add_argument("--seconds", type=float, default=0.8, help="how long each operation is asked for")
    parser.add_argument("--only", choices=names, action="append", help="measure just this one (may be repeated)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file, too")
    options = parser.parse_args(arguments)
    chosen = [each for each in CONTESTANTS if each.name in (options.only or names)]
    if options.setup:
        for each in chosen:
            each.install()
        return
    missing = [each.name for each in chosen if not each.is_installed]
    with postgres.server(with_uuids=True) as version:
        found = rounds([each for each in chosen if each.is_installed], options.rounds, options.seconds)
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} cores, {version}; one server process each, medians.")
    for name in missing:
        print(f"{name} is not installed, and was not measured (--setup installs it).")
    print(f"\n{table(found)}\n\n{summary(found)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"missing": missing, "figures": found}, file, indent=2)


def rounds(chosen: Sequence[Contestant], count: int, seconds: float) -> dict[str, Figures]:
    """The medians of each service; they take turns, so that what else the machine does hits all."""
    measured: dict[str, list[Figures]] = {each.label: [] for each in chosen}
    for number in range(count):
        for each in chosen if number % 2 == 0 else chosen[::-1]:
            print(f"round {number + 1}: {each.label} ...", file=sys.stderr, flush=True)
            try:
                measured[each.label].append(measured_once(each, seconds))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{each.label} failed: {error}", file=sys.stderr, flush=True)
    return {label: medians(found) for label, found in measured.items() if found}


def measured_once(contestant: Contestant, seconds: float) -> Figures:
    """One server from its start to its end."""
    with contestant.running() as server:
        command = [sys.executable, "-m", "benchmarks.service.load", str(server.port), str(server.pid)]
        command += [str(server.database_pid)] if server.database_pid else []
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        result = subprocess.run(
            [*command, "--seconds", str(seconds)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures: Figures = json.loads(result.stdout)
        figures["start"] = {"started_ms": server.started * 1e3, "first_run_ms": server.first_run * 1e3}
        figures["start"]["installed_mb"] = contestant.megabytes()
    return figures


def medians(measured: Sequence[Figures]) -> Figures:
    return {
        row: {key: statistics.median(each[row][key] for each in measured) for key in figures}
        for row, figures in measured[0].items()
    }


def table(found: dict[str, Figures]) -> str:
    """Requests per second, latencies, and processor time, of each operation by each number of clients."""
    lines = [
        f"| requests/s, p50 / p99 ms, CPU ms | {' | '.join(found)} | goal |",
        "|---|" + "---:|" * len(found) + "---|",
    ]
    for name in OPERATIONS:
        for count in CLIENTS:
            row = f"{name}, {count}"
            cells = " | ".join(cell(figures[row], name) for figures in found.values())
            lines.append(
                f"| {name}, {count} client{'s' if count > 1 else ''} | {cells} | {GOALS.get((name, count), '')} |"
            )
    return "\n".join(lines)


def cell(figures: dict[str, Any], name: str) -> str:
    said = f"**{number(figures['per_second'])}**, {number(figures['p50'])} / {number(figures['p99'])}"
    said += f", {number(figures['server_cpu'])}"
    if figures["database_cpu"]:
        said += f" + {number(figures['database_cpu'])}"
    if name == "runs/stream":
        said += f", first {number(figures['first'])}"
    return f"{said} ({figures['failed']:.0f} failed)" if figures["failed"] else said


def summary(found: dict[str, Figures]) -> str:
    """What each server takes to install, to start, and to keep."""
    lines = [f"| | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for label, row, key in (
        ("installed, MB", "start", "installed_mb"),
        ("from the start of the process to the first answer, ms", "start", "started_ms"),
        ("the first run, ms", "start", "first_run_ms"),
        ("memory at the end, MB", "memory", "resident_mb"),
        ("processor time of the load per request (GET state, 16 clients), ms", "GET state, 16", "client_cpu"),
    ):
        lines.append(f"| {label} | {' | '.join(number(figures[row][key]) for figures in found.values())} |")
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
