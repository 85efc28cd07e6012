"""What `import X.graph` costs a fresh interpreter, and a first graph: clew loads what runs it when it is compiled."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.library import Library
from benchmarks.measure import Faster, Row

ROUNDS = 5
ROWS = (
    Row("time", "import X.graph", "ms", Faster(8)),
    Row("modules", "modules loaded by it", "modules"),
    Row("compiled", "import X.graph, and a first graph built and compiled", "ms"),
)
PROGRAM = """
import sys, time
before, start = set(sys.modules), time.perf_counter()
import {prefix}.graph
elapsed, modules = time.perf_counter() - start, len(set(sys.modules) - before)
graph = {prefix}.graph.StateGraph(dict)
graph.add_node("node", lambda state: state)
graph.set_entry_point("node")
graph.compile()
print(elapsed, modules, time.perf_counter() - start)
"""


def measure(library: Library) -> dict[str, float]:
    program = PROGRAM.format(prefix=library.prefix)
    command = [sys.executable, "-c", program]
    # As installed packages: with bytecode, whatever this shell says. The first run may still have to write it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
            for _ in range(6)
        ]
    return {
        "time": statistics.median(float(elapsed) for elapsed, _, _ in runs[1:]) * 1e3,
        "modules": float(runs[-1][1]),
        "compiled": statistics.median(float(compiled) for *_, compiled in runs[1:]) * 1e3,
    }
