"""`python -m benchmarks service`: clew's service and its peers, over HTTP, on the same graph.

`--setup` makes an environment for each peer, once; one that is missing is named in the table and not measured.
"""

from __future__ import annotations


def main(arguments: list[str]) -> None:
    """Measure and print."""
    from benchmarks.service.report import main as run  # late: `benchmarks.threads` needs the graph alone

    run(arguments)
