"""Drivers: the only code that waits on nodes.

They perform the engine's effects and report events; they have no rules about graphs.
"""
