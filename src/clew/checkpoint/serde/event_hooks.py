"""Observing what the serializer refuses to restore."""

from clew.serde._watch import SerdeEvent, register_serde_event_listener

__all__ = ("SerdeEvent", "register_serde_event_listener")
