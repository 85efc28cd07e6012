"""The services that are compared: how each is installed, started and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import postgres
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
_PATIENCE = 60  # seconds until a server has answered its first run


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has answered its first run. `started` is how many seconds after the start of its process it
    answered at all, `first_run` how long the first run took."""

    port: int
    pid: int
    database_pid: int | None
    started: float
    first_run: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """One service. `packages` are what its environment needs (none: this one), `start` gives its command."""

    name: str
    packages: tuple[str, ...]
    needs_database: bool
    start: Callable[[Path, int, str], tuple[list[str], dict[str, str]]]

    @property
    def environment(self) -> Path:
        return PEERS / self.name.split()[0].rstrip(",")

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python" if self.packages else Path(sys.executable)

    @property
    def is_installed(self) -> bool:
        return self.python.exists()

    @property
    def label(self) -> str:
        if not self.packages:
            return self.name
        return f"{self.name} {self._version()}" if self.is_installed else self.name

    def _version(self) -> str:
        package = "langgraph-api" if "inmem" in self.packages[0] else self.packages[0]
        found = metadata.distributions(path=[str(path) for path in self.environment.glob("lib/*/site-packages")])
        return next((each.version for each in found if each.metadata["Name"] == package), "")

    def install(self) -> None:
        """Make the environment, once."""
        if not self.packages or self.is_installed:
            return
        uv = shutil.which("uv")
        if uv:
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(self.environment)], check=True)
            installer = [uv, "pip", "install", "--quiet", "--python", str(self.python)]
        else:
            subprocess.run([sys.executable, "-m", "venv", str(self.environment)], check=True)
            installer = [str(self.python), "-m", "pip", "install", "--quiet"]
        if subprocess.run([*installer, *self.packages]).returncode:
            shutil.rmtree(self.environment)
            print(f"{self.name} cannot be installed here")

    def megabytes(self) -> float:
        """What installing it takes on disk."""
        if self.packages:
            return sum(file.stat().st_size for file in self.environment.rglob("*") if file.is_file()) / 1e6
        return _own_bytes(("server", "postgres") if self.needs_database else ("server",)) / 1e6

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        """The server, from its start to its end."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clew-service-")))
            place = stack.enter_context(postgres.database()).near if self.needs_database else str(folder / "threads.db")
            port = free_port()
            command, settings = self.start(folder, port, place)
            environment = {**os.environ, **settings}
            log = stack.enter_context((folder / "log.txt").open("w+"))
            begun = time.perf_counter()
            process = subprocess.Popen(
                [str(self.python), *command],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_stop, process)
            times = _first_answer(process, port, begun, folder / "log.txt")
            yield Running(port, process.pid, postgres.server_pid(place) if self.needs_database else None, *times)


def _stop(process: subprocess.Popen[Any]) -> None:
    """End a server and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def _first_answer(process: subprocess.Popen[Any], port: int, begun: float, log: Path) -> tuple[float, float]:
    """Wait until a run was answered; seconds from `begun` to the first answer of all, and for the run."""
    body = json.dumps({"assistant_id": "agent", "input": {"text": "hello"}})
    last: object = None
    while time.perf_counter() - begun < _PATIENCE and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        try:
            connection.request("POST", "/threads", "{}", {"content-type": "application/json"})
            thread = json.loads(connection.getresponse().read())["thread_id"]
            started = time.perf_counter()
            path = f"/threads/{thread}/runs/wait"
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            last = answer.status, answer.read()
            if answer.status == 200:
                return started - begun, time.perf_counter() - started
            break
        except (OSError, KeyError, ValueError) as error:
            last = error
            time.sleep(0.005)
        finally:
            connection.close()
    raise RuntimeError(f"no run was answered ({last!r}); the end of the log:\n{log.read_text()[-1500:]}")


def _own_bytes(extras: tuple[str, ...]) -> int:
    """The size of clew and of all that its extras install, as they are in this environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    sizes: dict[str, int] = {}
    while wanted:
        name, chosen = _requirement(wanted.pop())
        if name is None or (name in sizes and not chosen):
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform
        if name not in sizes:
            files = found.files or []
            sizes[name] = sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
        for each in found.requires or []:
            marker = each.partition(";")[2]
            if "extra" not in marker or any(f"'{extra}'" in marker or f'"{extra}"' in marker for extra in chosen):
                wanted.append(each)
    own = sum(file.stat().st_size for file in (ROOT / "src").rglob("*") if file.suffix in (".py", ".sql", ".pyi"))
    return own + sum(sizes.values())


def _requirement(text: str) -> tuple[str | None, list[str]]:
    """The package of a requirement, and which extras of it; None where it is for another Python."""
    named = text.partition(";")[0]
    bare = named.split("[")[0]
    for sign in "<>=!~ (":
        bare = bare.split(sign)[0]
    extras = named.partition("[")[2].partition("]")[0].split(",") if "[" in named else []
    return bare.strip().lower().replace("_", "-") or None, [each.strip() for each in extras if each.strip()]


def _clew(folder: Path, port: int, place: str) -> tuple[list[str], dict[str, str]]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return ["-m", "benchmarks.service.clew_server", str(port), place], {"PYTHONPATH": path}


def _project(folder: Path, config: str, graphs: dict[str, str]) -> None:
    """A project of a peer: its configuration, and the graph."""
    shutil.copy(Path(__file__).with_name("graph.py"), folder / "trivial_graph.py")
    module = 'from trivial_graph import trivial\n\ngraph = trivial("langgraph").compile()\n'
    (folder / "agent.py").write_text(f"import sys\n\nsys.path.insert(0, {str(folder)!r})\n{module}")
    (folder / config).write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))


def _dev(folder: Path, port: int, place: str) -> tuple[list[str], dict[str, str]]:
    _project(folder, "langgraph.json", {"agent": "./agent.py:graph"})
    command = [
        "-c",
        "from langgraph_cli.cli import cli; cli()",
        "dev",
        "--no-browser",
        "--no-reload",
        "--port",
        str(port),
    ]
    return [*command, "--server-log-level", "error"], {"LANGSMITH_TRACING": "false", "PYTHONPATH": ""}


def _aegra(folder: Path, port: int, place: str) -> tuple[list[str], dict[str, str]]:
    _project(folder, "aegra.json", {"agent": "./agent.py:graph"})
    command = ["-m", "uvicorn", "aegra_api.main:app", "--host", "127.0.0.1", "--port", str(port)]
    settings = {"DATABASE_URL": postgres.url(place), "LOG_LEVEL": "ERROR", "PYTHONPATH": "", "PORT": str(port)}
    return [*command, "--log-level", "error"], {**settings, "AEGRA_CONFIG": str(folder / "aegra.json")}


CONTESTANTS = (
    Contestant("clew, SQLite", (), False, _clew),
    Contestant("clew, PostgreSQL", (), True, _clew),
    Contestant("langgraph-dev", ("langgraph-cli[inmem]",), False, _dev),
    Contestant("aegra, PostgreSQL", ("aegra-api", "sqlalchemy[asyncio]"), True, _aegra),
)
