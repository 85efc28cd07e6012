"""The field's protocol for streaming whole threads (langchain-protocol, "v3"): commands, channels, events.

A run that was started by a command records what its channels need, each event as it is sent: `record` says what the
engine's chunks become, `events` how what was recorded is shown. Both are functions of what they are given, so that
a replay gives the same events under the same numbers, on whatever replica it is asked for.
"""
