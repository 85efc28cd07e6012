"""`clew dev`: started again when files change, and gone when it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from clew.cli._supervise import changed, snapshot
from tests.server.processes import AGENT, get, process, wait_until

WEBAPP = """
import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/who")
def who():
    return {"pid": os.getpid(), "word": "WORD"}
"""


def project(folder: Path) -> None:
    (folder / "agent.py").write_text(AGENT)
    (folder / "webapp.py").write_text(WEBAPP)
    config = {"graphs": {"agent": "./agent.py:graph"}, "http": {"app": "./webapp.py:app"}}
    (folder / "langgraph.json").write_text(json.dumps(config))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_starts_again_when_files_change(tmp_path: Path) -> None:
    project(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(tmp_path, "dev", "--port", str(port)) as served:
            assert served.child.stdout is not None
            printed = [served.child.stdout.readline().split() for _ in range(4)]
            url = served.serving()
            first = get(f"{url}/who").json()

            (tmp_path / "webapp.py").write_text("def (")
            assert served.child.stderr is not None
            while "SyntaxError" not in served.child.stderr.readline():
                pass
            (tmp_path / "webapp.py").write_text(WEBAPP.replace("WORD", "mended"))
            served.serving()
            second = get(f"{url}/who").json()

            served.signal(signal.SIGINT)
            assert served.ended()[0] == 0

    assert url.startswith("http://127.0.0.1:")
    assert port < int(url.rpartition(":")[2]) <= port + 50
    assert printed == [
        ["API", url],
        ["docs", f"{url}/docs"],
        ["chat", f"https://agentchat.vercel.app/?apiUrl={url}"],
        ["studio", f"https://smith.langchain.com/studio/?baseUrl={url}"],
    ]
    assert (first["word"], second["word"]) == ("WORD", "mended")
    assert first["pid"] != second["pid"]
    assert not is_running(first["pid"])
    assert not is_running(second["pid"])
    assert (tmp_path / "clew.db").exists()


@pytest.mark.long
def test_the_service_ends_with_its_supervisor(tmp_path: Path) -> None:
    project(tmp_path)
    with process(tmp_path, "serve", "--reload", "--port", "0") as served:
        pid = get(f"{served.serving()}/who").json()["pid"]
        served.signal(signal.SIGKILL)

        try:
            wait_until(lambda: not is_running(pid))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.ConnectError):
            get(f"{served.url}/ok")


@pytest.mark.long
def test_what_no_change_helps_ends_it(tmp_path: Path) -> None:
    project(tmp_path)
    with process(tmp_path, "dev", "--host", "0.0.0.0", "--port", "0") as refused:
        status, _, err = refused.ended()

    assert status == 1
    assert err.startswith("error: a service without authentication does not listen on '0.0.0.0'")


def test_files_of_others_are_not_watched(tmp_path: Path) -> None:
    for path in ("agent.py", "src/tools.py", "langgraph.json", ".env", "notes.md", "clew.db"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    for path in (".git/hook.py", "__pycache__/x.py", "node_modules/x/x.json", "venv/x.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    before = snapshot([tmp_path])

    (tmp_path / "src" / "tools.py").write_text("word = 1")
    (tmp_path / "langgraph.json").unlink()
    (tmp_path / "new.py").touch()

    names = {Path(path).name for path in before}
    assert names == {"agent.py", "tools.py", "langgraph.json", ".env"}
    assert changed(before, snapshot([tmp_path])) == ["langgraph.json", "new.py", "tools.py"]
