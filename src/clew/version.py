"""The installed version of clew."""

from __future__ import annotations

from clew import __version__

__all__ = ("__version__",)
