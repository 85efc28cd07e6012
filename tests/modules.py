"""Modules that a test writes and imports, forgotten after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test writes and imports, adds to the path of imports and sets in the environment is undone."""
    before, environment = set(sys.modules), dict(os.environ)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    written = str(tmp_path_factory.getbasetemp())  # a library that was imported twice would have each class twice
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(place is not None and place.startswith(written) for place in places):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(environment)
