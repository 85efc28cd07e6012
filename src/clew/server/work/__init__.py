"""Runs at work: taken from the table by workers, executed, shown to whoever reads along."""
