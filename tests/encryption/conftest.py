"""One storage per backend, so that every fact is shown on all of them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.encryption.backends import Backend, backend_named


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Backend]:
    with backend_named(request.param, request, tmp_path) as opened:
        yield opened
