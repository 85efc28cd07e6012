"""What every test shares: property tests that try the same examples in every run.

`CLEW_EXPLORE=1` lets Hypothesis look for new examples instead; what it finds becomes a test of its own.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.postgres import database, own_server, postgres_database, postgres_saver, server  # noqa: F401 - fixtures

settings.register_profile("always-the-same", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("CLEW_EXPLORE") else "always-the-same")
