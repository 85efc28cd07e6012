"""The engine decides; drivers wait.

Everything in here is pure: no I/O, no clock, no randomness, no threads. The loop is a generator that yields effects
(`clew.engine.effects`) and is sent events (`clew.engine.events`), so a test can feed it by hand, stop it after any
effect, and compare.
"""
