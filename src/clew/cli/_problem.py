"""What the command line itself refuses."""

from __future__ import annotations

from clew.errors import ClewError


class CommandError(ClewError):
    """A command was given something it cannot work with; nothing was changed."""
