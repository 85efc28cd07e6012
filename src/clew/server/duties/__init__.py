"""Background jobs of the service, each done by one replica at a time."""

from clew.server.duties.duties import Duties, DutySettings

__all__ = ("Duties", "DutySettings")
