"""Savers: where the checkpoints of threads are kept."""
