"""The command line reads and writes an encrypted database with the keys in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Clew, app, clew  # noqa: F401 - fixtures
from tests.encryption.backends import KEY, OTHER_KEY


def test_commands_use_the_keys_in_the_environment(
    clew: Clew,  # noqa: F811
    app: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CLEW_ENCRYPTION_KEYS", f"2026-11:{KEY.hex()}")
    run = clew("run", f"{app}:question", "--thread", "t", "--input", '{"lines": ["SECRET-input"]}')

    assert run.status == 0, run.err
    assert b"SECRET" not in b"".join(file.read_bytes() for file in tmp_path.glob("clew.db*"))
    assert "SECRET-input" in clew("state", "--thread", "t").out
    assert "input" in clew("history", "--thread", "t").out
    assert clew("doctor").status == 0
    assert clew("resume", f"{app}:question", "--thread", "t", "--answer", "tea").status == 0

    monkeypatch.delenv("CLEW_ENCRYPTION_KEYS")
    without = clew("state", "--thread", "t")
    assert without.status == 1
    assert "is encrypted with key '2026-11', and no key was given" in " ".join(without.err.split())
    assert clew("threads").status == 0, "names of threads are not encrypted"
    assert clew("doctor").status == 1

    monkeypatch.setenv("CLEW_ENCRYPTION_KEYS", f"2026-12:{OTHER_KEY.hex()} 2026-11:{KEY.hex()}")
    assert "answered tea" in clew("state", "--thread", "t").out
