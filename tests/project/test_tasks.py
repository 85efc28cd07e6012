"""The task file: what it lists, what it refuses, and that the lock file names no machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import tasks

ROOT = Path(tasks.__file__).parent


def run_tasks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "tasks.py"), *arguments], capture_output=True, text=True)


def test_every_task_is_listed_with_what_it_does() -> None:
    result = run_tasks()

    assert result.returncode == 0
    for name, task in tasks.TASKS.items():
        assert f"  {name:9} {task.__doc__}" in result.stdout


def test_unknown_task_is_refused_with_the_listing() -> None:
    result = run_tasks("tset")

    assert result.returncode == 2
    assert result.stdout.startswith("usage: python tasks.py TASK")


def test_groups_include_the_groups_they_name() -> None:
    assert set(tasks.group("bench")) < set(tasks.group("dev"))


def test_lock_file_pins_every_core_dependency() -> None:
    locked = {version.split("==")[0] for version in tasks.locked_versions()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    core = {re.split(r"[<>=\[; ]", requirement)[0] for requirement in project["dependencies"]}
    assert core <= locked


def test_lock_file_names_only_the_public_index() -> None:
    lock = (ROOT / "uv.lock").read_text()

    assert set(re.findall(r'registry = "([^"]*)"', lock)) == {"https://pypi.org/simple"}
    assert set(re.findall(r'url = "(https?://[^/]*)', lock)) == {"https://files.pythonhosted.org"}
    assert "file:" not in lock
    assert re.findall(r'(?:path|directory) = "([^"]*)"', lock) == []
