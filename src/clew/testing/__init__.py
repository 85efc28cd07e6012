"""Conformance kits for savers and stores: what clew promises, as checks that any implementation can run.

A subclass of a kit named `Test...` is a set of pytest tests; `check(Kit)` runs the same checks without pytest.
"""

from __future__ import annotations

from clew.testing._kit import ConformanceError, Opener, Report, check
from clew.testing._savers.face import FaceChecks
from clew.testing._savers.fence import FenceChecks
from clew.testing._savers.lasting import LastingChecks
from clew.testing._savers.log import LogChecks
from clew.testing._stores import StoreConformance

__all__ = ("ConformanceError", "Opener", "Report", "SaverConformance", "StoreConformance", "check")


class SaverConformance(LogChecks, FenceChecks, FaceChecks, LastingChecks):
    """What a saver promises: `clew.protocols.Saver` for runs, and the methods that address checkpoints by id.

    Implement `opener` (or `open`) and `stored_bytes`, and say what the saver cannot do: `is_durable`, `has_tenants`,
    `has_size`. Every check has a storage of its own; `storage` makes and removes it.
    """
