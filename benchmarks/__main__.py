"""`python tasks.py bench`: clew and its peer on the same work, as a table."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sqlite3
import sys
from importlib.metadata import version

from benchmarks.library import CLEW, LIBRARIES, Library
from benchmarks.run import NAMES, Result, profile, run, surroundings, workload
from benchmarks.table import table

ALONE = ("threads", "service")  # with options and tables of their own


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in ALONE:
        importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python tasks.py bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which ones (default: all): {', '.join(NAMES)}; or one of {', '.join(ALONE)}",
    )
    parser.add_argument("--rounds", type=int, help="how often each library is measured (default: as each one asks)")
    parser.add_argument("--json", action="store_true", help="print the figures instead of the table")
    parser.add_argument("--profile", metavar="NAME", choices=NAMES, help="profile one of them in this process")
    parser.add_argument("--library", choices=LIBRARIES, default=CLEW, help="which library --profile looks at")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "LIBRARY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    if options.measure:
        name, prefix = options.measure
        print(json.dumps(workload(name).measure(Library(prefix))))
    elif options.profile:
        profile(options.profile, options.library)
    else:
        report(options.names or NAMES, options.rounds, as_json=options.json)


def report(names: list[str] | tuple[str, ...], rounds: int | None, *, as_json: bool) -> None:
    results: list[Result] = []
    with surroundings(*names) as server:
        for name in names:
            print(f"measuring {name} ...", flush=True)
            results.append(run(name, rounds))
    if as_json:
        print(json.dumps({result.name: result.figures for result in results}, indent=2))
        return
    versions = f"langgraph {version('langgraph')}, clew {version('clew')}"
    databases = ", ".join([f"SQLite {sqlite3.sqlite_version}", *filter(None, [server])])
    print(f"\nPython {platform.python_version()}, {databases}, {versions}; medians, in turn.\n")
    print(table(results))


main()
