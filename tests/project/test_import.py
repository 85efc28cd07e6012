"""What importing clew costs and loads: import time is a feature."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("langchain_core", "pydantic", "numpy", "sqlite3", "typer", "rich", "psycopg", "fastapi", "langgraph")
PROGRAM = """
import json, sys
before = set(sys.modules)
import {module}
loaded = set(sys.modules) - before
print(json.dumps(sorted(loaded)))
"""


def loaded_by(module: str) -> list[str]:
    program = [sys.executable, "-c", PROGRAM.format(module=module)]
    return json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("module", ["clew.graph", "clew.types", "clew.func", "clew.checkpoint.memory"])
def test_import_loads_no_heavy_package(module: str) -> None:
    loaded = {name.partition(".")[0] for name in loaded_by(module)}

    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("module", ["clew.checkpoint.memory", "clew.checkpoint.sqlite", "clew.threads"])
def test_a_program_that_has_no_event_loop_loads_none(module: str) -> None:
    assert "asyncio" not in loaded_by(module)


def test_importing_the_graph_module_loads_few_modules() -> None:
    # The field's standard loads about 1,000. Counted rather than timed, since a busy machine has slow clocks.
    assert len(loaded_by("clew.graph")) < 130
