"""The workloads, one per file. Each has `ROWS`, and `measure(library)` that returns a figure for every row."""
