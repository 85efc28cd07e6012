"""The log: where checkpoints are kept, on any backend.

Rules are generators over named queries (`log`, `history`, `upkeep`); backends (`memory`, `sqlite`) only answer queries
and hold transactions, so that what is true of a thread is written once.
"""
