"""clew: the durable runtime for stateful agents in Python."""

__version__ = "0.1.0"
