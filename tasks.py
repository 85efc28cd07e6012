"""The project's one task file: `python tasks.py TASK`, with nothing installed but Python 3.11.

Every task makes what it needs first: a virtual environment in `.venv` (by uv when it is present, else by venv and
pip) at the versions of `uv.lock`. Package indexes come from the environment's own pip or uv settings; none is named
here. `python tasks.py` alone lists the tasks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "clew-installed.json"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task has to have installed beside clew itself: extras of the package, and a dependency group."""

    extras: tuple[str, ...]
    group: str | None


DEMO = Needs(extras=("cli",), group=None)
BENCH = Needs(extras=("cli", "langchain", "postgres", "server"), group="bench")
DEV = Needs(extras=("all",), group="dev")
ORDER = (DEMO, BENCH, DEV)  # each one holds all of those before it


# --- the environment -------------------------------------------------------------------------------------------------


def prepare(needs: Needs) -> None:
    """Make `.venv` hold clew (editable) and `needs`; does nothing if that is so already."""
    wanted = {"inputs": fingerprint(), "level": ORDER.index(needs)}
    found = installed()
    if found["inputs"] == wanted["inputs"] and found["level"] >= wanted["level"]:
        return
    print(f"preparing {ENVIRONMENT.name} (once) ...", flush=True)
    uv = shutil.which("uv")
    if not ((uv and install_with_uv(uv, needs)) or install_with_pip(needs)):
        raise SystemExit("installing failed: see the messages above; pip's own settings say where packages come from")
    STAMP.write_text(json.dumps(wanted))


def fingerprint() -> str:
    """Changes when what has to be installed changes."""
    inputs = (ROOT / "pyproject.toml", ROOT / "uv.lock")
    parts = [path.read_bytes() for path in inputs if path.exists()]
    return hashlib.sha256(b"\0".join([sys.version.encode(), str(ROOT).encode(), *parts])).hexdigest()


def installed() -> dict[str, Any]:
    """What an earlier `prepare` left, or a level below every other."""
    try:
        return json.loads(STAMP.read_text()) if PYTHON.exists() else {"inputs": "", "level": -1}
    except (OSError, ValueError):
        return {"inputs": "", "level": -1}


def install_with_uv(uv: str, needs: Needs) -> bool:
    """Install the locked versions with uv; False if that did not work, and pip should try."""
    command = [uv, "sync", "--quiet", "--locked", "--no-default-groups", "--python", sys.executable]
    command += [option for extra in needs.extras for option in ("--extra", extra)]
    command += ["--group", needs.group] if needs.group else []
    # Another active environment must not be the one that uv writes to.
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT)}
    environment.pop("VIRTUAL_ENV", None)
    if subprocess.run(command, cwd=ROOT, env=environment).returncode == 0:
        return True
    print("uv could not install the locked versions; trying pip", flush=True)
    return False


def install_with_pip(needs: Needs) -> bool:
    """Install with venv and pip, at the locked versions where the index has them."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    requirements = ["--editable", f".[{','.join(needs.extras)}]", *(group(needs.group) if needs.group else ())]
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements]
    constraints = ENVIRONMENT / "constraints.txt"
    constraints.write_text("\n".join(locked_versions()) + "\n")
    if subprocess.run([*pip, "--constraint", str(constraints)], cwd=ROOT).returncode == 0:
        return True
    print("the locked versions could not be installed; taking what the index offers", flush=True)
    return subprocess.run(pip, cwd=ROOT).returncode == 0


def group(name: str) -> list[str]:
    """The requirements of a dependency group of pyproject.toml, with the groups it includes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    found: list[str] = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else group(entry["include-group"])
    return found


def locked_versions() -> list[str]:
    """`name==version` for every package that uv.lock has at one version (a few differ between Pythons)."""
    lock = ROOT / "uv.lock"
    packages: list[dict[str, Any]] = tomllib.loads(lock.read_text())["package"] if lock.exists() else []
    versions: dict[str, list[str]] = {}
    for package in packages:
        if "registry" in package["source"]:
            versions.setdefault(package["name"], []).append(package["version"])
    return [f"{name}=={found[0]}" for name, found in versions.items() if len(found) == 1]


# --- the tasks -------------------------------------------------------------------------------------------------------


def run(*command: str) -> None:
    """Run a command of the environment in the project's folder; a failure ends this program with its exit status."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if status:
        raise SystemExit(status)


def demo(arguments: Sequence[str]) -> None:
    """The main job: a report over docs/, its worker killed in the middle, resumed, and the thread's history."""
    prepare(DEMO)
    run(str(PYTHON), "-m", "examples.report", "--yes", "--kill", *arguments)


def test(arguments: Sequence[str]) -> None:
    """The test suite; further arguments go to pytest."""
    prepare(DEV)
    run(str(PYTHON), "-m", "pytest", "-n", "2", *arguments)


def nightly(arguments: Sequence[str]) -> None:
    """The test suite with the tests marked `long`."""
    prepare(DEV)
    run(str(PYTHON), "-m", "pytest", "-n", "2", "-m", "long or not long", *arguments)


def lint(arguments: Sequence[str]) -> None:
    """ruff: rules and format."""
    prepare(DEV)
    run(str(PYTHON), "-m", "ruff", "check", *arguments)
    run(str(PYTHON), "-m", "ruff", "format", "--check", *arguments)


def format_code(arguments: Sequence[str]) -> None:
    """ruff: rewrite the files in the project's format."""
    prepare(DEV)
    run(str(PYTHON), "-m", "ruff", "check", "--fix", *arguments)
    run(str(PYTHON), "-m", "ruff", "format", *arguments)


def types(arguments: Sequence[str]) -> None:
    """basedpyright, strict on src."""
    prepare(DEV)
    run(str(PYTHON), "-m", "basedpyright", *arguments)


def floors(_arguments: Sequence[str]) -> None:
    """import-linter: each floor imports only downward."""
    prepare(DEV)
    run(str(BIN / "lint-imports"))


def check(arguments: Sequence[str]) -> None:
    """What CI runs: lint, types, floors, then the test suite."""
    lint([])
    types([])
    floors([])
    test(arguments)


def bench(arguments: Sequence[str]) -> None:
    """clew and its peer on the same work in one run, as a table; `--help` lists the options."""
    prepare(BENCH)
    run(str(PYTHON), "-m", "benchmarks", *arguments)


def reference(_arguments: Sequence[str]) -> None:
    """Write the API reference in docs/reference from docstrings, signatures and the service's routes."""
    prepare(DEV)
    run(str(PYTHON), "-m", "tools.reference")


TASKS: dict[str, Callable[[Sequence[str]], None]] = {
    "demo": demo,
    "test": test,
    "check": check,
    "lint": lint,
    "format": format_code,
    "types": types,
    "floors": floors,
    "bench": bench,
    "nightly": nightly,
    "reference": reference,
}


def main(arguments: Sequence[str]) -> None:
    """Run the task named first, with the other arguments."""
    if not arguments or arguments[0] not in TASKS:
        listing = "\n".join(f"  {name:9} {task.__doc__}" for name, task in TASKS.items())
        print(f"usage: python tasks.py TASK [ARGUMENTS]\n\n{listing}")
        raise SystemExit(0 if not arguments or arguments[0] in {"-h", "--help", "help"} else 2)
    TASKS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the message for those who run it with an older one
        raise SystemExit("clew needs Python 3.11 or newer")
    main(sys.argv[1:])
