"""Background jobs of the service, each done by one replica at a time."""

from clew.server.duties.duties import Duties
from clew.server.duties.settings import DutySettings

__all__ = ("Duties", "DutySettings")
